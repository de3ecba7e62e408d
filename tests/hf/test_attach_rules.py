from __future__ import annotations

import inspect

import pytest
import torch
from tests.hf.families import IMAGE, Inputs, model_of

import leanseg
from leanseg import Grid, attach
from leanseg.errors import AttachError, SpecError
from leanseg.hf import LAYOUTS, Layout, Piece, square
from leanseg.hf.layouts import find
from leanseg.hf.masks import shortened
from leanseg.hf.pieces import items_by_row

ROW = [[3, "image", 4]]
ROWS = [[3, "image", 4], [5, "image", 2, "image", 6]]
HALF = "random(keep_ratio=0.5)"


def run(model, inputs, **more):
    with torch.no_grad():
        return model(**inputs, **more).logits


def state_of(model):
    """Everything that an attachment could leave behind: hooks, forwards, configurations."""
    found = {}
    for name, module in model.named_modules():
        hooks = [dict(getattr(module, kind)) for kind in vars(module) if kind.endswith("_hooks")]
        own = {key for key in vars(module) if key in ("forward", "get_image_features", "get_video_features")}
        found[name] = (hooks, own, id(vars(module).get("config")), type(module).forward)
    return found


@pytest.mark.parametrize("spec", [HALF, "by_attention", "language", "before"])
@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "paligemma"])
def test_nothing_is_left_behind_also_after_an_exception(family, spec):
    from tests.hf.methods import ByAttention, ByLanguage

    model, inputs = model_of(family), Inputs(family, ROW).make()
    methods = {"by_attention": ByAttention(keep_ratio=0.5), "language": ByLanguage(keep_ratio=0.5)}
    pruner, options = methods.get(spec, HALF), {}
    if spec == "before":
        if not LAYOUTS[family].before_projector:
            return
        options = {"site": "before_projector"}
    plain = run(model, inputs)
    before = state_of(model)  # after a first run, in which transformers installs hooks of its own
    with attach(model, pruner, **options):
        assert state_of(model) != before
        run(model, inputs)
    assert state_of(model) == before
    with pytest.raises(ZeroDivisionError), attach(model, pruner, **options):
        run(model, inputs)
        raise ZeroDivisionError
    assert state_of(model) == before
    broken = {**inputs, "input_ids": inputs["input_ids"].float()}
    with pytest.raises(Exception, match=r"."), attach(model, pruner, **options):
        run(model, broken)
    assert state_of(model) == before
    assert torch.equal(run(model, inputs), plain)


def test_a_model_is_attached_once_at_a_time():
    model = model_of("llava")
    with attach(model, HALF):
        with (
            pytest.raises(AttachError, match="attached to this LlavaModel already; leave the other"),
            attach(model, HALF),
        ):
            pass
        with pytest.raises(AttachError, match="already"), attach(model.model, HALF):
            pass
    with attach(model, HALF):
        pass


def test_text_alone_passes_untouched():
    model, inputs = model_of("llava"), Inputs("llava", [[7], [5]]).make()
    plain, tokens = run(model, inputs), model.generate(**inputs, max_new_tokens=3, do_sample=False)
    with attach(model, HALF) as trace:
        assert torch.equal(run(model, inputs), plain)
        assert torch.equal(model.generate(**inputs, max_new_tokens=3, do_sample=False), tokens)
        assert trace.n_passes == 0
        with pytest.raises(AttachError, match="nothing was pruned yet"):
            trace.gather(plain)


def test_a_row_without_pictures_in_a_batch_stays_whole():
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4], [9]]).make()
    with attach(model, HALF) as trace:
        logits = run(model, inputs)
    assert trace.length_after == 15 and (trace.kept[1] >= 0).sum() == 9
    alone = run(model, {name: inputs[name][1:, -9:] for name in ("input_ids", "attention_mask")})
    torch.testing.assert_close(logits[1, -9:], alone[0], atol=1e-5, rtol=1e-4)


def test_the_inner_model_and_positional_arguments_work_too():
    model, inputs = model_of("llava"), Inputs("llava", ROW).make()
    with torch.no_grad(), attach(model.model, HALF):
        by_name = model.model(**inputs).last_hidden_state
        by_place = model.model(inputs["input_ids"], inputs["pixel_values"], inputs["attention_mask"]).last_hidden_state
    assert by_name.shape[1] == 15 and torch.equal(by_name, by_place)


def test_embeddings_with_placeholders_are_read_like_ids():
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    with torch.no_grad(), attach(model, HALF):
        expected = model(**inputs).logits
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        rest = {name: value for name, value in inputs.items() if name != "input_ids"}
        assert torch.equal(model(inputs_embeds=embeds, **rest).logits, expected)


@pytest.mark.parametrize("additive", [True, False])
def test_a_four_dimensional_mask_of_the_user_is_cut_on_both_axes(additive):
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    real = inputs["attention_mask"].bool()
    length = real.shape[1]
    square_mask = (torch.ones(length, length).tril().bool() & real[:, None])[:, None]
    if additive:
        square_mask = torch.where(square_mask, 0.0, torch.finfo(torch.float32).min)
    positions = torch.arange(length).expand(2, -1)
    with attach(model, HALF) as trace:
        plain = run(model, inputs, position_ids=positions)
        logits = run(model, {**inputs, "attention_mask": square_mask}, position_ids=positions)
    torch.testing.assert_close(logits[trace.kept >= 0], plain[trace.kept >= 0], atol=1e-5, rtol=1e-4)


def test_padding_of_a_cut_mask_sees_only_itself():
    mask = torch.ones(1, 1, 4, 4).tril().bool()
    kept = torch.tensor([[-1, 0, 3]])
    cut = shortened(mask, kept, 4, explicit=False)
    assert cut.int().tolist() == [[[[1, 0, 0], [0, 1, 0], [0, 1, 1]]]]
    assert shortened(None, kept, 4, explicit=True).tolist() == [[0, 1, 1]]
    assert shortened(None, kept, 4, explicit=False) is None
    with pytest.raises(AttachError, match=r"shape \(1, 1, 4, 9\); expected \(B, 4\) or \(B, 1, 4, 4\)"):
        shortened(torch.ones(1, 1, 4, 9), kept, 4, explicit=False)


def test_labels_are_refused_where_something_is_dropped_and_can_be_gathered():
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    labels = inputs["input_ids"].clone()
    with attach(model, HALF) as trace:
        with pytest.raises(AttachError, match=r"labels have the unpruned length; .*trace.gather\(labels\)"):
            run(model, inputs, labels=labels)
        logits = run(model, inputs)
        gathered = trace.gather(labels)
    assert gathered.shape == logits.shape[:2]
    for row in range(2):
        expected = [int(labels[row, column]) if column >= 0 else -100 for column in trace.kept[row]]
        assert gathered[row].tolist() == expected
    assert trace.gather(torch.ones(2, trace.length_before, 3), fill=0.0).shape == (*logits.shape[:2], 3)
    with pytest.raises(AttachError, match=r"the values have shape \(2, 3\); expected \(2, 45, ...\)"):
        trace.gather(labels[:, :3])
    with attach(model, "identity"):
        run(model, inputs, labels=labels)


def test_a_cache_that_cannot_be_pruned_is_refused():
    model, inputs = model_of("llava"), Inputs("llava", ROW).make()
    with attach(model, HALF):
        with pytest.raises(AttachError, match="cache of fixed size"):
            model.generate(**inputs, max_new_tokens=2, do_sample=False, cache_implementation="static")
        with torch.no_grad():
            output = model(**inputs, use_cache=True)
            with pytest.raises(AttachError, match="the cache holds 15 positions and this call brings pictures"):
                model(**inputs, past_key_values=output.past_key_values)
            step = {"input_ids": torch.tensor([[4]]), "past_key_values": output.past_key_values}
            with pytest.raises(AttachError, match=r"cached step is \(1, 16\); expected \(1, 24\)"):
                model(**step, attention_mask=torch.ones(1, 16, dtype=torch.long))
            with pytest.raises(AttachError, match="1 rows of 15 positions pruned, the step has 2 rows"):
                model(input_ids=torch.tensor([[4], [5]]), past_key_values=output.past_key_values)


def test_prompts_beyond_a_sliding_window_are_refused():
    model, inputs = model_of("gemma3"), Inputs("gemma3", [[60, "image", 4]]).make()
    with attach(model, HALF), pytest.raises(AttachError, match="80 positions exceed the sliding window of 64"):
        run(model, inputs)


def test_compact_numbering_is_refused_for_positions_of_several_axes():
    refused = pytest.raises(AttachError, match="'qwen2_vl' numbers its visual tokens by time, height and width")
    with refused, attach(model_of("qwen2_vl"), HALF, positions="compact"):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "orignal"}, "unknown value of positions 'orignal'; did you mean 'original'"),
        ({"site": "after"}, "unknown value of site 'after'; did you mean 'after_projector'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(AttachError, match=message), attach(model_of("llava"), HALF, **options):
        pass


def test_pruners_are_checked():
    unchecked = inspect.unwrap(attach)  # run-time shape checks would speak first
    with pytest.raises(AttachError, match="the pruner is float; expected a Pruner or a spec"):
        next(unchecked(model_of("llava"), 0.5))
    with pytest.raises(SpecError, match="unknown pruner 'evpt'"), attach(model_of("llava"), "evpt"):
        pass
    with pytest.raises(AttachError, match=r"language_layer is 9; it must be a whole number in 0\.\.2"):
        from tests.hf.methods import ByLanguage

        with attach(model_of("llava"), ByLanguage(keep_ratio=0.5), language_layer=9):
            run(model_of("llava"), Inputs("llava", ROW).make())


def test_an_unknown_model_is_refused_with_the_table_and_the_way_to_add_a_row():
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    with pytest.raises(AttachError, match=r"layout is 'llava'; expected a leanseg.hf.Layout"):
        inspect.unwrap(find)(model_of("llava"), "llava")
    message = r"unknown model type 'llama'.*Known: .*qwen2_5_vl.*layout=leanseg.hf.Layout"
    with pytest.raises(AttachError, match=message), attach(LlamaForCausalLM(tiny), HALF):
        pass
    wrong = Layout(model_type="llava", title="?", images=square(), tower="eyes")
    message = "nothing in LlavaForConditionalGeneration has both 'eyes' and"
    with pytest.raises(AttachError, match=message), attach(model_of("llava"), HALF, layout=wrong):
        pass
    wrong = Layout(model_type="llava", title="?", images=square(), projector="bridge", before_projector=True)
    with (
        pytest.raises(AttachError, match="LlavaModel has no 'bridge', which the layout of 'llava' calls its projector"),
        attach(model_of("llava"), HALF, layout=wrong, site="before_projector"),
    ):
        pass


def test_a_rule_that_does_not_fit_is_refused():
    model, inputs = model_of("llava"), Inputs("llava", ROW).make()
    wrong = Layout(model_type="llava", title="?", images=lambda row: [Piece(Grid(3, 5))])
    with (
        attach(model, HALF, layout=wrong),
        pytest.raises(AttachError, match=r"16 image positions, but .* make 15"),
    ):
        run(model, inputs)
    wrong = Layout(model_type="llava", title="?", images=square(lambda config: 2), videos=square())
    with attach(model, HALF, layout=wrong) as trace:
        run(model, inputs)
    assert [(item.grid.height, item.grid.width) for item in trace.items] == [(2, 2)] * 4
    inputs["input_ids"][0, 18] = 5
    with attach(model, HALF), pytest.raises(ValueError, match="Image features and image tokens do not match"):
        run(model, inputs)


def test_pictures_encoded_elsewhere_are_refused_only_where_their_sizes_are_needed():
    model, inputs = model_of("llava"), Inputs("llava", ROW).make()
    with torch.no_grad():
        features = model.get_image_features(inputs.pop("pixel_values"), return_dict=True)
        with attach(model, HALF) as trace:
            model(**inputs, mm_encoder_outputs={"image": features})
    assert trace.n_passes == 1
    model, inputs = model_of("qwen2_vl"), Inputs("qwen2_vl", ROW).make()
    with torch.no_grad():
        features = model.get_image_features(inputs.pop("pixel_values"), inputs["image_grid_thw"], return_dict=True)
        with attach(model, HALF), pytest.raises(AttachError, match="the sizes of these pictures are unknown"):
            model(**inputs, mm_encoder_outputs={"image": features})


def test_items_are_shared_among_rows_and_their_repeats():
    assert items_by_row([4, 10], [4, 6, 4]) == [[0], [1, 2]]
    assert items_by_row([4, 4, 0, 0, 6, 6], [4, 6]) == [[0], [0], [], [], [1], [1]]
    for counts, lengths in (([5], [4]), ([4, 6, 4, 6], [4, 6]), ([4, 4, 4], [8])):
        with pytest.raises(AttachError, match="encode the pictures of a call inside the same"):
            items_by_row(counts, lengths)


def test_half_precision_models_work():
    model = model_of("llava").to(torch.bfloat16)
    try:
        inputs = Inputs("llava", ROWS).make()
        for mass in (False, True):
            with attach(model, "uniform(keep_ratio=0.3)", mass_preserving=mass):
                tokens = model.generate(**inputs, max_new_tokens=3, do_sample=False)
            assert tokens.shape == (2, inputs["input_ids"].shape[1] + 3)
    finally:
        model.to(torch.float32)


def test_gradients_flow_through_the_kept_embeddings():
    model, inputs = model_of("llava"), Inputs("llava", ROW).make()
    inputs["pixel_values"].requires_grad_()
    with attach(model, HALF):
        model(**inputs).logits.sum().backward()
    assert inputs["pixel_values"].grad.abs().sum() > 0


class Eyes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.look = torch.nn.Linear(12, 16)

    def forward(self, pixels):
        return self.look(pixels.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))


class HomeMade(torch.nn.Module):
    """A model of nobody's family: its own names, and a Llama inside."""

    def __init__(self):
        from transformers import LlamaConfig, LlamaModel

        super().__init__()
        torch.manual_seed(0)
        self.config = LlamaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=99
        )
        self.config.picture_id = IMAGE
        self.eyes = Eyes()
        self.reader = LlamaModel(self.config)

    def get_input_embeddings(self):
        return self.reader.embed_tokens

    def forward(self, input_ids, pixel_values=None, past_key_values=None):
        embeds = self.reader.embed_tokens(input_ids)
        if pixel_values is not None:
            embeds = embeds.masked_scatter((input_ids == IMAGE)[..., None], self.eyes(pixel_values))
        return self.reader(inputs_embeds=embeds, past_key_values=past_key_values)


def test_a_home_made_model_needs_one_row():
    row = Layout(
        model_type="home_made",
        title="Home-made",
        images=lambda row: [Piece(Grid(2, 3))] * (len(row.embeds) // 6),
        tower="eyes",
        language="reader",
        image_token="picture_id",
    )
    model = HomeMade().eval()
    ids = torch.tensor([[1, *[IMAGE] * 6, 2, *[IMAGE] * 6, 3]])
    pixels = torch.randn(2, 3, 4, 6)
    with torch.no_grad(), leanseg.attach(model, "uniform(keep_ratio=0.5)", layout=row) as trace:
        states = model(ids, pixels).last_hidden_state
    assert states.shape == (1, 9, 16) and trace.kept.shape == (1, 9)
    assert {0, 7, 14} <= set(trace.kept[0].tolist())
    assert [item.n_kept for item in trace.items] == [3, 3]
    assert find(model, row)[1] is model

from __future__ import annotations

import sys

import pytest
import torch
from tests.hf.families import GEMMA, IDS, IMAGE, SIGLIP, TEXT, Inputs, model_of
from tests.hf.methods import SEEN, ByAttention
from tests.hf.reference import Fed, kept_columns

from leanseg import Grid, attach
from leanseg.errors import AttachError
from leanseg.hf import Layout, Piece, capture
from leanseg.hf.cues import listen
from leanseg.hf.layouts import LAYOUTS, find
from leanseg.hf.steps import Prefilled

HALF = "random(keep_ratio=0.5)"
ROWS = [[3, "image", 4], [5, "image", 2, "image", 6]]


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def test_pictures_without_tiles_end_in_one_newline_which_stays():
    """LLaVA-OneVision does not cut pictures into tiles where a prompt has several."""
    model = model_of("llava_onevision")
    ids = torch.tensor([[1, 2, *[IMAGE] * 17, 3, *[IMAGE] * 17, 4]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(2, 1, 3, 28, 28, generator=torch.Generator().manual_seed(0)),
        "image_sizes": torch.tensor([[28, 56], [28, 42]]),
        "batch_num_images": torch.tensor([2]),
    }
    with attach(model, HALF) as trace:
        logits = run(model, inputs)
    assert [(item.grid.height, item.grid.width, item.n_kept) for item in trace.items] == [(4, 4, 8)] * 2
    assert {18, 36} <= set(trace.kept[0].tolist())
    expected = Fed(model).logits(inputs, kept_columns(trace, 0, ids[0] == IMAGE), "original")
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


def test_tiles_whose_newlines_are_missing_are_refused():
    row = LAYOUTS["llava_next"]
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", "image", 4]]).make()
    model.model.image_newline = torch.zeros(32)
    try:
        with attach(model, HALF, layout=row), pytest.raises(AttachError, match="tiles cannot be told"):
            run(model, inputs)
    finally:
        del model.model.image_newline


def test_a_number_of_positions_that_is_no_picture_is_refused():
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4]]).make()
    large = Layout(model_type="llava", title="?", images=lambda row: LAYOUTS["vipllava"].images(row))
    fits = {**inputs, "input_ids": torch.tensor([[1, *[IMAGE] * 15, 4]]), "attention_mask": torch.ones(1, 17)}
    with torch.no_grad():
        features = model.get_image_features(fits.pop("pixel_values"), return_dict=True)
        features.pooler_output = [rows[:15] for rows in features.pooler_output]
        with attach(model, HALF, layout=large), pytest.raises(AttachError, match="15 visual positions are no multiple"):
            model(**fits, mm_encoder_outputs={"image": features})


def test_two_clips_in_a_row_are_refused_where_they_cannot_be_told_apart():
    model, inputs = model_of("llava_onevision"), Inputs("llava_onevision", [[3, "video", 4, "video", 2]]).make()
    with attach(model, HALF), pytest.raises(AttachError, match=r"26 video positions.*expected one clip per row"):
        run(model, inputs)


def test_a_kind_without_a_rule_is_text():
    row = Layout(model_type="x", title="?", images=LAYOUTS["llava_onevision"].images)
    model, inputs = model_of("llava_onevision"), Inputs("llava_onevision", [[3, "video", 4]]).make()
    with attach(model, HALF, layout=row) as trace:
        run(model, inputs)
    assert trace.n_passes == 0


class Twice(torch.nn.Module):
    """Encodes picture by picture, as a user's model may."""

    def __init__(self, inner):
        super().__init__()
        self.hidden, self.config = [inner], inner.config
        self.vision_tower, self.language_model = inner.vision_tower, inner.language_model
        self.multi_modal_projector = inner.multi_modal_projector

    def get_input_embeddings(self):
        return self.hidden[0].get_input_embeddings()

    def forward(self, input_ids, pixel_values, past_key_values=None):
        embeds = self.get_input_embeddings()(input_ids)
        seen = [self.vision_tower(one[None], output_hidden_states=True).hidden_states[-2] for one in pixel_values]
        rows = [self.multi_modal_projector(states[:, 1:]) for states in seen]
        embeds = embeds.masked_scatter((input_ids == IMAGE)[..., None], torch.cat(rows))
        return self.language_model(inputs_embeds=embeds, past_key_values=past_key_values)


def test_a_tower_that_runs_once_per_picture_is_understood():
    model, inputs = model_of("llava"), Inputs("llava", [[5, "image", 2, "image", 6]]).make()
    twice, row = Twice(model.model), LAYOUTS["llava"]
    SEEN.clear()
    with torch.no_grad():
        for options in ({}, {"site": "before_projector"}):
            with attach(model, ByAttention(keep_ratio=0.5), **options) as trace:
                run(model, inputs)
            with attach(twice, ByAttention(keep_ratio=0.5), layout=row, **options) as other:
                twice(inputs["input_ids"], inputs["pixel_values"])
            assert torch.equal(trace.kept, other.kept)
        qwen, pictures = model_of("qwen2_5_vl"), Inputs("qwen2_5_vl", [[5, "image", 2, "image", 6]]).make()
        with attach(qwen, ByAttention(keep_ratio=0.5)) as trace:
            run(qwen, pictures)
            once = trace.kept
            grids, pixels = pictures.pop("image_grid_thw"), pictures.pop("pixel_values")
            parts = pixels.split(grids.prod(dim=1).tolist())
            features = [
                qwen.get_image_features(part, grid[None], return_dict=True)
                for part, grid in zip(parts, grids, strict=True)
            ]
            features[0].pooler_output = [rows for each in features for rows in each.pooler_output]
            qwen(**pictures, image_grid_thw=grids, mm_encoder_outputs={"image": features[0]})
            assert trace.n_passes == 2 and torch.equal(trace.kept, once)


def test_what_the_tower_saw_must_have_been_seen():
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    with torch.no_grad():
        features = model.get_image_features(inputs.pop("pixel_values"), return_dict=True)
        refused = pytest.raises(AttachError, match="what it saw is unknown; give pixel values")
        with attach(model, ByAttention(keep_ratio=0.5)), refused:
            model(**inputs, mm_encoder_outputs={"image": features})


def test_rules_and_cues_must_agree_on_the_number_of_pictures():
    row = Layout(model_type="llava", title="?", images=lambda row: [Piece(Grid(2, 4))] * 2, cues=LAYOUTS["llava"].cues)
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4]]).make()
    refused = pytest.raises(AttachError, match="row 0 has 2 pictures, the vision tower saw 1")
    with attach(model, ByAttention(keep_ratio=0.5), layout=row), refused:
        run(model, inputs)
    with pytest.raises(AttachError, match="the vision layer saw 9 tokens; expected 16 at least"):
        LAYOUTS["llava"].cues(find(model)[1], [torch.zeros(1, 9)], {}, None)


def paligemma2():
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    torch.manual_seed(0)
    text = {**TEXT, "model_type": "gemma2", "head_dim": 8, "sliding_window": 64, "query_pre_attn_scalar": 8}
    config = PaliGemmaConfig(vision_config={**SIGLIP, "projection_dim": 32}, text_config=text, projection_dim=32, **IDS)
    model = PaliGemmaForConditionalGeneration(config).eval()
    model.generation_config.suppress_tokens = [IMAGE, 0]
    return model


def test_paligemma_2_has_two_masks_and_both_are_cut():
    assert GEMMA["model_type"] == "gemma"
    model, inputs = paligemma2(), Inputs("paligemma", ROWS).make()
    del inputs["token_type_ids"]
    options = {"max_new_tokens": 4, "do_sample": False}
    with attach(model, HALF) as trace:
        cached = model.generate(**inputs, **options)
        assert trace.n_passes == 1 and trace.length_after < trace.length_before
        assert torch.equal(cached, model.generate(**inputs, **options, use_cache=False))
    with pytest.raises(AttachError, match="needs full attention"), attach(model, HALF, mass_preserving=True):
        pass
    long = Inputs("paligemma", [[60, "image", 4]]).make()
    with attach(model, HALF), pytest.raises(AttachError, match="exceed the sliding window of 64"):
        run(model, long)


def test_sampling_gives_what_it_gives_without_a_cache():
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    options = {"max_new_tokens": 4, "do_sample": True, "num_return_sequences": 2}
    with attach(model, HALF):
        torch.manual_seed(3)
        cached = model.generate(**inputs, **options)
        torch.manual_seed(3)
        assert torch.equal(cached, model.generate(**inputs, **options, use_cache=False))


def test_prefill_in_chunks_and_a_second_turn_on_a_kept_cache_are_refused():
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4]]).make()
    with attach(model, HALF):
        with pytest.raises(AttachError, match="prefill_chunk_size"):
            model.generate(**inputs, max_new_tokens=2, do_sample=False, prefill_chunk_size=8)
        first = model.generate(**inputs, max_new_tokens=2, do_sample=False, return_dict_in_generate=True)
        more = torch.cat([first.sequences, torch.tensor([[5, 6]])], dim=1)
        turn = {"input_ids": more, "attention_mask": torch.ones_like(more), "past_key_values": first.past_key_values}
        with pytest.raises(AttachError, match="A further turn with a kept cache is not possible"):
            model.generate(**turn, max_new_tokens=2, do_sample=False)


def test_a_cache_that_saw_no_picture_may_go_on():
    model = model_of("llava")
    text = Inputs("llava", [[7]]).make()
    options = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    plain = model.generate(**text, **options)
    with attach(model, HALF):
        again = model.generate(**text, **options)
    assert torch.equal(plain.sequences, again.sequences)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "paligemma"])
@pytest.mark.parametrize("mass", [False, True])
def test_several_tokens_at_once_after_the_prefill_are_those_one_by_one(family, mass):
    model, inputs = model_of(family), Inputs(family, ROWS).make()
    inputs.pop("token_type_ids", None)
    tokens, found = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]]), []
    with torch.no_grad(), attach(model, "uniform(keep_ratio=0.3)", mass_preserving=mass):
        for pieces in (1, 2, 4):
            output, mask = model(**inputs, use_cache=True), inputs["attention_mask"]
            for piece in tokens.split(pieces, dim=1):
                mask = torch.cat([mask, torch.ones_like(piece)], dim=1)
                output = model(input_ids=piece, past_key_values=output.past_key_values, attention_mask=mask)
            found.append(output.logits[:, -1])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=1e-4)


def test_a_model_that_takes_no_positions_is_told_in_its_cached_steps():
    model, inputs = Twice(model_of("llava").model), Inputs("llava", [[3, "image", 4]]).make()
    with torch.no_grad(), attach(model, HALF, layout=LAYOUTS["llava"]):
        output = model(inputs["input_ids"], inputs["pixel_values"])
        with pytest.raises(AttachError, match=r"Twice\.forward does not take attention_mask"):
            model(torch.tensor([[4]]), None, past_key_values=output.past_key_values)


def test_a_step_needs_tokens():
    ones = torch.ones(1, 3, dtype=torch.bool)
    state = Prefilled(5, ones, torch.tensor([2]), torch.tensor([[4]]), None, torch.float32)
    with pytest.raises(AttachError, match="neither input_ids nor inputs_embeds"):
        state.step({}, 3)


def test_layers_of_unknown_attention_are_refused():
    layer = model_of("llava").model.vision_tower.encoder.layers[0]
    config = layer.self_attn.config
    try:
        layer.self_attn.config = type(config)()
        layer.self_attn.config._attn_implementation_internal = "eager"
        modelling = sys.modules[type(layer.self_attn).__module__]
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr(modelling, "eager_attention_forward")
            refused = pytest.raises(AttachError, match="no eager attention function behind CLIPAttention")
            with refused, listen(layer.self_attn, lambda *_: None):
                pass
    finally:
        layer.self_attn.config = config


@pytest.mark.parametrize(
    ("mask", "outcome"),
    [
        (torch.tensor([[1, 1, 0]]), [True, True, False]),
        (torch.tensor([[[[True, True, False]]]]), [True, True, False]),
        (torch.tensor([True, True, False]), "the layer's mask has shape"),
    ],
)
def test_masks_of_encoders_are_read(mask, outcome):
    from leanseg.hf.cues import _same_for_all

    q = k = torch.zeros(1, 2, 3, 4)
    if isinstance(outcome, str):
        with pytest.raises(AttachError, match=outcome):
            _same_for_all(mask, q, k)
    else:
        assert _same_for_all(mask, q, k).tolist() == [outcome]


def test_a_layer_that_does_not_run_is_reported():
    from leanseg.hf.cues import language_attention

    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model_of("llava").model.language_model.layers

        def forward(self, use_cache):
            return None

    with pytest.raises(AttachError, match="layer 1 of Idle did not run"):
        language_attention(Idle(), 1, {}, queries=torch.tensor([0]))


def test_two_layers_are_heard_at_once():
    tower = model_of("llava").model.vision_tower
    with torch.no_grad(), capture(tower.encoder.layers[0]) as first, capture(tower.encoder.layers[1]) as second:
        tower(torch.randn(1, 3, 28, 28))
    assert first.attention.shape == second.attention.shape and not torch.equal(first.attention, second.attention)

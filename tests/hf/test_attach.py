from __future__ import annotations

import functools

import pytest
import torch
from tests.hf.families import FAMILIES, IMAGE, MANY_AXES, ONE_AXIS, VIDEO, WITH_VIDEO, Inputs, model_of
from tests.hf.reference import Fed, kept_columns

from leanseg import attach

TWO_ROWS = [[3, "image", 4], [5, "image", 2, "image", 6]]
WAYS = [("left", "original", "sdpa"), ("right", "compact", "eager"), ("left", "compact", "sdpa")]


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_bit_for_bit_the_model_alone(family):
    model, inputs = model_of(family), Inputs(family, TWO_ROWS).make()
    plain = run(model, inputs)
    for spec in ("identity", "random(keep_ratio=1)"):
        with attach(model, spec) as trace:
            assert torch.equal(run(model, inputs), plain)
        assert trace.n_passes == 1 and trace.n_kept == trace.n_tokens > 0
        assert trace.length_before == trace.length_after == plain.shape[1]


@pytest.mark.parametrize(("side", "positions", "implementation"), WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_a_language_model_fed_with_the_kept_embeddings(family, side, positions, implementation):
    positions = "original" if family in MANY_AXES else positions
    model = model_of(family, implementation)
    inputs = Inputs(family, TWO_ROWS, side=side).make()
    with attach(model, "random(keep_ratio=0.3)", positions=positions) as trace:
        logits = run(model, inputs)
    assert trace.length_after == logits.shape[1] < trace.length_before == inputs["input_ids"].shape[1]
    check_rows(model, family, TWO_ROWS, inputs, trace, logits, positions)


def check_rows(model, family, rows, inputs, trace, logits, positions):
    """Compare every row of a padded batch with itself alone, pruned by hand."""
    fed, whole = Fed(model), Inputs(family, rows)
    whole.make()
    for row in range(len(rows)):
        mask = inputs["attention_mask"][row].bool()
        ids = inputs["input_ids"][row][mask]
        alone = one_row(family, rows, row, inputs)
        visual = (ids == IMAGE) | (ids == VIDEO)
        shift = int(mask.nonzero()[0])
        moved = Moved(trace, row, shift)
        columns = kept_columns(moved, row, visual)
        expected = fed.logits(alone, columns, positions)[0]
        real = trace.kept[row] >= 0
        assert (trace.kept[row][real] - shift).tolist() == columns
        torch.testing.assert_close(logits[row][real], expected, atol=2e-5, rtol=1e-4)


class Moved:
    """A trace whose row begins at column 0."""

    def __init__(self, trace, row, shift):
        from leanseg.hf import Item

        self.items = [
            Item(item.kind, item.row, item.grid, item.columns - shift, item.selections)
            for item in trace.items
            if item.row == row
        ]


def one_row(family, rows, row, inputs):
    """Cut one row with its pictures out of a batch."""
    mask = inputs["attention_mask"][row].bool()
    alone = {"input_ids": inputs["input_ids"][row : row + 1, mask]}
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            alone[name] = inputs[name][row : row + 1, mask]
    for kind, pixels, grid in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        first = sum(part == kind for other in rows[:row] for part in other)
        count = sum(part == kind for part in rows[row])
        if not count:
            continue
        if family in MANY_AXES:
            sizes = inputs[grid].prod(dim=1).tolist()
            alone[grid] = inputs[grid][first : first + count]
            alone[pixels] = inputs[pixels][sum(sizes[:first]) : sum(sizes[: first + count])]
        elif family in ("idefics3", "smolvlm"):
            alone[pixels] = inputs[pixels][row : row + 1, :count]
        else:
            alone[pixels] = inputs[pixels][first : first + count]
            if kind == "image" and "image_sizes" in inputs:
                alone["image_sizes"] = inputs["image_sizes"][first : first + count]
    return alone


@pytest.mark.parametrize("family", WITH_VIDEO)
def test_clips_are_pruned_frame_by_frame_beside_pictures(family):
    rows = [[3, "video", 4], [5, "image", 2, "video", 6]]
    model, inputs = model_of(family), Inputs(family, rows).make()
    with attach(model, "random(keep_ratio=0.5)") as trace:
        logits = run(model, inputs)
    clips = [item for item in trace.items if item.kind == "video"]
    assert [(item.row, len(item.selections)) for item in clips] == [(0, 3), (1, 3)]
    assert all(item.grid.frames == 1 for item in clips)
    check_rows(model, family, rows, inputs, trace, logits, "original")


GENERATE = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}


@pytest.mark.parametrize(
    ("family", "positions"),
    [(name, "original") for name in FAMILIES] + [(name, "compact") for name in ONE_AXIS],
)
def test_cached_generation_is_the_recomputation_without_cache(family, positions):
    model, inputs = model_of(family), Inputs(family, TWO_ROWS).make()
    inputs.pop("token_type_ids", None) if family == "paligemma" else None
    with attach(model, "random(keep_ratio=0.3)", positions=positions) as trace:
        cached = model.generate(**inputs, **GENERATE)
        assert trace.n_passes == 1
        again = model.generate(**inputs, **GENERATE, use_cache=False)
        assert trace.n_passes == 5
    assert torch.equal(cached.sequences, again.sequences)
    for one, other in zip(cached.logits, again.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_5_vl", "gemma3", "idefics3"])
def test_beams_and_several_answers_are_those_without_cache(family):
    model, inputs = model_of(family), Inputs(family, TWO_ROWS).make()
    inputs.pop("token_type_ids", None) if family == "paligemma" else None
    options = {"max_new_tokens": 4, "num_beams": 3, "num_return_sequences": 2, "do_sample": False}
    with attach(model, "random(keep_ratio=0.3)") as trace:
        cached = model.generate(**inputs, **options)
        again = model.generate(**inputs, **options, use_cache=False)
    assert cached.shape[0] == 4 and torch.equal(cached, again)
    assert {item.row for item in trace.items} == set(range(6))


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize(
    ("family", "positions"),
    [(name, "original") for name in ("llava", "paligemma", "qwen2_vl", "qwen3_vl")] + [("llava", "compact")],
)
def test_a_decoding_loop_by_hand_is_generation(family, positions, with_mask):
    model, inputs = model_of(family), Inputs(family, [[3, "image", 4]]).make()
    inputs.pop("token_type_ids", None)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad(), attach(model, "random(keep_ratio=0.3)", positions=positions):
        expected = model.generate(**inputs, **GENERATE)
        if not with_mask:
            del inputs["attention_mask"]
        output, tokens = model(**inputs, use_cache=True), expected.sequences[0, length:]
        for step, token in enumerate(tokens):
            torch.testing.assert_close(output.logits[:, -1], expected.logits[step], atol=1e-4, rtol=1e-3)
            mask = {"attention_mask": torch.ones(1, length + step + 1, dtype=torch.long)} if with_mask else {}
            output = model(input_ids=token[None, None], past_key_values=output.past_key_values, **mask)


@pytest.mark.parametrize("family", ["llava", "internvl", "paligemma"])
def test_dropping_behind_the_encoder_is_shrinking_its_output(family):
    """The other route: the encoder gives the kept features only, and the prompt has as many placeholders."""
    model, inputs = model_of(family), Inputs(family, [[3, "image", 4], [3, "image", 4]]).make()
    inputs.pop("token_type_ids", None)
    with attach(model, "random(keep_ratio=0.25)", positions="compact") as trace:
        dropped = run(model, inputs)
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    kept = torch.cat([selection.indices for selection in trace.selections])
    whole = model.model.get_image_features

    @functools.wraps(whole)
    def shrunk(*args, **kwargs):
        output = whole(*args, **kwargs)
        rows = [features[index] for features, index in zip(output.pooler_output, kept, strict=True)]
        output.pooler_output = rows if family == "llava" else torch.stack(rows)
        return output

    short = {
        **inputs,
        **{name: inputs[name][:, [*range(3), *range(15, 23)]] for name in ("input_ids", "attention_mask")},
    }
    model.model.get_image_features = shrunk
    try:
        assert torch.equal(run(model, short), dropped)
        again = model.generate(**short, max_new_tokens=4, do_sample=False)
    finally:
        del model.model.get_image_features
    assert torch.equal(again[:, -4:], tokens[:, -4:])

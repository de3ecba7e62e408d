from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.models.golden_folders import close, config, golden, same_mask, tensors

from leanseg.errors import InputError
from leanseg.models.instructseg import postprocess
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.postprocess import (
    best_mask,
    davis_merge,
    full_postprocess,
    mask_quality,
    output_logits,
    reference_frames,
)

SIZES = {"valid_size": (24, 32), "output_size": (45, 60)}


def prediction(seed: int = 0, n_queries: int = 12, shift: float = 0.0) -> MaskPrediction:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, n_queries, 4, 4, generator=generator) * 3 + shift
    masks = F.interpolate(coarse, size=(8, 8), mode="bilinear")
    return MaskPrediction(torch.randn(1, n_queries, generator=generator) * 2, masks)


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("postprocess", lambda folder: ("every", "best", "enlarge")))
def test_masks_and_scores_equal_the_reference(folder, key):
    given, expected, facts = tensors(folder, "inputs"), tensors(folder, "outputs"), config(folder)
    logits = given["mask_logits"]
    order = facts["row_order"]
    whole = MaskPrediction(given["SEG_logits"].T, logits[None])
    sizes = {
        "valid_size": tuple(facts["valid_hw"]),
        "output_size": tuple(facts["output_hw"]),
        "padded_size": tuple(logits.shape[-2:]),
    }
    if key == "best":
        best = best_mask(whole, 0, **sizes)
        row = int(expected["best"])
        assert best.query == order[row]
        assert best.score == pytest.approx(expected["hard_scores"][row].item(), abs=1e-5)
        same_mask(best.mask, expected["hard_masks"][row])
    elif key == "every":
        masks = full_postprocess(whole, 0, **sizes)
        close(torch.stack([each.logits for each in masks]), expected["resized"])
        in_rows = [masks[query] for query in order]
        for kind in ("hard", "soft"):
            close(torch.tensor([each.score for each in in_rows]), expected[f"{kind}_scores"])
        close(torch.stack([each.probability for each in in_rows]), expected["soft_masks"])
        same_mask(torch.stack([each.mask for each in in_rows]), expected["hard_masks"])
    else:
        for query, low in enumerate(given["low_res"][0]):
            size = tuple(expected["up4"].shape[-2:])
            close(output_logits(low, valid_size=size, output_size=size), expected["up4"][0, query])


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("e2e", lambda folder: config(folder)["cases"]))
def test_masks_and_scores_of_the_whole_model(folder, key):
    expected, facts = tensors(folder, "outputs"), config(folder)
    picture = ~tensors(folder, "inputs")["padding_mask"]
    sizes = {
        "valid_size": (int(picture.any(1).sum()), int(picture.any(0).sum())),
        "output_size": tuple(facts["output_size"]),
    }
    whole = MaskPrediction(expected[f"{key}.pred_SEG_logits"][..., 0], expected[f"{key}.pred_masks"])
    masks = full_postprocess(whole, 0, **sizes)
    in_rows = [masks[query] for query in facts["row_order"][key]]
    close(torch.tensor([each.score for each in in_rows]), expected[f"{key}.scores"])
    final = expected[f"{key}.final_masks"]
    if final.is_floating_point():
        close(torch.stack([each.probability for each in in_rows]), final)
    else:
        same_mask(torch.stack([each.mask for each in in_rows]), final)
    best = best_mask(whole, 0, **sizes)
    assert best.query == facts["row_order"][key][int(expected[f"{key}.scores"].argmax())]


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("davis_merge", lambda folder: ("soft", "hard")))
def test_merged_labels_equal_the_reference(folder, key):
    merged = davis_merge(tensors(folder, "inputs")[key].numpy(), soft=key == "soft")
    assert np.array_equal(merged, tensors(folder, "outputs")[f"{key}_label"].numpy())


def table(folder) -> dict[str, list[list[int]]]:
    return json.loads((folder / "table.json").read_text())["table"]


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("reference_frames", table, marker="table.json"))
def test_reference_frames_equal_the_reference_inside_the_clip(folder, key):
    count, n_frames = (int(each[1:]) for each in key.split("_"))
    expected = table(folder)[key]
    assert len(expected) == n_frames
    for index, frames in enumerate(expected):
        clamped = [min(max(frame, 0), n_frames - 1) for frame in frames]
        assert reference_frames(index, n_frames, count) == clamped


@pytest.mark.parametrize("shift", [0.0, -4.0, 4.0])
@pytest.mark.parametrize("seed", range(15))
def test_the_best_mask_is_the_best_of_all(seed, shift):
    given = prediction(seed, shift=shift)
    masks = full_postprocess(given, 0, **SIZES)
    best = best_mask(given, 0, **SIZES)
    expected = max(masks, key=lambda each: (each.score, -each.query))
    assert (best.query, best.score) == (expected.query, expected.score)
    assert torch.equal(best.logits, expected.logits)


def test_few_masks_are_brought_to_full_size(monkeypatch):
    given = prediction(n_queries=100, shift=3.0)
    given.score_logits.fill_(-6.0)[0, 70] = 5.0
    calls = []
    monkeypatch.setattr(
        postprocess, "output_logits", lambda *args, **sizes: calls.append(args) or output_logits(*args, **sizes)
    )
    assert best_mask(given, 0, **SIZES).query == 70
    assert len(calls) == 1


def test_the_lowest_query_wins_a_tie():
    given = prediction(n_queries=6, shift=2.0)
    same = MaskPrediction(
        given.score_logits[:, :1].expand(1, 6).clone(), given.mask_logits[:, :1].expand(1, 6, 8, 8).clone()
    )
    assert best_mask(same, 0, **SIZES).query == 0
    same.score_logits[0, :2] = -9.0
    assert best_mask(same, 0, **SIZES).query == 2


def test_without_any_mask_the_answer_is_empty():
    given = prediction(shift=-50.0)
    best = best_mask(given, 0, **SIZES)
    assert (best.query, best.score, best.mask_score) == (0, 0.0, 0.0)
    assert not best.mask.any()


def test_a_mask_only_in_the_padding_does_not_win():
    given = prediction(n_queries=2, shift=-50.0)
    given.mask_logits[0, 1, 6:] = 9.0  # rows 24.. of the input, below the picture
    given.score_logits[0] = torch.tensor([-3.0, 3.0])
    best = best_mask(given, 0, valid_size=(16, 32), output_size=(16, 32))
    assert best.query == 0 and not best.mask.any()


def test_quality_is_the_mean_probability_inside():
    logits = torch.tensor([[2.0, 1.0], [0.0, -3.0]])
    assert mask_quality(logits) == pytest.approx(torch.tensor([2.0, 1.0]).sigmoid().mean().item(), abs=1e-6)
    assert mask_quality(-torch.ones(3, 3)) == 0.0


@pytest.mark.parametrize(("height", "width"), [(20, 80), (80, 20)])
def test_masks_of_long_pictures_land_where_they_were(height, width):
    size, longer = 64, max(height, width)
    valid = (size * height // longer, size * width // longer)
    logits = torch.full((size // 4, size // 4), -8.0)
    logits[: valid[0] // 4, : valid[1] // 4] = 8.0  # the whole picture
    logits[: valid[0] // 8, : valid[1] // 8] = -8.0  # but its top left quarter
    mask = output_logits(logits, valid_size=valid, output_size=(height, width)) > 0
    expected = torch.ones(height, width, dtype=torch.bool)
    expected[: height // 2, : width // 2] = False
    assert (mask != expected).float().mean() < 0.06
    assert mask[-height // 4 :, -width // 4 :].all() and not mask[: height // 4, : width // 4].any()


def test_bfloat16_predictions_are_resized_in_float32():
    given = prediction(shift=2.0)
    low = MaskPrediction(given.score_logits.bfloat16(), given.mask_logits.bfloat16())
    best = best_mask(low, 0, **SIZES)
    assert best.logits.dtype == torch.float32
    masks = full_postprocess(low, 0, **SIZES)
    assert best.query == max(masks, key=lambda each: each.score).query


def test_soft_merging_weighs_the_background():
    probabilities = np.array([[[0.4, 0.6, 0.0]], [[0.4, 0.7, 0.1]]], dtype=np.float32)
    assert davis_merge(probabilities).tolist() == [[1, 2, 0]]  # .36 against .4 and .4: the first object
    assert davis_merge(probabilities[:1]).tolist() == [[0, 1, 0]]


def test_hard_merging_lets_later_objects_cover_earlier_ones():
    masks = np.array([[[1, 1, 0]], [[0, 1, 0]]], dtype=bool)
    assert davis_merge(masks, soft=False).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("n_frames", range(1, 12))
def test_references_stay_in_the_clip_and_leave_out_the_key_frame_where_they_can(n_frames):
    for index in range(n_frames):
        frames = reference_frames(index, n_frames)
        assert len(frames) == 4 and frames == sorted(frames)
        assert all(0 <= frame < n_frames for frame in frames)
        if n_frames > 4:
            assert index not in frames and len(set(frames)) == 4


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"picture's part is 40 x 32 of an input of 32 x 32; expected"):
        output_logits(torch.zeros(8, 8), valid_size=(40, 32), output_size=(5, 5))
    with pytest.raises(InputError, match=r"no query to choose a mask from; expected at least one"):
        best_mask(MaskPrediction(torch.zeros(1, 0), torch.zeros(1, 0, 8, 8)), 0, **SIZES)
    with pytest.raises(InputError, match=r"maps to merge have shape \(4, 5\); expected \(objects, height, width\)"):
        davis_merge(np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"with 1 to 255 objects"):
        davis_merge(np.zeros((256, 1, 1)))
    with pytest.raises(InputError, match=r"key frame 3 is not in a clip of 3 frames; expected 0 to 2"):
        reference_frames(3, 3)
    with pytest.raises(InputError, match=r"-1 reference frames were asked for; expected 0 or more"):
        reference_frames(0, 3, -1)

"""The answer as JSON: run lengths round trip, kept tokens, and numbers that json can write."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from leanseg.core.selection import Selection
from leanseg.models.output import Segmentation, decode_mask, encode_mask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


def _clip() -> Segmentation:
    masks = np.zeros((2, 5, 7), dtype=bool)
    masks[0, 1:3, 2:6] = True
    return Segmentation(
        masks=masks,
        scores=np.array([0.75, 0.25]),
        selections=[Selection(torch.tensor([[0, 3]]), 4), Selection(torch.tensor([[1]]), 4)],
        timings={"vision": 0.5},
        protocol={"pruner": "evtp(keep_ratio=0.5)", "site": "before_projector"},
        coverage=[{"feature_max": 1.5}, {"feature_max": 2.0}],
    )


def test_json_holds_every_part():
    content = json.loads(json.dumps(_clip().to_json()))
    assert content["size"] == [5, 7]
    assert content["score"] == 0.5
    assert [frame["kept"] for frame in content["frames"]] == [[0, 3], [1]]
    assert [frame["area_pixels"] for frame in content["frames"]] == [8, 0]
    assert [frame["coverage"]["feature_max"] for frame in content["frames"]] == [1.5, 2.0]
    assert content["frames"][1]["n_tokens"] == 4
    assert content["timings_s"] == {"vision": 0.5}
    assert content["protocol"]["site"] == "before_projector"
    masks = [decode_mask(frame["segmentation"]) for frame in content["frames"]]
    assert np.array_equal(np.stack(masks), _clip().masks)


def test_an_answer_without_pruning_names_no_tokens():
    frame = Segmentation(masks=np.ones((1, 2, 2), dtype=bool), scores=np.array([1.0])).to_json()["frames"][0]
    assert "kept" not in frame
    assert "coverage" not in frame


def test_no_frames_have_score_zero():
    empty = Segmentation(masks=np.zeros((0, 2, 2), dtype=bool), scores=np.zeros(0))
    assert (empty.n_frames, empty.score) == (0, 0.0)


def test_run_lengths_are_cocos():
    mask = np.zeros((3, 4), dtype=bool)
    mask[1:, 2] = True
    encoded = encode_mask(mask)
    assert encoded["size"] == [3, 4]
    assert isinstance(encoded["counts"], str)
    assert np.array_equal(coco.decode(encoded), mask)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_round_trip(share: float):
    noise = np.random.default_rng(0).random((61, 83)) < share
    blob = np.zeros((300, 200), dtype=bool)
    blob[20:290, 7:190] = share > 0
    for mask in (noise, blob):
        assert np.array_equal(decode_mask(encode_mask(mask)), mask)


def _frame(*kept: list[int]) -> Segmentation:
    return Segmentation(
        masks=np.ones((1, 2, 2), dtype=bool),
        scores=np.array([0.5]),
        selections=tuple(Selection(torch.tensor([indices]), 4) for indices in kept),
        timings={"select": 1.0},
        soft=np.zeros((1, 2, 2), dtype=np.float32),
    )


def test_stages_of_a_picture_are_all_told_and_of_a_clip_the_last():
    single = Segmentation.joined([_frame([0, 1], [2])])
    assert single.to_json()["frames"][0]["stages"] == [[0, 1], [2]]
    assert single.to_json()["frames"][0]["kept"] == [2]
    clip = Segmentation.joined([_frame([0, 1], [2]), _frame([0, 3], [1])])
    assert [frame["kept"] for frame in clip.to_json()["frames"]] == [[2], [1]]
    assert "stages" not in clip.to_json()["frames"][0]
    assert clip.timings == {"select": 2.0} and clip.soft is not None and clip.soft.shape == (2, 2, 2)


def test_a_clip_with_a_frame_that_chose_nothing_tells_no_tokens():
    clip = Segmentation.joined([_frame([0, 1], [2]), _frame()])
    assert clip.selections == () and "kept" not in clip.to_json()["frames"][0]

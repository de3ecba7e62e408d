"""The shipped VLTP: it is the `nano` preset, loads offline, answers what it is asked, and keeps what matters for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import leanseg
from leanseg.data.scenes.splits import split
from leanseg.engine.records import read_record
from leanseg.engine.segmenter import ModelSegmenter, assets_folder
from leanseg.metrics import GIoU
from leanseg.models import VLTP_PRESETS
from leanseg.models.vltp.losses import patch_labels

FOLDER = assets_folder() / "vltp-nano"
N_SAMPLES = 12


@pytest.fixture(scope="module")
def nano() -> ModelSegmenter:
    return leanseg.load("vltp-nano", device="cpu")


def test_it_is_the_preset_and_its_files_are_small(nano: ModelSegmenter) -> None:
    assert nano.model.config == VLTP_PRESETS["nano"] and nano.model.config.sam.grid.n_tokens >= 729
    assert all(path.stat().st_size <= 16_000_000 for path in FOLDER.iterdir())
    assert [each["name"] for each in read_record(FOLDER / "training.json", "training")["stages"]][-1] == "prune"


def test_its_masks_depend_on_what_is_asked(nano: ModelSegmenter) -> None:
    dataset, own, other = split("tasks"), GIoU(), GIoU()
    for index in range(N_SAMPLES):
        sample, wrong = dataset[index], dataset[(index + 1) % N_SAMPLES].instruction
        answers = nano.segment(sample.clip, [sample.instruction, wrong])
        own.update(sample.target, answers[0].masks)
        other.update(sample.target, answers[1].masks)
    assert own.compute() > other.compute() + 0.1


def test_its_stages_keep_the_target_more_often_than_chance(nano: ModelSegmenter) -> None:
    dataset, shares, sam = split("tasks"), [], nano.model.config.sam
    for index in range(N_SAMPLES):
        sample = dataset[index]
        (labels,) = patch_labels(torch.from_numpy(sample.target), size=sam.image_size, patch=sam.patch_size).bool()
        result = nano.segment(sample.clip, sample.instruction, keep_ratio=0.3)
        for selection in result.selections:
            shares.append(float(selection.mask()[0][labels].float().mean()))
    assert np.mean(shares) > 0.5

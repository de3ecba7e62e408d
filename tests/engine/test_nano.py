"""The shipped model: it is the `nano` preset, loads offline, and answers as its records say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import leanseg
from leanseg.data.scenes.splits import split
from leanseg.engine.segmenter import ModelSegmenter, assets_folder
from leanseg.models.presets import PRESETS
from leanseg.pruners import pruner

RECORD = Path(__file__).resolve().parents[2] / "results" / "nano_pictures.json"
N_SAMPLES = 24


@pytest.fixture(scope="module")
def nano() -> ModelSegmenter:
    return leanseg.load(device="cpu")


def test_it_is_the_preset_and_its_files_are_small(nano: ModelSegmenter) -> None:
    assert nano.config == PRESETS["nano"]
    weights = sorted((assets_folder() / "instructseg-nano").glob("*.safetensors"))
    assert 1 <= len(weights) <= 2
    assert all(path.stat().st_size <= 16_000_000 for path in weights)


def test_it_loads_offline_in_under_two_seconds_of_processor_time() -> None:
    code = (
        "import time, torch, transformers, leanseg.engine.segmenter as s; torch.set_num_threads(1); "
        "t = time.process_time(); s.load(device='cpu'); print(time.process_time() - t)"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=offline)
    assert float(done.stdout) < 2.0


def test_it_answers_as_its_record_says(nano: ModelSegmenter) -> None:
    record = json.loads(RECORD.read_text())
    dataset = split("test")
    stated, found = {"all": [], "blind": []}, {"all": [], "blind": []}
    for number in range(N_SAMPLES):
        line = record["samples"][number]
        sample = dataset[number * 4 + number % 4]
        assert sample.id == line["id"]
        for visual in found:
            result = nano.segment(
                sample.clip,
                sample.instruction,
                task=sample.meta["task"],
                visual=visual,
                coverage=False,
                position_ids=record["protocol"]["position_ids"],
            )
            mask, target = result.masks[0], sample.target[0]
            found[visual].append((mask & target).sum() / ((mask | target).sum() + 1e-5))
            inter, union = line["counts"][visual][0]
            stated[visual].append(inter / (union + 1e-5))
    for visual in found:
        # Another machine rounds otherwise; a border pixel or a rare tie between queries may differ.
        assert np.mean(np.abs(np.array(found[visual]) - np.array(stated[visual]))) < 0.02
    assert np.mean(found["all"]) > np.mean(found["blind"]) + 0.1


def test_pruning_shortens_what_the_language_model_reads(nano: ModelSegmenter) -> None:
    sample = split("test")[0]
    result = nano.segment(sample.clip, sample.instruction, pruner=pruner("evtp(keep_ratio=0.2)"))
    assert result.selections[0].indices.shape == (1, 51)
    assert result.masks.shape == sample.target.shape
    assert 0 < float(result.scores[0]) <= 1


def test_bfloat16_answers_nearly_the_same(nano: ModelSegmenter) -> None:
    half = leanseg.load(device="cpu", dtype="bfloat16")
    assert half.model.language_dtype == torch.bfloat16
    sample = split("test")[1]
    a = nano.segment(sample.clip, sample.instruction).masks
    b = half.segment(sample.clip, sample.instruction).masks
    assert (a & b).sum() / max(1, (a | b).sum()) > 0.8

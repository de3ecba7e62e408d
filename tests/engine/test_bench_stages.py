"""Timing the stages of an answer, and reading the record as a machine's profile."""

from __future__ import annotations

import pytest

from leanseg.costs import Sizes, read_profile
from leanseg.engine import segmenter
from leanseg.engine.bench.stages import measure_stages, noise_clip
from leanseg.engine.records import write_json
from leanseg.errors import InputError
from leanseg.models.presets import PRESETS
from leanseg.pruners import Identity, Uniform


@pytest.fixture(scope="module")
def nano():
    if segmenter.DEFAULT_MODEL not in segmenter.shipped_models():
        pytest.skip("the weights of the small model are not here")
    return segmenter.load(device="cpu")


@pytest.mark.parametrize("frames", [1, 3])
def test_the_record_is_a_profile_of_this_machine(nano, tmp_path, frames):
    record = measure_stages(nano, pruner=Uniform(keep_ratio=0.2), frames=frames, repeats=2, warm_up=1)
    assert (record["kind"], record["frames"], record["kept"], record["n_tokens"]) == ("stages", frames, 51, 256)
    assert len(record["samples"]) == 2
    assert record["seconds"]["language"] > 0
    assert record["seconds"]["coverage"] == 0
    write_json(tmp_path / "stages.json", record)
    profile = read_profile(tmp_path / "stages.json", Sizes.of(PRESETS["nano"]))
    assert dict(profile.rates)["language"] > 0


def test_without_a_pruner_every_token_is_kept(nano):
    assert measure_stages(nano, pruner=Identity(), repeats=1, warm_up=0)["kept"] == 256


def test_frames_differ_and_are_always_the_same():
    clip = noise_clip(2)
    assert clip.shape == (2, 384, 384, 3)
    assert (clip[0] != clip[1]).any()
    assert (clip == noise_clip(2)).all()


@pytest.mark.parametrize(("name", "given", "least"), [("frames", 0, 1), ("repeats", 0, 1), ("warm_up", -1, 0)])
def test_numbers_that_cannot_be_are_refused(nano, name, given, least):
    with pytest.raises(InputError, match=f"{name} is {given}; expected at least {least}"):
        measure_stages(nano, pruner=Identity(), **{name: given})

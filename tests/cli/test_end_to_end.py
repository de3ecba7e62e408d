"""`leanseg segment` with a real, untrained model of the smallest size: everything but the quality of the masks."""

from __future__ import annotations

import json

import pytest
from tests.models.instructseg_fixtures import tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model().save_pretrained(folder)
    return folder


def test_picture_and_clip_through_a_saved_model(run, saved, picture, clip, tmp_path):
    for source, frames in ((picture, 1), (clip, 6)):
        outcome = run("segment", source, "the dog", "the red apple", "--model", saved, "--device", "cpu", "--json")
        assert outcome.code == 0, outcome.err
        document = json.loads(outcome.out)
        assert document["frames"] == frames
        for result in document["results"]:
            assert len(result["frames"]) == frames
            assert all(len(frame["kept"]) == round(0.2 * frame["n_tokens"]) for frame in result["frames"])
            assert result["protocol"]["pruner"] == "evtp(keep_ratio=0.2)"
            assert result["frames"][0]["coverage"]
        assert (
            tmp_path / "out" / source.stem / "2" / document["results"][1]["files"]["overlay"].split("/")[1]
        ).is_file()
        assert sum(document["timings_s"].values()) > 0


def test_the_same_request_gives_the_same_masks(run, saved, picture):
    arguments = ("segment", picture, "the dog", "--model", saved, "--device", "cpu", "--json")
    first, second = (json.loads(run(*arguments).out)["results"] for _ in range(2))
    assert first == second


def test_corrupt_weights_are_one_line_and_code_2(run, saved, picture, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in saved.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: -1000 if file.suffix == ".safetensors" else None])
    outcome = run("segment", picture, "the dog", "--model", broken, "--device", "cpu")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert outcome.err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_an_instruction_too_long_is_one_line_and_code_2(run, saved, picture, tmp_path):
    for words in (300, 3000):
        outcome = run("segment", picture, "dog " * words, "--model", saved, "--device", "cpu")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert "long" in outcome.err
    assert not (tmp_path / "out" / "picture").exists()


def test_a_device_that_is_not_there_is_one_line_and_code_2(run, saved, picture):
    outcome = run("segment", picture, "the dog", "--model", saved, "--device", "cuda:99")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    outcome = run("segment", picture, "the dog", "--model", saved, "--dtype", "float31")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err

"""Pools: answers of the guide and of SAM's first blocks, kept in a file while stages are trained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.vltp_training import learner, pictures, pool, stage

from leanseg.engine.train.vltp.pool import make_pool
from leanseg.engine.train.vltp.recipes import RECIPES
from leanseg.engine.train.vltp.validation import answers, giou
from leanseg.models.vltp.presets import VLTP_PRESETS


def test_a_pool_answers_as_the_model_does(tmp_path: Path) -> None:
    model = learner(stage("prune")).model.eval()
    made = make_pool(model, pictures(2), tmp_path / "pool.safetensors")
    read = make_pool(model, pictures(2), tmp_path / "pool.safetensors")
    assert torch.equal(made.guidance, read.guidance) and torch.equal(made.tokens, read.tokens)
    for index, picture in enumerate(made.pictures):
        for name, encoder in (("stages", model.encoder()), ("none", model.encoder(()))):
            given = answers(model, made, encoder, index)
            options = {} if name == "stages" else {"stages": ()}
            wanted = [result.masks[0] for result in model.segment(picture.image, list(picture.texts), **options)]
            assert np.mean(given != np.stack(wanted)) < 0.01, name


def test_a_pool_is_mapped_from_its_file_and_written_some_pictures_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, drawn, path = learner(stage("prune")).model.eval(), pictures(3), tmp_path / "pool.safetensors"
    monkeypatch.setattr("leanseg.engine.train.vltp.pool.PICTURES_AT_ONCE", 2)
    made, whole = make_pool(model, drawn, path), make_pool(model, drawn)
    assert torch.equal(made.tokens, whole.tokens) and torch.equal(made.guidance, whole.guidance)
    assert {name: tensor.shape for name, tensor in load_file(path).items()} == {
        "tokens": whole.tokens.shape,
        "guidance": whole.guidance.shape,
    }
    assert [each.name for each in tmp_path.iterdir()] == ["pool.safetensors"]
    with path.open("r+b") as file:  # what changes in the file changes in a map of it
        file.seek(-2, os.SEEK_END)
        file.write(np.float16(77.0).tobytes())
    for each in (made, make_pool(model, drawn, path)):
        assert each.tokens.flatten()[-1] == 77.0
        assert each.take([2], torch.device("cpu")).tokens.flatten()[-1] == 77.0


def test_pools_of_the_papers_sizes_fit_on_a_disk() -> None:
    for name in ("b", "l", "h"):
        sam = VLTP_PRESETS[name].sam
        (pool_size,) = [each.pool for each in RECIPES[name] if each.pool]
        assert pool_size * sam.grid.n_tokens * sam.width * 2 < 12e9


def test_a_pool_of_other_weights_or_pictures_is_made_anew(tmp_path: Path) -> None:
    model = learner(stage("prune")).model.eval()
    path = tmp_path / "pool.safetensors"
    first = make_pool(model, pictures(2), path)
    assert len(make_pool(model, pictures(3), path)) == 3
    with torch.no_grad():
        model.sam.image_encoder.pos_embed.add_(1.0)
    assert not torch.equal(make_pool(model, pictures(2), path).tokens, first.tokens)


def test_answers_are_scored_by_the_mean_over_masks() -> None:
    model = learner(stage("prune")).model.eval()
    made, encoder = pool(model), model.encoder(())
    each = []
    for index, picture in enumerate(made.pictures):
        for given, wanted in zip(answers(model, made, encoder, index), picture.targets, strict=True):
            each.append((given & wanted).sum() / (given | wanted).sum())
    assert giou(model, made, encoder) == pytest.approx(np.mean(each), abs=1e-4)

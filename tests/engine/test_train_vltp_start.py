"""What VLTP's training starts from: eyes of a tower that was trained before, and a tokenizer of what will be said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.engine.vltp_training import learner, stage, tokenizer

from leanseg.engine.train.vltp.fitting import load_folder
from leanseg.engine.train.vltp.warm import start_from_tower
from leanseg.errors import TrainingError
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.presets import PRESETS
from leanseg.models.vltp import pictures as clip
from leanseg.models.vltp.presets import VLTP_PRESETS

Stages = tuple[tuple[int, float], ...]
TINY = VLTP_PRESETS["tiny"]


def test_eyes_start_from_a_tower_that_fits_and_no_other() -> None:
    tiny, vision = PRESETS["tiny"], PRESETS["tiny"].vision
    eye = replace(
        TINY.guide, vision=replace(TINY.guide.vision, hidden_size=24, intermediate_size=48, num_attention_heads=2)
    )
    model = learner(stage("sam"), guide=eye).model
    source = InstructSeg(replace(tiny, vision=replace(vision, intermediate_size=48, num_attention_heads=2)))
    start_from_tower(model, source)
    layers, blocks = source.vision_tower.encoder.layers, model.sam.image_encoder.blocks
    assert torch.equal(blocks[1].mlp.lin1.weight, layers[1].mlp.fc1.weight)
    pixels = torch.randn(2, 3, 30, 30)
    mean, std = (torch.tensor(values)[:, None, None] for values in (clip.MEAN, clip.STD))
    theirs = source.vision_tower.embeddings((pixels * std + mean) * 2 - 1)
    ours = model.mllm.model.vision_tower.embeddings(pixels)[:, 1:]
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.equal(blocks[2].attn.proj.weight, torch.zeros_like(blocks[2].attn.proj.weight))
    other = learner(stage("sam"), guide=replace(eye, vision=replace(eye.vision, patch_size=5))).model
    with pytest.raises(TrainingError, match="the guide's eye has 3 layers on 30 pixels, the tower 3 on 30; expected"):
        start_from_tower(other, source)
    with pytest.raises(TrainingError, match=r"expected the same to start from it"):
        start_from_tower(model, InstructSeg(tiny))


@pytest.mark.parametrize(
    ("method", "before", "after", "fits"),
    [
        ("svit", ((1, 0.7), (3, 0.5)), ((2, 0.7), (3, 0.5)), False),
        ("svit", ((1, 0.7), (3, 0.5)), ((1, 0.4), (2, 0.3)), True),
        ("dtop", ((1, 1.0), (3, 1.0)), ((2, 1.0), (3, 1.0)), False),
        ("dtop", ((1, 1.0), (3, 1.0)), ((1, 0.9), (3, 0.9)), True),
        ("vltp", ((1, 0.5), (3, 0.5)), ((2, 0.2),), True),
    ],
)
def test_a_methods_weights_are_taken_where_they_are_of_the_same_places(
    method: str, before: Stages, after: Stages, fits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "leanseg.engine.train.vltp.fitting")
    given = learner(stage("prune"), method=method, stages=before).model
    with torch.no_grad():
        for parameter in given.parameters():
            parameter.fill_(0.25)
    given.save_pretrained(tmp_path)
    model = learner(stage("prune"), method=method, stages=after).model
    load_folder(model, tmp_path)
    assert all(bool((parameter == 0.25).all()) for parameter in model.sam.parameters())
    assert all(bool((parameter == 0.25).all()) for parameter in model.prune_decoder.parameters()) == fits
    assert caplog.messages == (
        [] if fits else [f"the weights of {method} at {after} start anew: {tmp_path} has those of {method} at {before}"]
    )


def test_what_every_conversation_says_alike_is_one_token() -> None:
    made = tokenizer()
    for text in (" Please output segmentation mask.", " ASSISTANT:"):
        assert len(made.encode(text)) == 1
    assert made.backend.decode(made.encode("a zebra!")).strip() == "a zebra!"

"""A quick look at a model in training: gIoU on validation scenes, with all image tokens and with none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from leanseg.data.scenes import SceneOptions
from leanseg.data.scenes.splits import SPLITS, split
from leanseg.engine.train.batches import Batch, scene_batch
from leanseg.engine.train.packed import packed_language
from leanseg.metrics import GIoU
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.postprocess import best_mask
from leanseg.models.instructseg.prompt import build_prompt
from leanseg.models.instructseg.tokenizer import TextTokenizer


@contextmanager
def averaged(parameters: dict[str, nn.Parameter], shadow: dict[str, Tensor]) -> Iterator[None]:
    """Put the averaged weights into the model for the duration of the block."""
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(shadow[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(own[name])


@torch.no_grad()
def validate(model: InstructSeg, tokenizer: TextTokenizer, *, n_scenes: int = 48, texts: int = 4) -> dict[str, float]:
    """Return gIoU with all tokens and with none, of packed instructions without temporal tokens."""
    first, options = SPLITS["validation"].first_seed, SceneOptions(n_instructions=texts)
    seen = {"all": GIoU(), "blind": GIoU()}
    for start in range(0, n_scenes, 8):
        seeds = list(range(first + start, first + min(start + 8, n_scenes)))
        batch = scene_batch(seeds, model.config, options)
        targets = batch.targets.flatten(0, 1).numpy() > 0.5
        for name, metric in seen.items():
            metric.update(targets, _packed_masks(model, tokenizer, batch, visible=name == "all"))
    return {f"validation_{name}": metric.compute() for name, metric in seen.items()}


def _packed_masks(model: InstructSeg, tokenizer: TextTokenizer, batch: Batch, *, visible: bool) -> np.ndarray:
    """Return the answers bool (B*K,S,S) at the size of the mask branch's input."""
    features = model.encode_pixels(batch.pixels.to(model.device))
    tokens = model.project(model.encode_vision(batch.siglip.to(model.device)))
    prompts = [
        [build_prompt(tokenizer, k, t) for k, t in zip(ks, ts, strict=True)]
        for ks, ts in zip(batch.tasks, batch.texts, strict=True)
    ]
    states = packed_language(model, prompts, tokens if visible else tokens[:, :0])
    score = model.score_embedding(states.refer, features.res5.repeat_interleave(len(prompts[0]), 0))
    prediction = model.decode(states.queries.flatten(0, 1), score, features, last_only=True)[-1]
    height, width = batch.targets.shape[-2:]
    size = (height, width)
    best = [
        best_mask(prediction, row, valid_size=size, output_size=size, padded_size=size)
        for row in range(len(prediction.score_logits))
    ]
    return np.stack([one.mask.cpu().numpy() for one in best])


def validate_as_used(
    model: InstructSeg, tokenizer: TextTokenizer, *, scenes: int = 60, clips: int = 12
) -> dict[str, float]:
    """Return gIoU of pictures and clips through `segment`, temporal tokens included, and of pictures without tokens."""
    model.tokenizer = tokenizer
    seen = {"pictures": GIoU(), "blind": GIoU(), "clips": GIoU()}
    for source, count, rows in (
        ("validation", scenes, {"pictures": "all", "blind": "blind"}),
        ("clips_validation", clips, {"clips": "all"}),
    ):
        dataset = split(source)
        for number in range(count):
            sample = dataset[number * 4 + number % 4]
            for row, visual in rows.items():
                result = model.segment(
                    sample.clip, sample.instruction, task=sample.meta["task"], visual=visual, coverage=False
                )
                seen[row].update(sample.target, result.masks)
    return {f"validation_{name}": metric.compute() for name, metric in seen.items()}

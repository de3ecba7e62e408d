"""A quick look at a model in training: gIoU on validation scenes, with all image tokens and with none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from leanseg.data.scenes import SceneOptions
from leanseg.data.scenes.splits import SPLITS, split
from leanseg.engine.train.batches import Batch, scene_batch
from leanseg.engine.train.packed import packed_language
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.model import InstructSeg
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


def chosen_masks(prediction: MaskPrediction, size: int) -> Tensor:
    """(B,size,size) bool: the mask of the query with the highest class score times mask quality, as at inference."""
    masks = torch.nn.functional.interpolate(
        prediction.mask_logits.float(), size=(size, size), mode="bilinear", align_corners=False
    )
    binary = masks > 0
    quality = (masks.sigmoid() * binary).sum((2, 3)) / (binary.sum((2, 3)) + 1e-6)
    best = (prediction.score_logits.float().sigmoid() * quality).argmax(1)
    return binary[torch.arange(len(best)), best]


def ious(masks: Tensor, targets: Tensor) -> Tensor:
    """IoU of (B,H,W) bool masks, 1 where both are empty."""
    inter = (masks & targets).flatten(1).sum(1).float()
    union = (masks | targets).flatten(1).sum(1).float()
    return torch.where(union == 0, 1.0, inter / (union + 1e-5))


@torch.no_grad()
def validate(model: InstructSeg, tokenizer: TextTokenizer, *, n_scenes: int = 48, texts: int = 4) -> dict[str, float]:
    """Return gIoU with all tokens, blind, and by kind, of packed instructions without temporal tokens."""
    first, options = SPLITS["validation"].first_seed, SceneOptions(n_instructions=texts)
    device = str(model.device)
    values: dict[str, list[Tensor]] = {"all": [], "blind": []}
    for start in range(0, n_scenes, 8):
        seeds = list(range(first + start, first + min(start + 8, n_scenes)))
        batch = scene_batch(seeds, model.config, options)
        for name, share in (("all", 1), ("blind", 0)):
            values[name].append(_batch_ious(model, tokenizer, batch, device, visible=bool(share)))
    return {f"validation_{name}": float(torch.cat(parts).mean()) for name, parts in values.items()}


def _batch_ious(model: InstructSeg, tokenizer: TextTokenizer, batch: Batch, device: str, *, visible: bool) -> Tensor:
    features = model.encode_pixels(batch.pixels.to(device))
    tokens = model.project(model.encode_vision(batch.siglip.to(device)))
    prompts = [
        [build_prompt(tokenizer, k, t) for k, t in zip(ks, ts, strict=True)]
        for ks, ts in zip(batch.tasks, batch.texts, strict=True)
    ]
    states = packed_language(model, prompts, tokens if visible else tokens[:, :0])
    score = model.score_embedding(states.refer, features.res5.repeat_interleave(len(prompts[0]), 0))
    prediction = model.decode(states.queries.flatten(0, 1), score, features, last_only=True)[-1]
    targets = batch.targets.flatten(0, 1).to(device) > 0.5
    return ious(chosen_masks(prediction, targets.shape[-1]), targets)


def validate_as_used(
    model: InstructSeg, tokenizer: TextTokenizer, *, scenes: int = 60, clips: int = 12
) -> dict[str, float]:
    """Return gIoU of pictures and clips through `segment`, temporal tokens included, and of pictures without tokens."""
    model.tokenizer = tokenizer
    found: dict[str, list[float]] = {"pictures": [], "blind": [], "clips": []}
    for name, source, count in (("pictures", "validation", scenes), ("clips", "clips_validation", clips)):
        for number in range(count):
            sample = split(source)[number * 4 + number % 4]
            for row, visual in ((name, "all"), ("blind", "blind")):
                if row == "blind" and name == "clips":
                    continue
                result = model.segment(
                    sample.clip, sample.instruction, task=sample.meta["task"], visual=visual, coverage=False
                )
                found[row].append(float(ious(torch.from_numpy(result.masks), torch.from_numpy(sample.target)).mean()))
    return {f"validation_{name}": sum(values) / len(values) for name, values in found.items()}

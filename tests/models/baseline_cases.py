"""Every encoder method on a small SAM, with weights that make it drop some tokens and keep others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tests.models.sam_fixtures import tiny_sam
from tests.models.staged_reference import masked_block
from torch import Tensor, nn

from leanseg.models.sam.model import Sam
from leanseg.models.vltp.encoders import PrunedEncoder, Stages, encoder_weights, pruned_encoder

STAGES: dict[str, dict[int, float]] = {"cts": {0: 0.6}, "dtop": {1: 1.0, 3: 1.0}, "svit": {1: 0.7, 2: 0.5}}
OPTIONS: dict[str, dict[str, Any]] = {"dtop": {"confidence": 0.8}}
SEEDS = {"svit": 9}
UNGUIDED = ("cts", "dtop", "svit")


def weights(method: str, sam: Sam, stages: Stages | None = None) -> nn.Module | None:
    """Return weights of a method, drawn large enough to decide."""
    chosen = stages or STAGES.get(method)
    made = encoder_weights(method, sam.config, chosen)
    if made is not None:
        generator = torch.Generator().manual_seed(SEEDS.get(method, 7))
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))
        made.eval()
    return made


def encoder(method: str, sam: Sam, stages: Stages | None = None, **options: Any) -> PrunedEncoder:
    chosen = stages or STAGES.get(method)
    own = weights(method, sam, chosen)
    return pruned_encoder(method, sam, chosen, own, **{**OPTIONS.get(method, {}), **options})


def masked_blocks(sam: Sam, tokens: Tensor, kept: tuple[Tensor, ...], policy: str = "drop") -> Tensor:
    """Run all blocks on the whole map, each under its own mask (B, N) of who takes part."""
    for block, mask in zip(sam.image_encoder.blocks, kept, strict=True):
        tokens = masked_block(block, tokens, mask.view(tokens.shape[:3]), policy)
    return tokens


def sams() -> Iterator[tuple[str, Sam]]:
    """Windows that divide the grid, that do not, that are larger; even and odd grids; patches no power of two."""
    yield "7x7 in windows of 3", tiny_sam()
    yield "8x8 in windows of 3", tiny_sam(image_size=64)
    yield "6x6 in windows of 3", tiny_sam(image_size=48)
    yield "5x5 in windows of 7", tiny_sam(image_size=35, patch_size=7, window=7)
    yield "2x2 in windows of 3", tiny_sam(image_size=12, patch_size=6)

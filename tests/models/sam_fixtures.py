"""A SAM that is small enough for tests, with weights that make every part matter."""

from __future__ import annotations

from typing import Any

import torch

from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.model import Sam

SIZES = {
    "image_size": 56, "patch_size": 8, "width": 24, "depth": 4, "heads": 2, "window": 3, "global_blocks": (1, 3),
    "mlp_ratio": 2, "dim": 16, "decoder_heads": 2, "decoder_hidden": 24, "score_hidden": 16,
}  # fmt: skip


def tiny_config(**changes: Any) -> SamConfig:
    return SamConfig(**{**SIZES, **changes})


def tiny_sam(seed: int = 0, **changes: Any) -> Sam:
    """Return a SAM of 7 x 7 tokens in windows of 3, so that windows at the edge are filled up."""
    generator = torch.Generator().manual_seed(seed)
    sam = Sam(tiny_config(**changes))
    with torch.no_grad():
        for name, tensor in sam.state_dict().items():
            spread = 0.5 if "rel_pos" in name or "bias" in name else 0.2
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=generator))
    return sam.eval()


def pixels(sam: Sam, batch: int = 1, seed: int = 1) -> torch.Tensor:
    side = sam.config.image_size
    return torch.randn((batch, 3, side, side), generator=torch.Generator().manual_seed(seed))

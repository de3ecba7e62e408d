"""Small layers that SAM's encoder and decoders share."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.shapes import Float

EPSILON = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a map (B, C, h, w), epsilon 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them; `widths` are input, hidden and output sizes."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            features = layer(features if index == 0 else F.relu(features))
        return features


def neck(width: int, dim: int) -> nn.Sequential:
    """Return SAM's way from tokens (B, D, h, w) to a map (B, C, h, w): 1x1 and 3x3 convolution, each normalised."""
    return nn.Sequential(
        nn.Conv2d(width, dim, kernel_size=1, bias=False),
        LayerNorm2d(dim),
        nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(dim),
    )

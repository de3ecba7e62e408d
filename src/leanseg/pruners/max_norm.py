"""Largest norm: the tokens whose features are longest."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import VisualTokens
from leanseg.core.similarity import precise
from leanseg.pruners.base import ScorePruner
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class MaxNorm(ScorePruner):
    """Keep the tokens whose features have the largest Euclidean norm.

    Needs no cue and compares no tokens: the cheapest score that reads the features at all, O(N D), and so the yardstick
    for those that cost more. float64 inside; the lowest index wins ties.
    """

    name: ClassVar[str] = "max_norm"
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"

    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return the norm of each token's features, relative to the largest entry of its row."""
        rows = []
        for row in tokens.features:
            # Scaled first, so that squares neither overflow nor vanish.
            peak = precise(row.abs().amax())
            rows.append((precise(row) / torch.where(peak > 0.0, peak, 1.0)).norm(dim=1))
        return torch.stack(rows)

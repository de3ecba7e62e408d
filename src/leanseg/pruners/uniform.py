"""Uniform selection: tokens spread evenly over the grid, whatever they show."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.pruners.base import Pruner


@dataclass(frozen=True, kw_only=True)
class Uniform(Pruner):
    """Keep a regular lattice of tokens, for any count K.

    The grid is cut into R bands of rows, R = round(sqrt(K H / W)) as far as K tokens fit, and the K tokens are shared
    among the bands so that no two differ by more than one. Band r lies on row floor((r + 1/2) H / R); the j-th of its n
    tokens on column floor((j + 1/2) W / n). Blind to the features; not nested. Cost O(K).
    """

    name: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "baseline"

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Return the same lattice for every row."""
        indices = torch.tensor(lattice(tokens.grid, k), device=tokens.features.device)
        return Selection(indices.repeat(tokens.batch, 1), tokens.n_tokens)


def lattice(grid: Grid, k: int) -> list[int]:
    """Return `k` distinct token indices in ascending order, spread evenly over `grid`.

    >>> lattice(Grid(4, 4), 4)
    [5, 7, 13, 15]
    """
    height, width = grid.height, grid.width
    # At least so many bands that no row needs more tokens than it has, at most one per row.
    fewest, most = -(-k // width), min(height, k)
    bands = min(max(round((k * height / width) ** 0.5), fewest), most)
    indices = []
    for band in range(bands):
        row = (2 * band + 1) * height // (2 * bands)
        count = (band + 1) * k // bands - band * k // bands
        indices += [row * width + (2 * place + 1) * width // (2 * count) for place in range(count)]
    return indices

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
    tokens on column floor((j + 1/2) W / n). On a grid of several frames the tokens are first shared among these in the
    same way. Blind to the features; not nested. Cost O(K).
    """

    name: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Return the same lattice for every row."""
        indices = torch.tensor(lattice(tokens.grid, k), device=tokens.features.device)
        return Selection(indices.repeat(tokens.batch, 1), tokens.n_tokens)


def lattice(grid: Grid, k: int) -> list[int]:
    """Return `k` distinct token indices in ascending order, spread evenly over the frames of `grid` and over each.

    >>> lattice(Grid(4, 4), 4), lattice(Grid(1, 4, frames=3), 4)
    ([5, 7, 13, 15], [2, 6, 9, 11])
    """
    frame = grid.frame
    indices = []
    for time, count in _shares(grid.frames, min(grid.frames, k), k):
        indices += [time * frame.n_tokens + index for index in _frame_lattice(frame, count)]
    return indices


def _frame_lattice(grid: Grid, k: int) -> list[int]:
    height, width = grid.height, grid.width
    # At least so many bands that no row needs more tokens than it has, at most one per row.
    fewest, most = -(-k // width), min(height, k)
    bands = min(max(round((k * height / width) ** 0.5), fewest), most)
    indices = []
    for row, count in _shares(height, bands, k):
        indices += [row * width + (2 * place + 1) * width // (2 * count) for place in range(count)]
    return indices


def _shares(length: int, bands: int, k: int) -> list[tuple[int, int]]:
    """Return the middle of each of `bands` equal parts of 0..length-1, and its share of `k` tokens."""
    return [
        ((2 * band + 1) * length // (2 * bands), (band + 1) * k // bands - band * k // bands) for band in range(bands)
    ]

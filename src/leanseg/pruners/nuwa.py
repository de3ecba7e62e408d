"""Nuwa, first stage: the most attended token of every region, with what lies around it gathered in."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.similarity import cosines, precise, unit
from leanseg.errors import SpecError
from leanseg.pruners._cues import cue
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor

# What the paper's three budgets have in common: 112, 224 and 336 of 144, 288 and 432 candidates stay.
_STAY, _OF = 7, 9
# On CLIP's 24 x 24 grid a token reaches sqrt(280) cells far; here so much of any grid's diagonal.
_REACH = (280.0 / (2.0 * 23.0**2)) ** 0.5


@dataclass(frozen=True, kw_only=True)
class Nuwa(Pruner):
    """Keep attended tokens as anchors all over the picture, and let the less attended ones gather their surroundings.

    Separation: the grid is cut into regions of s x s cells, the n tokens of each that receive most attention are
    candidates. Alignment: the K candidates that receive most attention stay, at their own places. Aggregation: anchors
    above the `pure_quantile` of the anchors' attention stay pure; any other becomes the weighted mean of itself (weight
    1) and all dropped tokens j, with weight max(0, cos(x_i, x_j)) max(0, 1 - distance_ij / reach). `owner`: the anchor
    in which a dropped token weighs most, -1 if it weighs in none. Cost O(N log N + K N D).

    `region`: s, or None = the largest s from 2 on at which one candidate per region is enough. n is then the smallest
    number that leaves 9/7 as many candidates as K, or all tokens. `pure_quantile`: 0 = all but the lowest are pure, 1 =
    none is. On joint rows regions and surroundings are each frame's own. The lowest index wins ties.

    Differs from the paper: its second stage, text-guided dropping inside the language model, is not here. Attention is
    what each token receives, not a class token's; cosines are of the features given, not of the mean of layers 16 to
    24. Any grid and any K: the paper has 24 x 24, s = 2 and n = 1, 2, 3 for K = 112, 224, 336, which the rules above
    reproduce; its reach of sqrt(280) cells is 0.514 of that grid's diagonal, and so of any grid's. Where public words
    are silent: the sum is divided by its weights, so that features keep their size; only dropped tokens are gathered;
    the quantile is over the anchors.
    """

    name: ClassVar[str] = "nuwa"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    paper: ClassVar[str] = "arXiv 2602.02951 (Nuwa, ICLR 2026), stage 1"
    licence: ClassVar[str] = "no licence file found, code not opened"
    merges: ClassVar[bool] = True

    region: int | None = None
    pure_quantile: float = 0.55

    def check(self) -> None:
        """Check the options."""
        size, share = self.region, self.pure_quantile
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise SpecError(f"region is {size!r}; it must be a whole number of cells, at least 1, or None")
        if not isinstance(share, float) or not 0.0 <= share <= 1.0:
            raise SpecError(f"pure_quantile is {share!r}; it must lie in 0..1: anchors above it gather nothing")

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Choose anchors in each row, and gather."""
        regions, per_region = separate(tokens.grid, k, self.region)
        regions = regions.to(tokens.features.device)
        rows = []
        for features, attention in zip(tokens.features, cue(tokens, "attention"), strict=True):
            wide = precise(attention)
            order = anchors(wide, regions, per_region, k)
            indices = order.sort().values
            pure = wide[indices] > torch.quantile(wide[indices], self.pure_quantile)
            weights = surroundings(features, indices, tokens.grid)
            weights.masked_fill_(pure[:, None], 0.0)
            weights[torch.arange(k, device=order.device), indices] = 1.0
            gathered = (weights / weights.sum(dim=1, keepdim=True)) @ precise(features)
            owner = torch.where(weights.amax(dim=0) > 0.0, weights.argmax(dim=0), -1)
            rows.append(
                Selection(
                    indices[None],
                    tokens.n_tokens,
                    owner=owner[None],
                    features=gathered.to(features.dtype)[None],
                    order=order[None],
                )
            )
        return Selection.stack(rows)


def separate(grid: Grid, k: int, size: int | None = None) -> tuple[Int[Tensor, " n"], int]:
    """Return the region of each token, and how many candidates each region puts up for `k` anchors.

    >>> [(int(regions.max()) + 1, n) for regions, n in (separate(Grid(24, 24), k) for k in (112, 224, 336))]
    [(144, 1), (144, 2), (144, 3)]
    """
    frame = grid.frame

    def bands(side: int) -> tuple[int, int]:
        return -(-frame.height // side), -(-frame.width // side)

    if size is None:
        size, largest = 2, max(frame.height, frame.width)
        while size < largest and _STAY * grid.frames * bands(size + 1)[0] * bands(size + 1)[1] >= _OF * k:
            size += 1
    down, across = bands(size)
    index = torch.arange(frame.n_tokens)
    region = index // frame.width // size * across + index % frame.width // size
    frames = torch.arange(grid.frames)[:, None] * (down * across)
    regions = (frames + region).flatten()
    held = regions.bincount()
    per_region = 1
    while per_region < size * size and _STAY * int(held.clamp_max(per_region).sum()) < _OF * k:
        per_region += 1
    return regions, per_region


def anchors(attention: Float[Tensor, " n"], regions: Int[Tensor, " n"], per_region: int, k: int) -> Int[Tensor, " k"]:
    """Return the `k` tokens that receive most attention among the first `per_region` of each region, in that order."""
    ranked = attention.argsort(descending=True, stable=True)
    by_region = ranked[regions[ranked].argsort(stable=True)]
    held = regions.bincount()
    begins = (held.cumsum(0) - held)[regions[by_region]]
    rank = torch.empty_like(ranked)
    rank[by_region] = torch.arange(len(ranked), device=ranked.device) - begins
    return ranked[rank[ranked] < per_region][:k]


def surroundings(features: Float[Tensor, "n d"], kept: Int[Tensor, " k"], grid: Grid) -> Float[Tensor, "k n"]:
    """Return with what weight each dropped token goes into each of the `kept` ones: alike, near, of the same frame."""
    frame = grid.frame
    directions = unit(features)
    index = torch.arange(len(features), device=features.device)
    cell = index % frame.n_tokens
    place = torch.stack([cell // frame.width, cell % frame.width], dim=1).to(directions.dtype)
    distance = (place[kept, None] - place).norm(dim=2)
    reach = _REACH * ((frame.height - 1) ** 2 + (frame.width - 1) ** 2) ** 0.5
    near = (1.0 - distance / max(reach, 1.0)).clamp_min(0.0)
    weights = cosines(directions[kept], directions).clamp_min(0.0) * near
    weights *= index[kept, None] // frame.n_tokens == index // frame.n_tokens
    weights[:, kept] = 0.0
    return weights

"""Reserve: some places are kept whatever the method inside chooses."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.kept_grid import KeptGrid
from leanseg.errors import SpecError, unknown_name
from leanseg.pruners._compose import check_share, chosen, filled
from leanseg.pruners.base import Pruner, Wrapper
from leanseg.pruners.uniform import lattice
from leanseg.shapes import Float, Tensor

ANCHORS = ("grid", "rotary")


@dataclass(frozen=True, kw_only=True)
class Reserve(Wrapper):
    """Keep a share of the tokens for fixed places, and fill up with the best ranked others of the method inside.

    Of K tokens R = round(share K) are reserved; `inner` chooses K, and its first K - R that are not reserved follow.
    Its rank is its pick order, or an even spread over its raster where it has none. If it merges, what it merged into
    a slot for which there is no room is dropped, and a reserved token that it kept has its merged feature.

    `anchors="grid"`: a regular lattice (`uniform`), over all frames of a clip. `anchors="rotary"`: the positions from
    which a language model with rotary embeddings reads where things are, after IVC-Prune: those with the largest mean
    over the frequencies w_i = theta^(-2i / rotary_dim) of cos(p w_i), and as many with the largest mean of sin(p w_i),
    p = `first_position` + index of the token. `rotary_dim` is the rotated part of a head: 32 of 80 in Phi-2.

    Differs from IVC-Prune: the positions are added to any method before the language model, where the paper selects
    inside it, together with two prompt-aware parts; R is exact and not a share of all tokens; half of R goes to the
    cosine (the larger half), the rest to the best sines that are not among them.
    """

    name: ClassVar[str] = "reserve"
    paper: ClassVar[str] = "ours; rotary anchors after arXiv 2602.03060 (IVC-Prune, ICLR 2026)"
    licence: ClassVar[str] = "no licence file found, code not opened"
    extension: ClassVar[bool] = True

    inner: Pruner
    share: float = 0.25
    anchors: str = "grid"
    rotary_dim: int = 32
    theta: float = 10000.0
    first_position: int = 0

    def check_options(self) -> None:
        """Check the options; what comes out is what the method inside makes of it."""
        check_share("share", self.share)
        if self.anchors not in ANCHORS:
            raise SpecError(unknown_name("anchors", str(self.anchors), ANCHORS))
        if not _is_whole(self.rotary_dim) or self.rotary_dim < 2 or self.rotary_dim % 2:
            raise SpecError(f"rotary_dim is {self.rotary_dim!r}; it must be an even number of at least 2")
        if not isinstance(self.theta, float) or not 1.0 < self.theta < float("inf"):
            raise SpecError(f"theta is {self.theta!r}; it must be a number above 1 (10000 as a rule)")
        if not _is_whole(self.first_position) or self.first_position < 0:
            raise SpecError(f"first_position is {self.first_position!r}; it must be a whole number of at least 0")
        self._declare(
            merges=self.inner.merges,
            fixed_budget=self.inner.fixed_budget,
            nested=self.inner.nested and self.share == 0.0,
        )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Reserve, then fill up."""
        reserved = round(self.share * k)
        places = self._places(tokens.grid, reserved) if reserved else []
        anchors = torch.tensor(places, dtype=torch.int64, device=tokens.features.device).repeat(tokens.batch, 1)
        return filled(tokens, Selection.from_order(anchors, tokens.n_tokens), chosen(self.inner, tokens, k), k)

    def _places(self, grid: Grid, count: int) -> list[int]:
        if self.anchors == "grid":
            return lattice(grid, count)
        index = grid.kept if isinstance(grid, KeptGrid) else range(grid.n_tokens)
        positions = torch.tensor(index, dtype=torch.float64) + self.first_position
        return rotary_anchors(positions, count, self.rotary_dim, self.theta)


def rotary_anchors(positions: Float[Tensor, " n"], count: int, rotary_dim: int, theta: float) -> list[int]:
    """Return the `count` tokens whose positions rotary embeddings set apart: best cosines first, then best sines.

    >>> rotary_anchors(torch.arange(9.0), 4, rotary_dim=32, theta=10000.0)
    [0, 1, 8, 7]
    """
    rates = theta ** (-torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim)
    angles = positions.to(torch.float64)[:, None] * rates
    by_cosine, by_sine = (
        values.mean(dim=1).argsort(descending=True, stable=True).tolist() for values in (angles.cos(), angles.sin())
    )
    picked = by_cosine[: (count + 1) // 2]
    return picked + [index for index in by_sine if index not in picked][: count // 2]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

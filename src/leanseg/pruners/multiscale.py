"""Two scales: a coarse grid of averaged tokens over the whole picture, and single tokens that another method picks."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.errors import SpecError
from leanseg.pruners._compose import check_share, chosen, filled
from leanseg.pruners.base import Pruner, Wrapper
from leanseg.pruners.evtp import EVTP
from leanseg.pruners.uniform import lattice
from leanseg.shapes import Int, Tensor

# Inside a wrapper its keep ratio does not matter.
FINE = EVTP(keep_ratio=1.0)


@dataclass(frozen=True, kw_only=True)
class Multiscale(Wrapper):
    """Keep a coarse grid of averaged tokens over the whole picture, and single tokens where another method picks them.

    Of K tokens, round(coarse_share K) are coarse (one at least, where the share is not 0): those of `uniform`'s
    lattice, each the token nearest to the middle of its cell. A cell is what lies nearer to its token than to another
    coarse one, in steps of the grid, the lowest index among equals. The others are the best ranked of `inner` that are
    no coarse ones. A coarse token owns its cell but for the fine tokens in it, and its features are the mean of what it
    owns; a fine token owns itself and keeps its features. So each token of the picture counts once, in one kept token.

    In a joint row each frame has its coarse tokens, as long as there are so many, and its own cells. `inner` must not
    merge. Cost: inner's at K, and O(coarse_share K N).

    Ours: it answers what farthest-first leaves of a large flat area, a few extremes of it: here it is present as its
    mean too. Not claimed: that a model trained on single tokens reads means as well.
    """

    name: ClassVar[str] = "multiscale"
    paper: ClassVar[str] = "ours; a pooled grid beside selected tokens"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    merges: ClassVar[bool] = True

    inner: Pruner = FINE
    coarse_share: float = 0.25

    def check_options(self) -> None:
        """Check the fields."""
        check_share("coarse_share", self.coarse_share)
        if self.inner.merges:
            raise SpecError(
                f"multiscale merges the cells of its coarse grid, and {self.inner.spec()} merges as well; choose a "
                "method that does not, as evtp or attention (leanseg pruners tells which do)"
            )
        coarse = self.coarse_share > 0.0
        self._declare(merges=coarse, nested=self.inner.nested and not coarse, fixed_budget=self.inner.fixed_budget)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Choose both scales, then average the cells."""
        n_coarse = max(1, round(self.coarse_share * k)) if self.coarse_share else 0
        fine = chosen(self.inner, tokens, k)
        if not n_coarse:
            return fine
        coarse = torch.tensor(lattice(tokens.grid, n_coarse))
        first = Selection.from_order(coarse.to(fine.device).repeat(tokens.batch, 1), tokens.n_tokens)
        kept = filled(tokens, first, fine, k)
        # Each token's representative: its cell's coarse one, but for the fine ones.
        cells = coarse[cells_of(tokens.grid, coarse)].to(fine.device).repeat(tokens.batch, 1)
        owner = torch.searchsorted(kept.indices, cells.scatter(1, kept.indices, kept.indices))
        owned = Selection(kept.indices, tokens.n_tokens, owner=owner)
        features = tokens.features.detach()
        # Row by row, so that a row's sums do not depend on its batch.
        means = [owned.row(row).pool(features[row : row + 1]) for row in range(tokens.batch)]
        return replace(owned, features=torch.cat(means))


def cells_of(grid: Grid, coarse: Int[Tensor, " c"]) -> Int[Tensor, " n"]:
    """Return for each token the position in `coarse` of the nearest coarse token, in whole steps of the grid."""
    index = torch.arange(grid.n_tokens)
    frame, cell = index // grid.frame.n_tokens, index % grid.frame.n_tokens
    places = torch.stack([frame, cell // grid.width, cell % grid.width], dim=1)
    steps = (places[:, None] - places[coarse]).square()
    # A frame away is farther than anything within the frame.
    steps[..., 0] *= grid.height**2 + grid.width**2
    return steps.sum(dim=2).argmin(dim=1)

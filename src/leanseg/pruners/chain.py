"""Chain: one method chooses, another chooses among what is left."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.kept_grid import KeptGrid
from leanseg.errors import BudgetError, SelectionError
from leanseg.pruners._compose import chosen, ranked
from leanseg.pruners.base import Pruner, Wrapper
from leanseg.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class Chain(Wrapper):
    """Keep by one method at ITS OWN keep_ratio, then by another so many of those that K are left in all.

    `first` leaves M >= K of the N tokens. `second` sees these M alone, at the coordinates and times that they had and
    with their cues, so that `chain(first=attention(keep_ratio=0.5), second=evtp())` covers the attended half. If
    `first` merges, `second` sees the merged features (and the cues of each slot's own token), and owners are followed
    through both (`Selection.then`). At K = N nothing is dropped.

    Methods that need a whole grid (`uniform`, `nuwa`, `evs`, `multiscale`, `smooth`, a grid in `reserve`, a clip's
    `evtp_video` with a `key_share`) cannot be second: what is left is none, and they say so.
    """

    name: ClassVar[str] = "chain"
    paper: ClassVar[str] = "ours"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True

    first: Pruner
    second: Pruner

    def check_options(self) -> None:
        """Take over what holds for the methods inside."""
        merges = self.first.merges or self.second.merges
        self._declare(merges=merges, nested=self.second.nested and not merges, fixed_budget=self.second.fixed_budget)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Select row by row, as what is left lies elsewhere in each."""
        rows = [self._select_row(tokens.row(index), k) for index in range(tokens.batch)]
        if len({row.k for row in rows}) > 1:
            raise SelectionError(
                f"the rows keep {[row.k for row in rows]} tokens, as {self.second.spec()} has no fixed budget; prune "
                "row by row"
            )
        return Selection.stack(rows)

    def _select_row(self, tokens: VisualTokens, k: int) -> Selection:
        first = chosen(self.first, tokens, self.first.count(tokens.n_tokens))
        if first.k < k:
            raise BudgetError(
                f"{self.first.spec()} keeps {first.k} of {tokens.n_tokens} tokens, fewer than the {k} that the chain "
                "keeps; raise its keep_ratio or lower the chain's"
            )
        if first.k == tokens.n_tokens:
            return chosen(self.second, tokens, k)
        rest = left(tokens, first)
        if k < first.k:
            return first.then(chosen(self.second, rest, k))
        everything = Selection.identity(1, k, tokens.features.device)
        return first.then(dataclasses.replace(everything, order=self._order_of_all(rest)))

    def _order_of_all(self, rest: VisualTokens) -> Int[Tensor, "b m"] | None:
        """Return a nested second's order of everything that is left: its order of all but one, and that one."""
        if not self.nested:
            return None
        rank = torch.arange(rest.n_tokens, device=rest.features.device)[None]
        order = rank[:, :0]
        if rest.n_tokens > 1:
            order = ranked(self.second.select(rest, rest.n_tokens - 1))
        return torch.cat([order, rank[:, ~torch.isin(rank[0], order)]], dim=1)


def left(tokens: VisualTokens, selection: Selection) -> VisualTokens:
    """Return what a selection leaves of one row: merged features if any, else the kept ones, at their own places."""

    def kept(cue: Float[Tensor, "b n *rest"] | None) -> Float[Tensor, "b k *rest"] | None:
        return None if cue is None else selection.gather(cue)

    grid = tokens.grid
    indices = selection.indices[0]
    if isinstance(grid, KeptGrid):
        indices = torch.tensor(grid.kept, device=indices.device)[indices]
    return VisualTokens(
        features=selection.apply(tokens.features),
        grid=KeptGrid(grid.height, grid.width, grid.frames, kept=tuple(indices.tolist())),
        attention=kept(tokens.attention),
        keys=kept(tokens.keys),
        guidance=tokens.guidance,
        key_frame=tokens.key_frame,
    )

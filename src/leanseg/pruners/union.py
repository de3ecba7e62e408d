"""Union: one method's choice, filled up with another's."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens
from leanseg.pruners._compose import check_share, chosen, filled
from leanseg.pruners.base import Pruner, Wrapper


@dataclass(frozen=True, kw_only=True)
class Union(Wrapper):
    """Keep what either of two methods chooses, exactly K in all: the first one's share, then the second one's others.

    `first` chooses A = round(share K) tokens, as if they were its whole budget; `second` chooses K, and its best ranked
    K - A that `first` has not follow. Rank is pick order, or an even spread over the raster where there is none.

    Where methods merge, a token has the merged feature that `first` gave it, else that of `second`, and owns what it
    owns there; what `second` merged into a slot for which there is no room is dropped.
    """

    name: ClassVar[str] = "union"
    paper: ClassVar[str] = "ours"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True

    first: Pruner
    second: Pruner
    share: float = 0.5

    def check_options(self) -> None:
        """Check the share; what comes out is what the methods inside make of it."""
        check_share("share", self.share)
        self._declare(
            merges=self.first.merges or self.second.merges,
            fixed_budget=self.first.fixed_budget and self.second.fixed_budget,
            nested=self.second.nested if self.share == 0.0 else self.first.nested and self.share == 1.0,
        )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Let the first choose its share, then fill up."""
        share = round(self.share * k)
        if share == 0:
            return chosen(self.second, tokens, k)
        first = chosen(self.first, tokens, share)
        if share == k:
            return first
        return filled(tokens, first, chosen(self.second, tokens, k), k)

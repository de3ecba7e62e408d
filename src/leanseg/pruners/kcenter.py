"""Plain k-center: farthest-first selection on the features alone."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens, kcenter
from leanseg.pruners._chance import check_seed
from leanseg.pruners._start import check_start, first_pick
from leanseg.pruners.base import Pruner


@dataclass(frozen=True, kw_only=True)
class KCenter(Pruner):
    """Keep tokens that cover the features: each pick is the one farthest from all picks (Euclidean).

    The covering radius is at most twice the smallest possible (Gonzalez 1985). It gathers picks in textured areas and
    leaves flat ones empty, which is what EVTP's coordinates mend. Cost O(min(K, N) N D).

    `start`: "mean" (nearest to the mean feature), "first", "far", "random" (by `seed`) or a token's index.
    """

    name: ClassVar[str] = "kcenter"
    paper: ClassVar[str] = "Gonzalez 1985, Clustering to minimize the maximum intercluster distance"
    nested: ClassVar[bool] = True

    start: int | str = "mean"
    seed: int = 0

    def check(self) -> None:
        """Check the fields."""
        check_start(self.start)
        check_seed(self.seed)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Run greedy k-center on the features."""
        first = first_pick(self.start, self.seed, tokens, tokens.features.detach())
        order, _ = kcenter.select(tokens.features, k, first)
        return Selection.from_order(order, tokens.n_tokens)

"""Random selection: the yardstick that any method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.pruners._chance import check_seed, row_generator
from leanseg.pruners.base import Pruner


@dataclass(frozen=True, kw_only=True)
class Random(Pruner):
    """Keep a uniformly random subset of the tokens.

    The draw depends on `seed` and on the row's content: a picture alone gives what it gives in a batch, frames that
    differ get different subsets, and the global random state is neither read nor changed. Cost O(N D).
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"
    nested: ClassVar[bool] = True

    seed: int = 0

    def check(self) -> None:
        """Check the seed."""
        check_seed(self.seed)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Take the first `k` of a random permutation of each row."""
        n_tokens = tokens.n_tokens
        rows = [torch.randperm(n_tokens, generator=row_generator(self.seed, row))[:k] for row in tokens.features]
        return Selection.from_order(torch.stack(rows).to(tokens.features.device), n_tokens)

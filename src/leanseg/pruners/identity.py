"""Identity: every token stays."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens
from leanseg.pruners.base import Pruner


@dataclass(frozen=True, kw_only=True)
class Identity(Pruner):
    """Keep every token, whatever `keep_ratio` says: the unpruned model under the same interface."""

    name: ClassVar[str] = "identity"
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"
    fixed_budget: ClassVar[bool] = False

    keep_ratio: float = 1.0

    def count(self, n_tokens: int) -> int:
        """Return `n_tokens`."""
        return n_tokens

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Return the identity."""
        return Selection.identity(tokens.batch, tokens.n_tokens, tokens.features.device)

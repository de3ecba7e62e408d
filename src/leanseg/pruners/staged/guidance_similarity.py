"""Tokens that resemble the guidance: the steered choice that needs no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F

from leanseg.core import VisualTokens, keep_count
from leanseg.errors import SpecError, TokensError
from leanseg.pruners._cues import cue
from leanseg.pruners.base import ScorePruner
from leanseg.shapes import Float, Tensor

# Features (B, N, D) -> (B, N, G), as wide as the guidance.
Projection = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class GuidanceSimilarity(ScorePruner):
    """Keep the tokens whose features have the largest cosine with the guidance, in float32.

    `projection`: brings features to the guidance's space; None = they share one. Counted is what is dropped, as stages
    count. Cost O(N G) besides the projection.
    """

    name: ClassVar[str] = "guidance_similarity"
    cues: ClassVar[tuple[str, ...]] = ("guidance",)
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"

    projection: Projection | None = field(default=None, repr=False)

    def check(self) -> None:
        """Check that the projection can be called."""
        if self.projection is not None and not callable(self.projection):
            raise SpecError(f"projection is {self.projection!r}; expected a module from features to guidance, or None")

    def count(self, n_tokens: int) -> int:
        """Return how many stay, where what is dropped is rounded down."""
        return keep_count(n_tokens, self.keep_ratio, dropped=True)

    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return the cosine of each token with its row's guidance."""
        guidance = cue(tokens, "guidance")
        features = tokens.features if self.projection is None else self.projection(tokens.features)
        if features.shape[2] != guidance.shape[1]:
            raise TokensError(
                f"{self.spec()} compares features {features.shape[2]} wide with guidance {guidance.shape[1]} wide; "
                "give a projection from the one to the other"
            )
        return F.cosine_similarity(features.detach().float(), guidance[:, None].float(), dim=2)

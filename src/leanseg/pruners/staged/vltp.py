"""VLTP's choice of tokens: a small decoder, steered by the language model's [SEG], scores every image token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, cast

from leanseg.core import Grid, VisualTokens, keep_count
from leanseg.errors import SpecError
from leanseg.pruners.base import ScorePruner
from leanseg.shapes import Float, Tensor

# (features (B, N, D), grid, guidance (B, G)) -> logits (B, N); models.vltp.prune_decoder.PruneScorer is one.
Scorer = Callable[[Tensor, Grid, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class LearnedPruner(ScorePruner):
    """Keep the tokens with the highest logits of a trained scorer (VLTP, section 4.2).

    `scorer`: a module or function that takes features (B, N, D), their grid and guidance (B, G), and returns logits
    (B, N). One scorer may serve several stages. Ranked on float32 logits, which a sigmoid in half precision would make
    equal. Counted is what is dropped: N - floor((1 - keep_ratio) N).

    Differs from the paper: Eq. 11 takes all scores above a threshold, here exactly K stay, the lowest index first among
    equals.
    """

    name: ClassVar[str] = "vltp"
    cues: ClassVar[tuple[str, ...]] = ("guidance",)
    paper: ClassVar[str] = "arXiv:2409.08464"
    licence: ClassVar[str] = "Apache-2.0"

    scorer: Scorer = field(repr=False)

    def check(self) -> None:
        """Check that there is something to call."""
        if not callable(self.scorer):
            raise SpecError(
                f"scorer is {self.scorer!r}; expected a module that takes features, grid and guidance and returns one "
                "logit per token; give PruneScorer(...)"
            )

    def count(self, n_tokens: int) -> int:
        """Return how many stay, where what is dropped is rounded down."""
        return keep_count(n_tokens, self.keep_ratio, dropped=True)

    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return the scorer's logits in float32."""
        self.check_tokens(tokens)
        return self.scorer(tokens.features, tokens.grid, cast(Tensor, tokens.guidance)).float()

"""SCOPE: the tokens that best stand for all others, weighed by the attention they receive."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.similarity import cosines, precise, unit
from leanseg.errors import SpecError, TokensError
from leanseg.pruners._cues import cue
from leanseg.pruners._greedy import NEGLIGIBLE, first_of_best
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class SCOPE(Pruner):
    """Keep salient tokens that cover the others: facility location, each gain weighed by the token's attention.

    Token i is covered by the kept set S to c_i = max(0, max over s in S of cos(x_i, x_s)). Each pick is the token j
    with the largest gain_j a_j^alpha, gain_j = sum over i of max(0, cos(x_i, x_j) - c_i), a_j the attention it
    receives. Gains are updated where coverage changed only: O(N^2 D) and as a rule a few N^2 further steps.

    `alpha` weighs saliency against coverage: 1 as in the paper, 0 is facility location alone and needs no attention.

    float64 inside; cosines that agree to ten decimals are equal, scores that differ by less than 1e-12 of the first
    one are a tie and go to the lowest index, also when nothing is left to cover.

    Differs from the paper: models give what each token receives from all others, because SigLIP has no class token;
    give a class token's attention as `VisualTokens(attention=...)` for the published rule. The paper's code and this
    one begin with a coverage of 0, so that opposite features (negative cosine) are never covered.
    """

    name: ClassVar[str] = "scope"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    paper: ClassVar[str] = "arXiv 2510.24214 (SCOPE, NeurIPS 2025)"
    licence: ClassVar[str] = "no licence file found, code not opened"
    nested: ClassVar[bool] = True

    alpha: float = 1.0

    def check(self) -> None:
        """Check alpha; without it, no attention is needed."""
        if not isinstance(self.alpha, float) or not 0.0 <= self.alpha < float("inf"):
            raise SpecError(f"alpha is {self.alpha!r}; it must be a number of at least 0 (0 = coverage alone)")
        self._declare(cues=("attention",) if self.alpha else ())

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Search greedily in each row."""
        rows = []
        for index, features in enumerate(tokens.features):
            directions = unit(features)
            weights = directions.new_ones(len(directions))
            if self.alpha:
                weights = saliency(cue(tokens, "attention")[index], self.alpha)
            rows.append(best_representatives(cosines(directions, directions), weights, k))
        return Selection.from_order(torch.stack(rows), tokens.n_tokens)


def saliency(attention: Float[Tensor, " n"], alpha: float) -> Float[Tensor, " n"]:
    """Return attention^alpha, 1 for the token that receives most."""
    wide = precise(attention)
    if bool((wide < 0.0).any()):
        raise TokensError(f"attention is as low as {float(wide.min()):g}; scope weighs by it, and needs at least 0")
    peak = wide.amax()
    return (wide / torch.where(peak > 0.0, peak, 1.0)) ** alpha


def best_representatives(similarity: Float[Tensor, "n n"], weights: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """Return `k` indices, each the one whose coverage gain times weight is the largest.

    >>> best_representatives(torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.2], [0.0, 0.2, 1.0]]), torch.ones(3), 2)
    tensor([1, 2])
    """
    gains = similarity.clamp_min(0.0).sum(dim=0)
    negligible = NEGLIGIBLE * gains.amax()
    slack = NEGLIGIBLE * (gains * weights).amax()
    covered = torch.zeros_like(gains)
    taken = torch.zeros(len(gains), dtype=torch.bool, device=gains.device)
    picks = []
    for _ in range(k):
        pick = first_of_best((gains * weights).masked_fill(taken, -torch.inf), slack)
        picks.append(pick)
        taken.index_fill_(0, pick, True)
        to_pick = similarity.index_select(0, pick)[0]
        better = (to_pick > covered).nonzero()[:, 0]
        rows = similarity[better]
        before = (rows - covered[better, None]).clamp_min_(0.0)
        after = (rows - to_pick[better, None]).clamp_min_(0.0)
        gains = gains - before.sub_(after).sum(dim=0)
        gains.masked_fill_(gains <= negligible, 0.0)
        covered[better] = to_pick[better]
    return torch.cat(picks)

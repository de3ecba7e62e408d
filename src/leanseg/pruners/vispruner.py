"""VisPruner: the tokens that receive most attention, and of the others those that are least like each other."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.similarity import EPSILON
from leanseg.errors import SpecError
from leanseg.pruners._cues import cue
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor

# Tokens dropped in one round.
STEP = 8


@dataclass(frozen=True, kw_only=True)
class VisPruner(Pruner):
    """Keep the tokens that receive most attention, and of the others those that are least like each other.

    The int(K rho) tokens of highest attention are important, rho = `important_ratio`. The others, by falling attention,
    lose 8 in each round until K - int(K rho) are left: they alternate between a set A and a set B, each of A has the
    largest cosine to one of B for a score, and the highest scores are dropped; the rest of A, by falling score, and
    then B enter the next round. float32. Cost O(N^2 D) once for all cosines, and O(N^3 / 96) look-ups.

    The result is chaotic: each round's order decides who meets whom in the next one, so that inputs which differ by
    1e-6, or matrix products that round differently, change up to half of the kept set (Jaccard 0.40 at 146 of 729).
    It is deterministic on one machine; expect other tokens on another.

    Differs from the paper: models give the attention that a token receives on average, over heads and queries, in the
    last used layer, because SigLIP has no class token; for the published rule give a class token's attention instead:
    `VisualTokens(attention=...)`.

    Differs from the reference: an odd count alternates as well, A being larger by one, and a round drops no more than A
    holds (the reference stops with an error, at 73 and 36 of 729 for instance; elsewhere the result is the same);
    all cosines are computed once, not anew in every round; sorts are stable, and a row of zeros is like none.
    """

    name: ClassVar[str] = "vispruner"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    paper: ClassVar[str] = "arXiv 2412.01818 (VisPruner, ICCV 2025)"
    licence: ClassVar[str] = "Apache-2.0"

    important_ratio: float = 0.5

    def check(self) -> None:
        """Check the ratio."""
        ratio = self.important_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, float) or not 0.0 <= ratio <= 1.0:
            raise SpecError(
                f"important_ratio is {ratio!r}; it must be a number in [0, 1]: the share kept for attention"
            )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Keep important and diverse tokens, each row as if it were alone."""
        n_important = int(k * self.important_ratio)
        rows = []
        for features, attention in zip(tokens.features, cue(tokens, "attention"), strict=True):
            order = attention.argsort(descending=True, stable=True)
            important, others = order[:n_important], order[n_important:]
            kept = others[least_alike(features[others], k - n_important)] if k > n_important else others[:0]
            rows.append(torch.cat([important, kept]))
        return Selection.from_order(torch.stack(rows), tokens.n_tokens)


def least_alike(features: Float[Tensor, "n d"], n_keep: int) -> Int[Tensor, " k"]:
    """Return which `n_keep` of the rows are left, in the order in which the last round leaves them.

    >>> least_alike(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), 3).tolist()
    [2, 1, 3]
    """
    similarity = _similarities(features)
    left = torch.arange(len(features), device=features.device)
    while len(left) > n_keep:
        left = next_round(similarity, left, n_keep)
    return left


def next_round(similarity: Float[Tensor, "n n"], left: Int[Tensor, " r"], n_keep: int) -> Int[Tensor, " s"]:
    """Return what one round leaves of the tokens `left`, of which `n_keep` are to be kept in the end."""
    a, b = left[0::2], left[1::2]
    drop = min(STEP, len(left) - n_keep, len(a))
    # Whole rows of B, as the matrix is symmetric: cheaper to copy than the columns of B in the rows of A.
    scores = similarity.index_select(0, b).amax(dim=0)[a]
    ranked = scores.argsort(descending=True, stable=True)
    return torch.cat([a[ranked[drop:]], b])


def _similarities(features: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    wide = features.detach().float()
    directions = wide / wide.norm(dim=1, keepdim=True).clamp_min(EPSILON)
    # The lower left block mirrors the upper right one: three quarters of the work.
    half = len(directions) // 2
    upper, last = directions[:half] @ directions.T, directions[half:] @ directions[half:].T
    return torch.cat([upper, torch.cat([upper[:, half:].T, last], dim=1)])

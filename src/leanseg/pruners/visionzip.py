"""VisionZip: the tokens that receive most attention stay, the others are summed up by a few."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.similarity import cosines, precise, unit
from leanseg.errors import BudgetError, SpecError, unknown_name
from leanseg.pruners._cues import cue
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor

CONTEXTUAL_RULES = ("published", "average")
# All published runs split 64 tokens into 54 dominant and 10 contextual ones, and larger budgets alike.
CONTEXTUAL_SHARE = 10 / 64


@dataclass(frozen=True, kw_only=True)
class VisionZip(Pruner):
    """Keep the tokens that receive most attention, and sum up all others by a few contextual ones.

    C = max(1, round(K 10/64)) tokens are contextual, the K - C that receive most attention dominant: 146 = 123 + 23,
    73 = 62 + 11, 36 = 30 + 6. Of the M others in raster order, every (M // C)-th is a target; the rest go to the target
    with the most similar key (cosine), and a contextual token is x = x_target + mean(assigned x). Cost O(N C D).

    `contextual_rule`: "published" is that sum, of about twice the norm of other tokens; "average" is the mean of target
    and assigned. `owner`: a dominant token stands for itself, a contextual one for all that were assigned to it.

    Differs from the paper: models give the attention that a token receives on average, over heads and queries, in the
    last used layer, because SigLIP has no class token; for the published rule give a class token's attention instead:
    `VisualTokens(attention=...)` (`class_scores` makes it of a map). The split rule is ours, of the published ratio.

    Differs from the reference: slots are in raster order, where the reference appends contextual tokens after the
    dominant ones; ties go to the lowest index; means are not rounded to bfloat16, as the public port to SigLIP does
    (which returns one token less, too).
    """

    name: ClassVar[str] = "visionzip"
    cues: ClassVar[tuple[str, ...]] = ("attention", "keys")
    paper: ClassVar[str] = "arXiv 2412.04467 (VisionZip, CVPR 2025)"
    licence: ClassVar[str] = "Apache-2.0"
    merges: ClassVar[bool] = True

    contextual_rule: str = "published"

    def check(self) -> None:
        """Check the rule."""
        if self.contextual_rule not in CONTEXTUAL_RULES:
            raise SpecError(unknown_name("contextual_rule", str(self.contextual_rule), CONTEXTUAL_RULES))

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Keep dominant tokens and sum up the others, each row as if it were alone."""
        contextual = max(1, round(k * CONTEXTUAL_SHARE))
        parts = zip(tokens.features, cue(tokens, "keys"), cue(tokens, "attention"), strict=True)
        rows = [
            self._row(features, zip_tokens(keys, scores, k - contextual, contextual))
            for features, keys, scores in parts
        ]
        return Selection.stack(rows)

    def _row(self, features: Float[Tensor, "n d"], zipped: "Zipped") -> Selection:
        order = torch.cat([zipped.dominant, zipped.targets])
        indices, ranked = order.sort()
        rank = torch.empty_like(ranked)
        rank[ranked] = torch.arange(len(ranked), device=ranked.device)
        owner = torch.empty(len(features), dtype=torch.int64, device=order.device)
        owner[order] = rank
        owner[zipped.others] = rank[len(zipped.dominant) + zipped.assigned]
        kept = zipped.features(features, self.contextual_rule)[ranked]
        return Selection(indices[None], len(features), owner[None], kept[None], order[None])


@dataclass(frozen=True, eq=False)
class Zipped:
    """A split of N tokens: `dominant` by falling score; `targets` and `others` ascending; the target of each other one.

    `assigned` (M - C,) counts the targets 0..C-1.
    """

    dominant: Int[Tensor, " k"]
    targets: Int[Tensor, " c"]
    others: Int[Tensor, " o"]
    assigned: Int[Tensor, " o"]

    def features(self, features: Float[Tensor, "n d"], rule: str = "published") -> Float[Tensor, "m d"]:
        """Return the dominant tokens, by falling score, and the contextual ones, summed up by `rule`."""
        wide = precise(features)
        targets, total = wide[self.targets], torch.zeros_like(wide[self.targets])
        total.index_add_(0, self.assigned, wide[self.others])
        counts = self.assigned.bincount(minlength=len(targets)).to(wide.dtype)[:, None]
        if rule == "published":
            contextual = targets + total / counts.clamp_min(1.0)
        else:
            contextual = (targets + total) / (counts + 1.0)
        return torch.cat([wide[self.dominant], contextual]).to(features.dtype)


def zip_tokens(keys: Float[Tensor, "n dk"], scores: Float[Tensor, " n"], n_dominant: int, n_contextual: int) -> Zipped:
    """Split N tokens into the highest `scores`, `n_contextual` evenly spread others, and those that go to these."""
    n_tokens = len(scores)
    if n_dominant < 0 or n_contextual < 1 or n_dominant + n_contextual > n_tokens:
        raise BudgetError(
            f"{n_dominant} dominant and {n_contextual} contextual tokens of {n_tokens}; expected at least one "
            "contextual token and no more in all than there are tokens"
        )
    dominant = scores.detach().argsort(descending=True, stable=True)[:n_dominant]
    left = torch.ones(n_tokens, dtype=torch.bool, device=scores.device)
    left[dominant] = False
    rest = left.nonzero()[:, 0]
    step = len(rest) // n_contextual
    targets = rest[::step][:n_contextual]
    left[targets] = False
    others = left.nonzero()[:, 0]
    directions = unit(keys)
    return Zipped(dominant, targets, others, cosines(directions[others], directions[targets]).argmax(dim=1))


def class_scores(attention: Float[Tensor, "b h m"]) -> Float[Tensor, "b m"]:
    """Return the scores of the published variant with a class token: what that token, of index 0, attends to.

    `attention` (B, heads, N + 1) is its row of the map, summed over heads; it comes first itself, and is counted among
    the dominant tokens.
    """
    scores = attention.detach().sum(dim=1)
    scores[:, 0] = torch.inf
    return scores

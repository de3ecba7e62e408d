"""Attention: the tokens that receive most of it in the vision tower."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import VisualTokens
from leanseg.pruners._cues import cue
from leanseg.pruners.base import ScorePruner
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class Attention(ScorePruner):
    """Keep the tokens that receive most attention in the vision layer whose output is pruned.

    The score is `VisualTokens.attention` as it is: the mean over heads and queries of what each token receives. It is
    the half that VisionZip and VisPruner have in common, and so their yardstick. The lowest index wins ties. Cost
    O(N log N) beyond the attention.
    """

    name: ClassVar[str] = "attention"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    paper: ClassVar[str] = "baseline"
    licence: ClassVar[str] = "not applicable"

    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return the attention that each token receives."""
        return cue(tokens, "attention")

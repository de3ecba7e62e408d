"""FastV: the tokens to which the text looks in an early layer of the language model."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import VisualTokens
from leanseg.pruners._cues import cue
from leanseg.pruners.base import ScorePruner
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class FastV(ScorePruner):
    """Keep the tokens that receive most attention from the last text token in an early layer of the language model.

    The score is `VisualTokens.attention` as it is, and that must come from the language model (`attention_from`): the
    mean over heads of the attention that the last text token pays to each visual token, in the paper behind layer 2.
    So the choice depends on the instruction. The lowest index wins ties. Cost O(N log N) beyond the attention.

    Differs from the paper: there the tokens are dropped inside the language model, behind the layer that was read, and
    run through the layers before it; here they are dropped before the language model, so that reading the attention
    costs a run of its early layers with every token. The budget is exact and counts visual tokens alone.
    """

    name: ClassVar[str] = "fastv"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    attention_from: ClassVar[str] = "language"
    paper: ClassVar[str] = "arXiv 2403.06764 (FastV, ECCV 2024)"
    licence: ClassVar[str] = "no licence file found, code not opened"

    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return the attention that each token receives from the text."""
        return cue(tokens, "attention")

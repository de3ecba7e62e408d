"""Joint: a method for single frames, run over all frames of a clip at once."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens
from leanseg.pruners._compose import chosen
from leanseg.pruners.base import Pruner, Wrapper


@dataclass(frozen=True, kw_only=True)
class Joint(Wrapper):
    """Let the method inside choose among all tokens of a clip, so that frames share one budget.

    Takes one joint row (1, T*N) (`VisualTokens.joined`) and hands it on: K is of all T*N tokens, a frame may keep more
    than another or none. What a method does with time is its own matter: `evtp` appends it to the coordinates, the
    lattices of `uniform` and `reserve` and the regions of `nuwa` are each frame's own, most others read features alone.
    With one frame it is the method inside.
    """

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "ours"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    scope: ClassVar[str] = "clip"

    inner: Pruner

    def check_options(self) -> None:
        """Take over what holds for the method inside."""
        self._declare(merges=self.inner.merges, nested=self.inner.nested, fixed_budget=self.inner.fixed_budget)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Select among all tokens of the clip."""
        return chosen(self.inner, tokens, k)

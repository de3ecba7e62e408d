"""Reading a cue that a method has declared."""

from leanseg.core import VisualTokens
from leanseg.errors import TokensError
from leanseg.shapes import Tensor


def cue(tokens: VisualTokens, name: str) -> Tensor:
    """Return the cue `name`, detached. A pruner's call has checked that it is there; a bare `select` has not."""
    value: Tensor | None = getattr(tokens, name)
    if value is None:
        raise TokensError(f"this method reads {name}, and the tokens carry none; give VisualTokens({name}=...)")
    return value.detach()

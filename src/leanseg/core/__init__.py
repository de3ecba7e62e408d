"""Token grids, visual tokens, selections and budgets: what every method, model, picture and metric shares.

Names load on first use, so that counting tokens (`leanseg.core.budget`) needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.core import kcenter
    from leanseg.core.budget import keep_count
    from leanseg.core.selection import Selection
    from leanseg.core.tokens import Grid, VisualTokens

_HOMES = {
    "Grid": "leanseg.core.tokens",
    "Selection": "leanseg.core.selection",
    "VisualTokens": "leanseg.core.tokens",
    "keep_count": "leanseg.core.budget",
}

__all__ = ["Grid", "Selection", "VisualTokens", "kcenter", "keep_count"]


def __getattr__(name: str) -> Any:
    if name == "kcenter":
        return import_module("leanseg.core.kcenter")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

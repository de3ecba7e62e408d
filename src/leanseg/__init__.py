"""Instructed visual segmentation of images and video with a fraction of the visual tokens.

Importing the package costs almost nothing: every public name is imported from its home when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from leanseg.errors import LeansegError

if TYPE_CHECKING:
    from leanseg.core.budget import keep_count
    from leanseg.core.selection import Selection
    from leanseg.core.tokens import Grid, VisualTokens
    from leanseg.engine.segmenter import load
    from leanseg.hf import attach
    from leanseg.models.output import Segmentation
    from leanseg.pruners import EVTP, PRUNERS, Identity, KCenter, Pruner, Random, Uniform, pruner

__version__ = "0.1.0"

__all__ = [
    "EVTP",
    "PRUNERS",
    "Grid",
    "Identity",
    "KCenter",
    "LeansegError",
    "Pruner",
    "Random",
    "Segmentation",
    "Selection",
    "Uniform",
    "VisualTokens",
    "__version__",
    "attach",
    "keep_count",
    "load",
    "pruner",
]

_HOME = {
    "EVTP": "leanseg.pruners",
    "PRUNERS": "leanseg.pruners",
    "Grid": "leanseg.core.tokens",
    "Identity": "leanseg.pruners",
    "KCenter": "leanseg.pruners",
    "Pruner": "leanseg.pruners",
    "Random": "leanseg.pruners",
    "Segmentation": "leanseg.models.output",
    "Selection": "leanseg.core.selection",
    "Uniform": "leanseg.pruners",
    "VisualTokens": "leanseg.core.tokens",
    "attach": "leanseg.hf",
    "keep_count": "leanseg.core.budget",
    "load": "leanseg.engine.segmenter",
    "pruner": "leanseg.pruners",
}
_PACKAGES = frozenset({"core", "costs", "data", "engine", "hf", "metrics", "models", "pruners", "testing"})


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return import_module(f"leanseg.{name}")
    raise AttributeError(f"module 'leanseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})

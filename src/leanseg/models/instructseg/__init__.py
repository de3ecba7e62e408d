"""InstructSeg (arXiv:2412.14006): masks for an image or a clip and a sentence. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.models.instructseg.config import InstructSegConfig
    from leanseg.models.instructseg.model import InstructSeg

_HOMES = {
    "InstructSeg": "leanseg.models.instructseg.model",
    "InstructSegConfig": "leanseg.models.instructseg.config",
}

__all__ = ["InstructSeg", "InstructSegConfig"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""The models of leanseg: configuration presets as data, and the classes that run them.

Names load on first use, so that sizes (`leanseg.models.presets`) need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanseg.models.instructseg import InstructSeg, InstructSegConfig
    from leanseg.models.presets import PRESETS
    from leanseg.models.sam.config import SamConfig
    from leanseg.models.sam.model import Sam
    from leanseg.models.sam.weights import load_sam
    from leanseg.models.vltp.config import VLTPConfig
    from leanseg.models.vltp.model import VLTP
    from leanseg.models.vltp.presets import VLTP_PRESETS
    from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder

_HOMES = {
    "PRESETS": "leanseg.models.presets",
    "InstructSeg": "leanseg.models.instructseg.model",
    "InstructSegConfig": "leanseg.models.instructseg.config",
    "Sam": "leanseg.models.sam.model",
    "SamConfig": "leanseg.models.sam.config",
    "Stage": "leanseg.models.vltp.staged_encoder",
    "StagedEncoder": "leanseg.models.vltp.staged_encoder",
    "VLTP": "leanseg.models.vltp.model",
    "VLTPConfig": "leanseg.models.vltp.config",
    "VLTP_PRESETS": "leanseg.models.vltp.presets",
    "load_sam": "leanseg.models.sam.weights",
}

__all__ = [
    "PRESETS",
    "VLTP",
    "VLTP_PRESETS",
    "InstructSeg",
    "InstructSegConfig",
    "Sam",
    "SamConfig",
    "Stage",
    "StagedEncoder",
    "VLTPConfig",
    "load_sam",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

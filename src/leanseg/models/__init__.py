"""The models of leanseg: configuration presets as data, and the classes that run them."""

from leanseg.models.instructseg import InstructSeg, InstructSegConfig
from leanseg.models.presets import PRESETS

__all__ = ["PRESETS", "InstructSeg", "InstructSegConfig"]

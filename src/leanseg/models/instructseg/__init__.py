"""InstructSeg (arXiv:2412.14006): masks for an image or a clip and a sentence."""

from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.model import InstructSeg

__all__ = ["InstructSeg", "InstructSegConfig"]

"""Hugging Face vision-language models: pruning one by `attach`, and reading a layer's attention."""

from leanseg.hf.attach import attach
from leanseg.hf.cues import Seen, capture, language_attention
from leanseg.hf.layouts import LAYOUTS, Layout
from leanseg.hf.pieces import Piece, Row, recorded, square
from leanseg.hf.trace import Item, Trace

__all__ = [
    "LAYOUTS",
    "Item",
    "Layout",
    "Piece",
    "Row",
    "Seen",
    "Trace",
    "attach",
    "capture",
    "language_attention",
    "recorded",
    "square",
]

"""What a model costs on one input: multiply-adds by part, and what they were counted for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

UNIT = 1e12
UNIT_TEXT = "1e12 multiply-adds (times 2 = TFLOPs)"


@dataclass(frozen=True, kw_only=True)
class Counts(ABC):
    """What was counted, whatever it was counted for: `counts` holds (part, multiply-adds); `readings` the options."""

    counts: tuple[tuple[str, float], ...]
    readings: tuple[tuple[str, Any], ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """Part -> 1e12 multiply-adds."""
        return {name: count / UNIT for name, count in self.counts}

    @property
    def total(self) -> float:
        """All parts, in 1e12 multiply-adds, in every mode."""
        return sum(count for _, count in self.counts) / UNIT

    @property
    def flops(self) -> float:
        """The same in 1e12 floating-point operations: a multiply-add is two."""
        return 2 * self.total

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; every figure but `flops` is in 1e12 multiply-adds."""


@dataclass(frozen=True, kw_only=True)
class Cost(Counts):
    """Multiply-adds of one answer: one image, or one key frame of a clip, and one instruction.

    `counts` holds (part, multiply-adds). `text_tokens` are those of the sequence that the mode describes, so template
    and [SEG] are among them in mode "exact"; `visual_tokens` is K per frame of `n_tokens`; `frames` is 1 for images and
    the number of reference frames for clips. `readings` are the options that led here.
    """

    model: str
    dataset: str
    mode: str
    text_tokens: int
    visual_tokens: int
    n_tokens: int
    frames: int
    sequence_length: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; every figure but `flops` is in 1e12 multiply-adds."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "mode": self.mode,
            "text_tokens": self.text_tokens,
            "visual_tokens": self.visual_tokens,
            "n_tokens": self.n_tokens,
            "frames": self.frames,
            "sequence_length": self.sequence_length,
            "parts": self.parts,
            "total": self.total,
            "flops": self.flops,
            "readings": dict(self.readings),
        }

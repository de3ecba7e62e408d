"""A data set and segmenters without a model, in a module that a worker process imports quickly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from leanseg.data.sample import Sample


@dataclass
class Squares:
    """Four samples whose target is the left half of a 4 x 4 picture; the last one's is empty."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        target = np.zeros((1, 4, 4), dtype=bool)
        target[:, :, :2] = index != 3
        picture = np.full((1, 4, 4, 3), index, dtype=np.uint8)
        return Sample(f"s/{index}", picture, "the left", target, {"kind": "position", "task": "referring"})


class LeftHalf:
    """Answers rightly with all tokens, with a quarter of the picture under a pruner, with nothing when blind."""

    def __init__(self) -> None:
        self.calls = 0

    def segment(self, clip: Any, instruction: str, *, pruner: Any = None, visual: str = "all", **options: Any) -> Any:
        self.calls += 1
        masks = np.zeros(clip.shape[:3], dtype=bool)
        if visual == "all":
            masks[:, :, : 2 if pruner is None else 1] = True
        return SimpleNamespace(masks=masks)


class StopsAtOne(LeftHalf):
    def segment(self, clip: Any, instruction: str, **options: Any) -> Any:
        if clip[0, 0, 0, 0] == 1:
            os._exit(3)
        return super().segment(clip, instruction, **options)

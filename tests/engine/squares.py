"""A data set and segmenters without a model, in a module that a worker process imports quickly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from leanseg.data.sample import Sample


@dataclass
class Squares:
    """Samples whose target is the left half of a 4 x 4 picture; that of number 3 is empty."""

    n: int = 4

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        target = np.zeros((1, 4, 4), dtype=bool)
        target[:, :, :2] = index != 3
        picture = np.full((1, 4, 4, 3), index, dtype=np.uint8)
        return Sample(f"s/{index}", picture, "the left", target, {"kind": "position", "task": "referring"})


class LeftHalf:
    """Answers rightly with all tokens, with a quarter of the picture under a pruner, with nothing when blind."""

    def __init__(self) -> None:
        self.calls = 0

    def segment_stream(
        self, frames: Any, instruction: list[str], *, pruner: Any = None, visual: str = "all", **options: Any
    ) -> Iterator[list[Any]]:
        for frame in frames:
            self.calls += 1
            mask = np.zeros(frame.shape[:2], dtype=bool)
            if visual == "all":
                mask[:, : 2 if pruner is None else 1] = True
            soft = mask[None].astype(np.float32)
            answer = SimpleNamespace(masks=mask[None], soft=soft, selections=(), coverage=(), timings={"language": 0.5})
            yield [answer] * len(instruction)


class StopsAtOne(LeftHalf):
    def segment_stream(self, frames: Any, instruction: list[str], **options: Any) -> Iterator[list[Any]]:
        for frame in frames:
            if frame[0, 0, 0] == 1:
                os._exit(3)
            yield from super().segment_stream([frame], instruction, **options)


class FailsAt(LeftHalf):
    """Fails on the pictures of these numbers."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def segment_stream(self, frames: Any, instruction: list[str], **options: Any) -> Iterator[list[Any]]:
        for frame in frames:
            if int(frame[0, 0, 0]) in self.numbers:
                raise RuntimeError("no memory left")
            yield from super().segment_stream([frame], instruction, **options)

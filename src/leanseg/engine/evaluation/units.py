"""What one line of an evaluation is about: one clip, and the instructions that are asked of it together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import IGNORED, Item
from leanseg.data.sample import Dataset, Sample

Truth = tuple[NDArray[np.bool_], NDArray[np.bool_] | None]
"""A frame's target (H, W), and the pixels that count neither way (None: there are none)."""


@dataclass(eq=False)
class Unit:
    """Instructions about one clip, each with its own target; frames and targets are read when they are needed."""

    index: int
    items: tuple[Item, ...]
    dataset: Dataset
    kind: str | None = None
    _truths: tuple[int, list[Truth]] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """The name of the sample, or of the first of several."""
        return self.items[0].id

    @property
    def instructions(self) -> list[str]:
        """What is asked, in words."""
        return [item.instruction for item in self.items]

    @property
    def meta(self) -> dict[str, Any]:
        """What the data set says of the sample."""
        return self.items[0].meta

    @property
    def n_frames(self) -> int:
        """Frames of the clip."""
        return self.items[0].n_frames

    def truths(self, time: int) -> list[Truth]:
        """Return the targets of a frame, one per instruction; those of the last frame asked for are kept."""
        if self._truths is None or self._truths[0] != time:
            self._truths = time, [item.target(time) for item in self.items]
        return self._truths[1]


def item_of(dataset: Dataset, index: int) -> Item:
    """Return a sample frame by frame, also of a data set that only has whole ones."""
    lazy = getattr(dataset, "item", None)
    if lazy is not None:
        found: Item = lazy(index)
        return found
    return _item(dataset[index])


def _item(sample: Sample) -> Item:
    def labels(time: int, _size: tuple[int, int]) -> NDArray[np.uint8]:
        values = sample.target[time].astype(np.uint8)
        if sample.ignore is not None:
            values[sample.ignore[time]] = IGNORED
        return values

    frames = sample.clip
    return Item(sample.id, sample.instruction, len(frames), lambda time: frames[time], labels, sample.meta)

"""What every data set hands out: one clip, one instruction, one answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leanseg.errors import DataError


@dataclass(frozen=True)
class Sample:
    """A clip uint8 (T, H, W, 3) (a picture is a clip with T = 1), an instruction and its answer bool (T, H, W).

    `ignore`, of the target's shape, marks pixels that count neither as target nor as background; None: there are none.
    """

    id: str
    clip: NDArray[np.uint8]
    instruction: str
    target: NDArray[np.bool_]
    meta: dict[str, Any] = field(default_factory=dict)
    ignore: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other."""
        if self.clip.ndim != 4 or self.clip.shape[-1] != 3 or self.clip.dtype != np.uint8:
            raise DataError(
                f"the clip of sample {self.id!r} is {self.clip.dtype} {self.clip.shape}; expected uint8 (T, H, W, 3); "
                "add the frame axis or convert the pixels"
            )
        if self.target.shape != self.clip.shape[:3] or self.target.dtype != np.bool_:
            raise DataError(
                f"the target of sample {self.id!r} is {self.target.dtype} {self.target.shape}; expected bool "
                f"{self.clip.shape[:3]}; give one mask per frame"
            )

        if self.ignore is not None and (self.ignore.shape != self.target.shape or self.ignore.dtype != np.bool_):
            raise DataError(
                f"the ignored pixels of sample {self.id!r} are {self.ignore.dtype} {self.ignore.shape}; expected bool "
                f"{self.target.shape}; give one mask per frame"
            )


@runtime_checkable
class Dataset(Protocol):
    """A sequence of samples of known length."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; raises IndexError past the end."""
        ...

"""What the readers share: a sample that is decoded when it is looked at, and a data set that is a list of them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from leanseg.data.folder import Folder, MissingFilesError
from leanseg.data.pictures import read_frame
from leanseg.data.sample import Sample
from leanseg.data.sources import SOURCES
from leanseg.errors import DataError, unknown_name

IGNORED = 255
IGNORE_POLICIES = ("ignore", "background")
MAX_CLIP_BYTES = 4 * 1024 * 1024 * 1024
_CACHE_BYTES = 128 * 1024 * 1024
Labels = NDArray[np.uint8]
"""Labels (H, W): 0 background, 1 target, 255 ignored."""


@final
@dataclass(frozen=True)
class Item:
    """A sample whose frames and masks are read one at a time; memory does not grow with the clip's length."""

    id: str
    instruction: str
    n_frames: int
    read: Callable[[int], NDArray[np.uint8]]
    labels: Callable[[int, tuple[int, int]], Labels]
    meta: dict[str, Any] = field(default_factory=dict)

    def frame(self, time: int) -> NDArray[np.uint8]:
        """Return frame `time` as RGB uint8 (H, W, 3)."""
        return self.read(time)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames in order."""
        return (self.read(time) for time in range(self.n_frames))

    def target(self, time: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Return the mask (H, W) of a frame, and the pixels that count neither way (None if there are none)."""
        size = self.read(time).shape[:2]
        labels = self.labels(time, size)
        if labels.shape != size:
            raise DataError(
                f"the mask of frame {time} of sample {self.id!r} has {labels.shape[0]} x {labels.shape[1]} pixels and "
                f"its picture {size[0]} x {size[1]}; expected the same; get both files again"
            )
        ignored = labels == IGNORED
        return labels == 1, ignored if ignored.any() else None

    def sample(self) -> Sample:
        """Return the whole sample, decoded."""
        first = self.read(0)
        if (size := self.n_frames * first.nbytes) > MAX_CLIP_BYTES:
            raise DataError(
                f"sample {self.id!r} has {self.n_frames} frames, {size / 2**30:.1f} GiB; expected at most "
                f"{MAX_CLIP_BYTES / 2**30:.0f}; read it frame by frame, with item(index)"
            )
        clip = np.empty((self.n_frames, *first.shape), dtype=np.uint8)
        target = np.zeros(clip.shape[:3], dtype=bool)
        ignore = np.zeros(clip.shape[:3], dtype=bool)
        for time in range(self.n_frames):
            frame = self.read(time)
            if frame.shape != first.shape:
                raise DataError(
                    f"frame {time} of sample {self.id!r} is {frame.shape[0]} x {frame.shape[1]} pixels and the first "
                    f"{first.shape[0]} x {first.shape[1]}; expected one size; get the frames again"
                )
            clip[time] = frame
            target[time], ignored = self.target(time)
            if ignored is not None:
                ignore[time] = ignored
        return Sample(self.id, clip, self.instruction, target, self.meta, ignore if ignore.any() else None)


class FileDataset(ABC):
    """A data set below a local root. A reader gives `_open`, `_files`, `__len__` and `item`.

    `annotated` is False where there are no targets or none are published: then every target is empty and void.
    """

    family: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    homes: ClassVar[tuple[str, ...]] = ("",)
    marker: ClassVar[str] = ""
    annotated: bool = True

    def __init__(
        self, root: Path | str, split: str, *, links: bool = False, check: bool = True, **options: Any
    ) -> None:
        if split not in self.splits:
            raise DataError(unknown_name(f"split of {self.family}", split, self.splits))
        known = [name for name in inspect.signature(self._open).parameters]
        for option in options:
            if option not in known:
                raise DataError(unknown_name(f"option of {self.family}", option, [*known, "links", "check"]))
        self.split = split
        self.folder = Folder(Path(root), links=links)
        there = (home for home in self.homes if self.folder.exists(f"{home}/{self.marker}".strip("/")))
        named = (home for home in self.homes if home and self.folder.exists(home))
        self.home = f"{next(there, next(named, ''))}/".lstrip("/")
        self._frames: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._open(**options)
        if check:
            self.require(self._files())
        self.folder.forget()

    @property
    def name(self) -> str:
        """The name by which `leanseg.data.open` makes this data set."""
        return f"{self.family}:{self.split}"

    @abstractmethod
    def _open(self) -> None:
        """Read the index files; the options of the data set are keyword arguments of this method."""

    @abstractmethod
    def _files(self) -> Iterable[str]:
        """Yield the path, below the root, of every picture and mask."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def item(self, index: int) -> Item:
        """Return one sample, to be decoded frame by frame."""

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} samples; there is no number {index}")
        return self.item(index).sample()

    def require(self, files: Iterable[str]) -> None:
        """Raise one error that names all of `files` that are missing."""
        missing = [file for file in dict.fromkeys(files) if not self.folder.exists(file)]
        if missing:
            raise MissingFilesError(self.name, self.folder.root, missing, SOURCES[self.family].where)

    def first_home(self, candidates: Sequence[str], probe: str = "") -> str:
        """Return the first of some folders that is there (with `probe` in it), or the first of all."""
        there = (one for one in candidates if self.folder.exists(f"{one}/{probe}".strip("/")))
        return next(there, candidates[0])

    def frame(self, relative: str) -> NDArray[np.uint8]:
        """Return a picture below the root; the last ones stay in memory, read-only, up to 128 MiB."""
        path = self.folder.path(relative)
        if path not in self._frames:
            pixels = read_frame(path)
            pixels.setflags(write=False)
            self._frames[path] = pixels
            while len(self._frames) > 1 and sum(one.nbytes for one in self._frames.values()) > _CACHE_BYTES:
                self._frames.popitem(last=False)
        self._frames.move_to_end(path)
        return self._frames[path]

    def picture(self, relative: str, size: tuple[int, int] | None, what: str) -> NDArray[np.uint8]:
        """Return a picture that must have the size (height, width) that its annotation says."""
        pixels = self.frame(relative)
        if size is not None and pixels.shape[:2] != size:
            raise DataError(
                f"{relative} has {pixels.shape[0]} x {pixels.shape[1]} pixels and {what} says {size[0]} x {size[1]}; "
                "expected the same; get the picture again"
            )
        return pixels

    def declared_frame(self, relative: str, size: tuple[int, int], what: str, _time: int) -> NDArray[np.uint8]:
        """Read the only frame of a picture sample whose size is declared."""
        return self.picture(relative, size, what)

    def statistics(self) -> Mapping[str, Any]:
        """Return what `leanseg data stats` counts; nothing unless a reader says more."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_frames": OrderedDict()}


def nothing(size: tuple[int, int]) -> Labels:
    """Return labels of a frame without a target."""
    return np.zeros(size, dtype=np.uint8)

"""What data sets of clips share: expressions by video, frames as JPEG, objects as values of indexed PNGs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import IGNORED, FileDataset, Item, Labels, nothing
from leanseg.data.checks import field, list_of
from leanseg.data.pictures import read_index_map
from leanseg.errors import DataError


@dataclass(frozen=True)
class Video:
    """A clip: its name, the names of its frames, and where its pictures and indexed masks (None: hidden) lie."""

    name: str
    frames: tuple[str, ...]
    pictures: str
    masks: str | None = None


@dataclass(frozen=True)
class Expression:
    """One sentence about one object of a clip; `object_id` is None where it is not published."""

    video: Video
    name: str
    text: str
    object_id: int | None = None


class VideoDataset(FileDataset):
    """A data set whose samples are expressions about numbered objects; readers fill `expressions`."""

    task = "video_referring"
    ignore = "ignore"
    expressions: list[Expression]
    categories: dict[str, dict[str, str]]
    """The name of each object by video and number, as far as published."""

    def _videos(self) -> list[Video]:
        return list({entry.video.name: entry.video for entry in self.expressions}.values())

    def _files(self) -> Iterable[str]:
        for video in self._videos():
            yield from (f"{video.pictures}/{frame}.jpg" for frame in video.frames)
            if video.masks is not None:
                yield from (f"{video.masks}/{frame}.png" for frame in video.frames)

    def __len__(self) -> int:
        return len(self.expressions)

    def item(self, index: int) -> Item:
        said = self.expressions[index]
        video = said.video
        meta = {
            "dataset": self.name, "task": self.task, "kind": "referring", "video": video.name, "expression": said.name,
            "object_id": said.object_id, "frames": list(video.frames), "annotated": said.object_id is not None,
            **self._about(said),
        }  # fmt: skip
        return Item(
            f"{self.family}/{video.name}/{said.name}", said.text, len(video.frames), partial(self._read, video),
            partial(self._labels, video, said.object_id), meta,
        )  # fmt: skip

    def _about(self, said: Expression) -> dict[str, Any]:
        """Return what else belongs into `meta`."""
        named = self.categories.get(said.video.name, {})
        return {"category": named.get(str(said.object_id))} if named else {}

    def _read(self, video: Video, time: int) -> NDArray[np.uint8]:
        return self.frame(f"{video.pictures}/{video.frames[time]}.jpg")

    def _labels(self, video: Video, object_id: int | None, time: int, size: tuple[int, int]) -> Labels:
        if video.masks is None or object_id is None:
            return nothing(size)
        numbers = read_index_map(self.folder.path(f"{video.masks}/{video.frames[time]}.png"))
        labels = (numbers == object_id).astype(np.uint8)
        if self.ignore == "ignore":
            labels[numbers == IGNORED] = IGNORED
        return labels

    def statistics(self) -> dict[str, Any]:
        """Return the counts of the table of data sets, of annotated frames and of categories."""
        videos = self._videos()
        objects = {(said.video.name, said.object_id) for said in self.expressions if said.object_id is not None}
        named = Counter(self.categories.get(video, {}).get(str(number)) for video, number in objects)
        del named[None]
        return {
            "videos": len(videos), "objects": len(objects) if self.annotated else None,
            "expressions": len(self.expressions), "frames": sum(len(video.frames) for video in videos),
            "annotated_frames": sum(len(video.frames) for video in videos if video.masks is not None),
            "spanned_frames": sum(_span(video.frames) for video in videos),
            "categories": dict(sorted(named.items(), key=lambda pair: (-pair[1], pair[0]))),
        }  # fmt: skip


def _span(frames: tuple[str, ...]) -> int:
    """Return how many frames lie between the first and the last by their numbers, both included."""
    numbers = [int(name) for name in frames if name.isdecimal() and len(name) < 12]
    return max(numbers) - min(numbers) + 1 if len(numbers) == len(frames) else len(frames)


def read_expressions(document: Any, what: str) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """Return (frames, expressions) of each video of a `meta_expressions.json`, type-checked."""
    found = {}
    for name, entry in field(document, "videos", dict, what).items():
        frames = list_of(entry, "frames", str, f"video {name} of {what}")
        if not frames:
            raise DataError(f"video {name} of {what} has no frames; expected at least one; mend the file")
        found[name] = tuple(frames), field(entry, "expressions", dict, f"video {name} of {what}")
    return found


def object_number(record: Any, what: str) -> int:
    """Return `obj_id`, which is written as text."""
    text = field(record, "obj_id", str, what)
    if not text.isdecimal() or not 0 < len(text) < 4 or not 0 < int(text) < IGNORED:
        raise DataError(f"'obj_id' of {what} is {text[:20]!r}; expected a number from 1 to 254 as text; mend the file")
    return int(text)


def read_categories(document: Any, what: str) -> dict[str, dict[str, str]]:
    """Return the category of each object by video and number from a `meta.json`."""
    found = {}
    for name, entry in field(document, "videos", dict, what).items():
        where = f"video {name} of {what}"
        objects = field(entry, "objects", dict, where)
        found[name] = {number: field(one, "category", str, where) for number, one in objects.items()}
    return found

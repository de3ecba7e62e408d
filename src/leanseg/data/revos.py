"""ReVOS: expressions that refer, that ask for reasoning, or that mean nothing in the clip; masks as run lengths.

Masks of all annotations lie in one large file; only places in it stay in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import FileDataset, Item, Labels
from leanseg.data.checks import choice, field, list_of, of_kind
from leanseg.data.json_files import JsonMembers, index_members, read_json
from leanseg.data.run_lengths import decode
from leanseg.data.videos import Video, read_expressions
from leanseg.errors import DataError

KINDS = ("referring", "reasoning", "no_object")
"""What type_id 0, 1 and 2 mean. Type 2 has no target and stays out of the published means."""


class ReVOS(FileDataset):
    """ReVOS. `kind` keeps one of referring, reasoning, no_object; `text` is `clean` (without "(s)") or `raw`."""

    family = "revos"
    splits = ("train", "valid")
    homes = ("", "ReVOS")
    marker = "mask_dict.json"

    def _open(self, kind: str | None = None, text: str = "clean") -> None:
        kinds = KINDS if kind is None else (choice("kind", kind, KINDS),)
        self.text = choice("text", text, ("clean", "raw"))
        meta, masks = f"{self.home}meta_expressions_{self.split}_.json", f"{self.home}mask_dict.json"
        self.require([meta, masks])
        document = read_json(self.folder.path(meta))
        self._masks = index_members(self.folder.path(masks))
        self._foreground: JsonMembers | None = None
        # The published tree has JPEGImages; InstructSeg's reader expects the videos right below the root.
        every = read_expressions(document, meta)
        bare = bool(every) and self.folder.exists(f"{self.home}{next(iter(every)).split('/')[0]}")
        pictures = self.home if bare and not self.folder.exists(f"{self.home}JPEGImages") else f"{self.home}JPEGImages/"
        self._sizes: dict[str, tuple[int, int]] = {}
        self._units: list[tuple[Video, str, str, tuple[int, ...], str]] = []
        for name, (frames, spoken) in every.items():
            entry = document["videos"][name]
            self._sizes[name] = tuple(field(entry, side, int, f"video {name}") for side in ("height", "width"))
            video = Video(name, frames, f"{pictures}{name}")
            for key, said in spoken.items():
                self._add(video, key, said, kinds)

    def _add(self, video: Video, key: str, said: Any, kinds: tuple[str, ...]) -> None:
        what = f"expression {key} of video {video.name}"
        number = field(said, "type_id", int, what)
        if number not in range(len(KINDS)):
            raise DataError(f"'type_id' of {what} is {number}; expected 0, 1 or 2; mend the file")
        annotations = tuple(list_of(said, "anno_id", int, what))
        lost = [one for one in annotations if str(one) not in self._masks]
        if lost:
            raise DataError(f"{what} means annotation {lost[0]}, which mask_dict.json lacks; get both files again")
        text = field(said, "exp", str, what).strip()
        if KINDS[number] in kinds:
            self._units.append((video, key, text, annotations, KINDS[number]))

    def _files(self) -> Iterable[str]:
        for video in {unit[0].name: unit[0] for unit in self._units}.values():
            yield from (f"{video.pictures}/{frame}.jpg" for frame in video.frames)

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        video, key, text, annotations, kind = self._units[index]
        name = f"revos/{video.name}/{key}"
        task = "video_reasoning" if kind == "reasoning" else "video_referring"
        meta = {
            "dataset": self.name, "task": task, "kind": kind, "video": video.name, "expression": key,
            "annotations": list(annotations), "frames": list(video.frames), "raw": text,
        }  # fmt: skip
        codes = [self._codes(one, video) for one in annotations]
        instruction = text.replace("(s)", "").strip() if self.text == "clean" else text
        labels = partial(self._labels, codes, self._sizes[video.name], name)
        return Item(name, instruction, len(video.frames), partial(self._read, video), labels, meta)

    def _codes(self, annotation: int, video: Video) -> list[Any]:
        codes: list[Any] = of_kind(self._masks[str(annotation)], list, f"annotation {annotation} of mask_dict.json")
        if len(codes) != len(video.frames):
            raise DataError(
                f"annotation {annotation} has masks of {len(codes)} frames and video {video.name} has "
                f"{len(video.frames)}; expected the same; get mask_dict.json again"
            )
        return codes

    def _read(self, video: Video, time: int) -> NDArray[np.uint8]:
        path = f"{video.pictures}/{video.frames[time]}.jpg"
        return self.picture(path, self._sizes[video.name], f"video {video.name}")

    def _labels(self, codes: list[list[Any]], size: tuple[int, int], name: str, time: int, _size: Any) -> Labels:
        """Return the union of all annotations in a frame; null means that an object cannot be seen there."""
        mask = np.zeros(size, dtype=np.uint8)
        for code in codes:
            if code[time] is not None:
                mask |= decode(code[time], name, size)
        return mask

    def depth(self, index: int, time: int) -> NDArray[np.uint8]:
        """Return how many of a sample's annotations cover each pixel (H, W); the public evaluation compares with it."""
        video, key, _, annotations, _ = self._units[index]
        size = self._sizes[video.name]
        codes = (self._codes(one, video)[time] for one in annotations)
        masks = (decode(code, f"revos/{video.name}/{key}", size) for code in codes if code is not None)
        return np.add.reduce([np.zeros(size, dtype=np.uint8), *masks], dtype=np.uint8)

    def foreground(self, video: str) -> NDArray[np.bool_]:
        """Return what any expression of a video means, (T, H, W); the robustness score needs it."""
        if video not in self._sizes:
            raise DataError(f"{self.name} has no video {video!r}; give the name of one")
        if self._foreground is None:
            path = f"{self.home}mask_dict_foreground.json"
            self.require([path])
            self._foreground = index_members(self.folder.path(path))
        if video not in self._foreground:
            raise DataError(f"mask_dict_foreground.json has no video {video!r}; get it again")
        codes = field(self._foreground[video], "masks_rle", list, f"the foreground of {video}")
        return np.stack([decode(code, f"the foreground of {video}", self._sizes[video]) for code in codes])

    def statistics(self) -> dict[str, Any]:
        videos = {unit[0].name: unit[0] for unit in self._units}.values()
        return {
            "videos": len(videos), "objects": len({one for unit in self._units for one in unit[3]}),
            "expressions": len(self), "frames": sum(len(video.frames) for video in videos),
            "annotated_frames": sum(len(video.frames) for video in videos),
            "kinds": dict(Counter(unit[4] for unit in self._units)),
        }  # fmt: skip

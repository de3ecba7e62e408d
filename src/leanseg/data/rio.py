"""RIO: a purpose in words, and everything in a picture of COCO that serves it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import FileDataset, Item, Labels
from leanseg.data.checks import field
from leanseg.data.json_files import index_array
from leanseg.data.raster import known_rule, segmentation_mask, stacked
from leanseg.errors import DataError

FILES = {"train": "RIO_train*.json", "common": "RIO_common*.json", "uncommon": "RIO_uncommon*.json"}
COCO_HOMES = ("COCO2014", "coco", "images", "")


class RIO(FileDataset):
    """RIO; the target is the union of all instances. Several expressions of one entry become one sample each."""

    family = "rio"
    splits = tuple(FILES)
    homes = ("", "RIO", "reason_seg/RIO")

    def _open(self, rasteriser: str = "coco", images: str | None = None) -> None:
        self.rule = known_rule(rasteriser)
        found = {home: self._index_files(home) for home in ("", "RIO/", "reason_seg/RIO/")}
        self.home = next((home for home, names in found.items() if names), "")
        names = found[self.home]
        if not names:
            self.require([f"{self.home}{FILES[self.split]}"])
        if len(names) > 1:
            raise DataError(f"several files fit {FILES[self.split]}: {', '.join(names)}; expected one; remove the rest")
        part = "train2014" if self.split == "train" else "val2014"
        self.images = images or self.first_home([f"{home}/{part}".strip("/") for home in COCO_HOMES])
        self.part = part
        self._units: list[tuple[int, int]] = []
        self._pictures: set[int] = set()
        self._objects = 0
        self._entries = index_array(self.folder.path(f"{self.home}{names[0]}"), self._note)

    def _index_files(self, home: str) -> list[str]:
        return sorted(
            name for name in self.folder.names(home.strip("/") or ".") if fnmatchcase(name, FILES[self.split])
        )

    def _note(self, entry: Any) -> None:
        number = self._units[-1][0] + 1 if self._units else 0
        what = f"entry {number} of {self.name}"
        self._pictures.add(field(entry, "image_id", int, what))
        self._objects += len(field(entry, "mask_list", list, what))
        self._units += [(number, which) for which in range(len(_texts(entry, what)))]

    def picture_path(self, image_id: int) -> str:
        """Return the path of a picture below the root."""
        return f"{self.images}/COCO_{self.part}_{image_id:012d}.jpg"

    def _files(self) -> Iterable[str]:
        return (self.picture_path(image_id) for image_id in sorted(self._pictures))

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        number, which = self._units[index]
        entry = self._entries[number]
        name = f"rio/{self.split}/{number}" + (f"/{which}" if which else "")
        size = field(entry, "height", int, name), field(entry, "width", int, name)
        meta = {
            "dataset": self.name, "task": "reasoning", "kind": self.split,
            "image_id": field(entry, "image_id", int, name), "task_id": field(entry, "task_id", int, name),
            "boxes": field(entry, "bbox_list", list, name, []), "rasteriser": self.rule,
        }  # fmt: skip
        frame = partial(self.declared_frame, self.picture_path(meta["image_id"]), size, name)
        labels = partial(self._labels, field(entry, "mask_list", list, name), size, name)
        return Item(name, _texts(entry, name)[which].strip(), 1, frame, labels, meta)

    def _labels(self, parts: list[Any], size: tuple[int, int], name: str, _time: int, _size: Any) -> Labels:
        mask = np.zeros(size, dtype=np.uint8)
        for part in parts:
            mask |= segmentation_mask(part, *size, name, rule=self.rule)
        return mask

    def instances(self, index: int) -> NDArray[np.bool_]:
        """Return the mask of each instance, (n, H, W): RIO's own numbers take the best of them per picture."""
        entry = self._entries[self._units[index][0]]
        name = f"rio/{self.split}/{self._units[index][0]}"
        size = field(entry, "height", int, name), field(entry, "width", int, name)
        parts = field(entry, "mask_list", list, name)
        masks = (segmentation_mask(part, *size, name, rule=self.rule) for part in parts)
        return stacked(masks, len(parts), size, name)

    def statistics(self) -> dict[str, Any]:
        return {"pictures": len(self._pictures), "objects": self._objects, "expressions": len(self)}


def _texts(entry: Any, what: str) -> list[str]:
    said = field(entry, "expressions", object, what)
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"'expressions' of {what} is neither text nor a list of texts; mend the file")
    return texts

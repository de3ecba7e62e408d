"""COCO-Tasks: fourteen purposes; the target is everything that is preferred for one, and may be empty."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import FileDataset, Item, Labels
from leanseg.data.checks import field
from leanseg.data.json_files import JsonItems, index_arrays
from leanseg.data.raster import known_rule, segmentation_mask, stacked
from leanseg.data.rio import COCO_HOMES
from leanseg.errors import DataError

PHRASES = (
    "step on", "sit comfortably", "place flowers", "get potatoes out of fire", "water plant", "get lemon out of tea",
    "dig hole", "open bottle of beer", "open parcel", "serve wine", "pour sugar", "smear butter", "extinguish fire",
    "pound carpet",
)  # fmt: skip
TASKS = range(1, len(PHRASES) + 1)
_PREFERRED = 1


class COCOTasks(FileDataset):
    """COCO-Tasks. `train` and `test` hold all fourteen tasks, `task_3_test` one; scores are means over the tasks.

    A picture in which nothing is preferred stays, with an empty target, so that the rule for empty masks matters.
    """

    family = "coco_tasks"
    splits = ("train", "test", *(f"task_{task}_{part}" for task in TASKS for part in ("train", "test")))
    homes = ("", "coco-tasks", "coco_tasks", "COCO-Tasks")
    marker = "annotations"

    def _open(self, rasteriser: str = "coco", images: str | None = None) -> None:
        self.rule = known_rule(rasteriser)
        part = self.split.split("_")[-1]
        self.tasks = list(TASKS) if self.split == part else [int(self.split.split("_")[1])]
        files = [f"{self.home}annotations/task_{task}_{part}.json" for task in self.tasks]
        self.require(files)
        folder = "train2014" if part == "train" else "val2014"
        self.images = images or self.first_home([f"{home}/{folder}".strip("/") for home in COCO_HOMES])
        self._units: list[tuple[int, int, str, tuple[int, int]]] = []
        self._annotations: dict[int, JsonItems] = {}
        self._preferred: dict[tuple[int, int], list[int]] = {}
        for task, file in zip(self.tasks, files, strict=True):
            self._index(task, file)

    def _index(self, task: int, file: str) -> None:
        count = 0
        known = set()

        def note_picture(entry: Any) -> None:
            what = f"a picture of {file}"
            identity = field(entry, "id", int, what)
            size = field(entry, "height", int, what), field(entry, "width", int, what)
            known.add(identity)
            self._units.append((task, identity, field(entry, "file_name", str, what), size))

        def note_annotation(entry: Any) -> None:
            nonlocal count
            what = f"annotation {count} of {file}"
            if field(entry, "category_id", int, what) == _PREFERRED:
                self._preferred.setdefault((task, field(entry, "image_id", int, what)), []).append(count)
            count += 1

        arrays = index_arrays(self.folder.path(file), {"images": note_picture, "annotations": note_annotation})
        self._annotations[task] = arrays["annotations"]
        lost = [image for one, image in self._preferred if one == task and image not in known]
        if lost:
            raise DataError(f"{file} annotates picture {lost[0]}, which it does not list; get it again")

    def _files(self) -> Iterable[str]:
        return (f"{self.images}/{unit[2]}" for unit in self._units)

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        task, image_id, file, size = self._units[index]
        name = f"coco_tasks/{task}/{image_id}"
        places = self._preferred.get((task, image_id), [])
        meta = {
            "dataset": self.name, "task": "reasoning", "kind": f"task_{task}", "task_id": task, "image_id": image_id,
            "file": file, "n_preferred": len(places), "rasteriser": self.rule,
        }  # fmt: skip
        frame = partial(self.declared_frame, f"{self.images}/{file}", size, name)
        labels = partial(self._labels, task, places, size, name)
        return Item(name, f"you can use the thing to {PHRASES[task - 1]}", 1, frame, labels, meta)

    def _labels(self, task: int, places: list[int], size: tuple[int, int], name: str, _time: int, _size: Any) -> Labels:
        mask = np.zeros(size, dtype=np.uint8)
        for place in places:
            mask |= self._mask(task, place, size, name)
        return mask

    def _mask(self, task: int, place: int, size: tuple[int, int], name: str) -> NDArray[np.bool_]:
        segmentation = field(self._annotations[task][place], "segmentation", object, f"an annotation of {name}")
        return segmentation_mask(segmentation, *size, name, rule=self.rule)

    def instances(self, index: int) -> NDArray[np.bool_]:
        """Return the mask of each preferred object, (n, H, W); n is 0 where there is none."""
        task, image_id, _, size = self._units[index]
        places = self._preferred.get((task, image_id), [])
        name = f"coco_tasks/{task}/{image_id}"
        return stacked((self._mask(task, place, size, name) for place in places), len(places), size, name)

    def statistics(self) -> dict[str, Any]:
        return {
            "pictures": len({unit[1] for unit in self._units}), "expressions": len(self),
            "objects": sum(map(len, self._preferred.values())),
            "empty": sum((unit[0], unit[1]) not in self._preferred for unit in self._units),
        }  # fmt: skip

"""ReasonSeg: one JSON of questions and labelled outlines beside each picture."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import IGNORE_POLICIES, IGNORED, FileDataset, Item, Labels
from leanseg.data.checks import choice, field, list_of, of_kind
from leanseg.data.json_files import read_json
from leanseg.data.raster import fill_cv2, polygon

# Some files were written with Windows' code page; the data set's own reader tries it whenever UTF-8 fails.
ENCODINGS = ("utf-8", "cp1252")


def paint(shapes: Iterable[Any], height: int, width: int, what: str, *, ignore: str = "ignore") -> Labels:
    """Return labels (H, W) of labelled outlines, drawn from the largest to the smallest, each over the earlier ones.

    A label `flag` is passed over; one that contains "ignore" paints 255 (LISA), or 0 with `ignore="background"`
    (InstructSeg's copy of the reader); every other label paints 1. Of equal areas the later shape is drawn first. The
    outlines are drawn as OpenCV does (`fill_cv2`).
    """
    drawn: list[tuple[int, int, NDArray[np.bool_], int]] = []
    for number, shape in enumerate(shapes):
        name = f"shape {number} of {what}"
        label = field(shape, "label", str, name).lower()
        if label == "flag":
            continue
        mask = fill_cv2(polygon(field(shape, "points", list, name), name), height, width)
        ignored = IGNORED if ignore == "ignore" else 0
        drawn.append((int(mask.sum()), len(drawn), mask, ignored if "ignore" in label else 1))
    labels = np.zeros((height, width), dtype=np.uint8)
    for _, _, mask, value in sorted(drawn, key=lambda entry: entry[:2], reverse=True):
        labels[mask] = value
    return labels


class ReasonSeg(FileDataset):
    """ReasonSeg. Published numbers ask the first text of each file (`texts="first"`); `all` makes a sample of each."""

    family = "reasonseg"
    splits = ("train", "val", "test")
    homes = ("", "ReasonSeg")

    def __init__(self, root: Any, split: str, **options: Any) -> None:
        self.marker = split  # type: ignore[misc]
        super().__init__(root, split, **options)

    def _open(self, texts: str = "first", ignore: str = "ignore") -> None:
        self.texts = choice("texts", texts, ("first", "all"))
        self.ignore = choice("ignore", ignore, IGNORE_POLICIES)
        folder = f"{self.home}{self.split}"
        names = sorted(self.folder.names(folder))
        self._names = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        if not self._names:
            self.require([f"{folder}/*.json"])
        self._explained = self._explanations()
        self._units: list[tuple[str, int]] = []
        for name in self._names:
            count = len(self._texts(self._document(name), name)) if self.texts == "all" else 1
            self._units += [(name, which) for which in range(count)]

    def _document(self, name: str) -> Any:
        return read_json(self.folder.path(f"{self.home}{self.split}/{name}.json"), encodings=ENCODINGS)

    def _texts(self, document: Any, name: str) -> list[str]:
        texts = list_of(document, "text", str, name)
        if not texts:
            of_kind(None, str, f"the first text of {name}")
        return texts

    def _explanations(self) -> dict[tuple[str, str], str]:
        path = f"{self.home}explanatory/{self.split}.json"
        if not self.folder.exists(path):
            return {}
        found = {}
        for entry in of_kind(read_json(self.folder.path(path), encodings=ENCODINGS), list, path):
            key = field(entry, "image", str, path), field(entry, "query", str, path)
            found[key] = field(entry, "outputs", str, path)
        return found

    def _files(self) -> Iterable[str]:
        return (f"{self.home}{self.split}/{name}.jpg" for name in self._names)

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        name, which = self._units[index]
        document = self._document(name)
        text = self._texts(document, name)[which].strip()
        is_sentence = field(document, "is_sentence", bool, name)
        file = f"{self.home}{self.split}/{name}.jpg"
        meta = {
            "dataset": self.name, "task": "reasoning", "kind": "long" if is_sentence else "short",
            "is_sentence": is_sentence, "file": file, "ignore": self.ignore,
            "explanation": self._explained.get((PurePosixPath(file).name, document["text"][which])),
        }  # fmt: skip
        identity = name if self.texts == "first" else f"{name}/{which}"
        labels = partial(self._labels, field(document, "shapes", list, name), name)
        return Item(f"reasonseg/{identity}", text, 1, lambda _time: self.frame(file), labels, meta)

    def _labels(self, shapes: list[Any], name: str, _time: int, size: tuple[int, int]) -> Labels:
        return paint(shapes, *size, name, ignore=self.ignore)

    def statistics(self) -> dict[str, Any]:
        return {"pictures": len(self._names), "expressions": len(self)}

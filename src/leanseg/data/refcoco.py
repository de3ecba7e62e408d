"""RefCOCO, RefCOCO+ and RefCOCOg: `instances.json`, `refs(<splitBy>).p` and COCO's pictures of train2014.

Two protocols share these files and their numbers do not compare: one sample per sentence (LISA, LAVT and most), or one
per ref with all of its sentences joined (InstructSeg, and EVTP-IV after it). RefCOCO val has 10,834 of the first kind
and 3,811 of the second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from leanseg.data.base import FileDataset, Item, Labels
from leanseg.data.checks import choice, field, list_of, of_kind
from leanseg.data.json_files import index_arrays, read_json
from leanseg.data.raster import known_rule, segmentation_mask
from leanseg.data.safe_pickle import read
from leanseg.errors import DataError

PICTURES = ("images/mscoco/images/train2014", "images/train2014", "train2014")


def join_sentences(sentences: Iterable[str]) -> str:
    """Return several sentences as one instruction, each with a full stop, as InstructSeg joins them.

    >>> join_sentences(["red ball", "the ball"])
    'red ball. the ball.'
    """
    return "".join(f" {sentence}." for sentence in sentences).strip()


def read_refs(path: Path) -> list[dict[str, Any]]:
    """Return the refs of `refs(<splitBy>).p`, from the JSON that `leanseg data convert` made if it stands beside."""
    converted = path.with_suffix(".json")
    if not converted.is_file():
        return check_refs(read(path), path.name)
    document = read_json(converted)
    if path.is_file():
        made_from = field(document, "sha256", str, converted.name)
        if made_from != hashlib.sha256(path.read_bytes()).hexdigest():
            raise DataError(
                f"{converted} was made from another {path.name}; expected the one beside it; run `leanseg data convert`"
            )
    return check_refs(field(document, "refs", list, converted.name), converted.name)


def check_refs(refs: Any, name: str) -> list[dict[str, Any]]:
    """Return refs whose fields are all there and of the right type."""
    for number, ref in enumerate(of_kind(refs, list, f"the content of {name}")):
        what = f"ref number {number} of {name}"
        for key in ("ref_id", "ann_id", "image_id"):
            field(ref, key, int, what)
        field(ref, "split", str, what)
        for sentence in list_of(ref, "sentences", dict, what):
            field(sentence, "sent", str, f"a sentence of {what}")
    return list(refs)


def convert(path: Path, out: Path) -> int:
    """Write the refs of a pickle as JSON, whole or not at all; return how many."""
    refs = check_refs(read(path), path.name)
    document = {"schema": 1, "source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "refs": refs}
    temporary = out.with_name(f".{out.name}.partial")
    try:
        temporary.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return len(refs)


def chosen(split: str, stated: str) -> bool:
    """Return whether a ref that states `stated` belongs to `split`, by the rule of the data set's own reader.

    >>> chosen("testA", "testAB"), chosen("test", "testB"), chosen("val", "train")
    (True, True, False)
    """
    if split in ("testA", "testB"):
        return split[-1] in stated
    return split in stated if split == "test" else split == stated


class _RefDataset(FileDataset):
    """What the three have in common; `split_by` chooses the file of refs."""

    splits_by: ClassVar[tuple[str, ...]]
    homes = ("", "refer_seg")

    def _open(
        self, split_by: str | None = None, unit: str = "sentence", rasteriser: str = "coco", images: str | None = None
    ) -> None:
        self.split_by = choice("split_by", split_by or self.splits_by[0], self.splits_by)
        self.unit = choice("unit", unit, ("sentence", "ref"))
        self.rule = known_rule(rasteriser)
        folder = f"{self.home}{self.family}"
        refs_file, instances = f"{folder}/refs({self.split_by}).p", f"{folder}/instances.json"
        converted = refs_file.removesuffix(".p") + ".json"
        self.require([converted if self.folder.exists(converted) else refs_file, instances])
        homes = tuple(dict.fromkeys(f"{home}{path}" for home in (self.home, "", "refer_seg/") for path in PICTURES))
        self.images = images or self.first_home((*homes, "COCO2014/train2014", "coco/train2014"))
        refs = [ref for ref in read_refs(self.folder.path(refs_file)) if chosen(self.split, ref["split"])]
        self._index(refs, instances)

    def _index(self, refs: list[dict[str, Any]], instances: str) -> None:
        wanted = {ref["image_id"] for ref in refs}
        annotation_ids: list[int] = []
        self._pictures: dict[int, tuple[str, int, int]] = {}

        def note_picture(entry: Any) -> None:
            identity = field(entry, "id", int, "a picture of instances.json")
            if identity in wanted:
                what = f"picture {identity} of instances.json"
                sides = field(entry, "height", int, what), field(entry, "width", int, what)
                self._pictures[identity] = (field(entry, "file_name", str, what), *sides)

        arrays = index_arrays(
            self.folder.path(instances),
            {
                "images": note_picture,
                "annotations": lambda entry: annotation_ids.append(
                    field(entry, "id", int, "an annotation of instances.json")
                ),
            },
        )
        self._annotations = arrays["annotations"]
        places = {identity: place for place, identity in enumerate(annotation_ids)}
        lost = [ref["ref_id"] for ref in refs if ref["image_id"] not in self._pictures or ref["ann_id"] not in places]
        if lost:
            raise DataError(
                f"{len(lost)} refs of {self.name}, first {lost[0]}, mean a picture or an annotation that "
                "instances.json lacks; expected files of one data set; get both again"
            )
        self._refs = [
            (ref["ref_id"], ref["image_id"], places[ref["ann_id"]], tuple(one["sent"] for one in ref["sentences"]))
            for ref in refs
        ]
        self._units: list[tuple[int, int | None]]
        if self.unit == "ref":
            self._units = [(number, None) for number in range(len(self._refs))]
        else:
            self._units = [(number, k) for number, ref in enumerate(self._refs) for k in range(len(ref[3]))]

    def _files(self) -> Iterable[str]:
        return (f"{self.images}/{name}" for name, _, _ in self._pictures.values())

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        number, which = self._units[index]
        ref_id, image_id, place, sentences = self._refs[number]
        file, height, width = self._pictures[image_id]
        if which is None:
            name, instruction = f"{self.family}/{ref_id}", join_sentences(sentences)
        else:
            name, instruction = f"{self.family}/{ref_id}/{which}", sentences[which].strip().lower()
        meta = {
            "dataset": self.name, "task": "referring", "kind": self.unit, "ref_id": ref_id, "image_id": image_id,
            "sentences": list(sentences), "file": file, "rasteriser": self.rule,
        }  # fmt: skip
        size = height, width
        read_frame = partial(self.declared_frame, f"{self.images}/{file}", size, name)
        return Item(name, instruction, 1, read_frame, partial(self._labels, place, size, name), meta)

    def _labels(self, place: int, size: tuple[int, int], name: str, _time: int, _size: tuple[int, int]) -> Labels:
        segmentation = field(self._annotations[place], "segmentation", object, f"the annotation of {name}")
        return segmentation_mask(segmentation, *size, name, rule=self.rule).astype(np.uint8)

    def statistics(self) -> dict[str, Any]:
        return {
            "pictures": len(self._pictures), "objects": len({ref[2] for ref in self._refs}),
            "refs": len(self._refs), "expressions": sum(len(ref[3]) for ref in self._refs),
        }  # fmt: skip


class RefCOCO(_RefDataset):
    """RefCOCO; val, testA (people) and testB (other things)."""

    family = marker = "refcoco"
    splits = ("train", "val", "testA", "testB")
    splits_by = ("unc", "google")


class RefCOCOPlus(_RefDataset):
    """RefCOCO+: no words of place."""

    family = marker = "refcoco+"
    splits = ("train", "val", "testA", "testB")
    splits_by = ("unc",)


class RefCOCOg(_RefDataset):
    """RefCOCOg: longer sentences; umd's split shares no picture between train and test, google's does."""

    family = marker = "refcocog"
    splits = ("train", "val", "test")
    splits_by = ("umd", "google")

"""What lies below a root: which data sets are there, what they lack, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from leanseg.data.base import FileDataset
from leanseg.data.folder import Folder, MissingFilesError
from leanseg.data.registry import READERS, reader
from leanseg.data.sources import SOURCES
from leanseg.errors import DataError

Tell = Callable[[str, int, int], None]
# What tells that a family is there at all.
_SIGNS: dict[str, tuple[str, ...]] = {
    "refcoco": ("refcoco",),
    "refcoco+": ("refcoco+",),
    "refcocog": ("refcocog/instances.json", "refcocog/refs(umd).p", "refcocog/refs(google).p"),
    "reasonseg": ("ReasonSeg", "explanatory"),
    "refyoutube": ("Ref-YouTube-VOS", "ref-youtube-vos", "refer_youtube_vos", "meta_expressions/test"),
    "refdavis": ("ref-davis_raw", "ref-davis_converted", "ref-davis", "Ref-DAVIS17", "davis_text_annotations"),
    "revos": ("ReVOS", "mask_dict.json"),
    "rio": ("RIO", "reason_seg/RIO", "RIO_train_all_thing.json", "RIO_common_all_thing.json"),
    "coco_tasks": ("coco-tasks", "coco_tasks", "COCO-Tasks", "annotations/task_1_test.json"),
    "mmconv": ("llava_mm_conv", "llava", "llava_v1_5_mix665k.json"),
    "instructseg": ("instructseg_RES",),
}


def families(names: Iterable[str]) -> list[str]:
    """Return the families asked for, all of them if none are; an unknown one is refused."""
    asked = list(dict.fromkeys(names))
    for name in asked:
        reader(name)
    return asked or list(READERS)


def is_there(family: str, folder: Folder) -> bool:
    """Return whether anything of a family lies below a root."""
    homes = dict.fromkeys(("", *reader(family).homes))
    return any(folder.exists(f"{home}/{sign}".strip("/")) for home in homes for sign in _SIGNS[family])


def layouts(family: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (what it is called, split, options) of everything that a family may hold."""
    for split in reader(family).splits:
        if family == "coco_tasks" and split in ("train", "test"):
            continue  # the fourteen tasks are looked at one by one
        if family == "refdavis":
            for layout in ("raw", "converted"):
                yield f"{split}, {layout}", split, {"layout": layout}
        else:
            yield split, split, {}


def inspect(
    root: Path, names: Iterable[str] = (), *, links: bool = False, deep: bool = False, tell: Tell | None = None
) -> list[dict[str, Any]]:
    """Return one entry per data set: `state`, its splits, where to get it and its licence.

    A state is absent, whole, partial (what is there is whole, but other splits are not there), incomplete (pictures or
    masks are missing) or malformed. A split whose index files are not all there counts as absent, since few people keep
    every part of a data set; in one of several layouts it is there. `deep` decodes every picture and mask.
    `tell` is called with a data set's name, and samples done and in all.
    """
    folder = Folder(root, links=links)
    report = []
    for family in families(names):
        source = SOURCES[family]
        splits: dict[str, list[dict[str, Any]]] = {}
        if is_there(family, folder):
            for label, split, options in layouts(family):
                entry = _inspect_split(family, label, split, {**options, "links": links}, root, deep, tell)
                splits.setdefault(split, []).append(entry)
        report.append({
            "name": family, "title": source.title, "state": _state(splits), "where": source.where,
            "licence": source.licence, "splits": [entry for entries in splits.values() for entry in entries],
        })  # fmt: skip
    return report


def _state(splits: dict[str, list[dict[str, Any]]]) -> str:
    """Return the verdict on a data set; of each split it has one entry per layout."""
    found = [{entry["state"] for entry in entries} for entries in splits.values()]
    states = set().union(*found) - {"absent"}
    if states == {"whole"} and {"absent"} in found:
        return "partial"
    return next((one for one in ("malformed", "incomplete", "whole") if one in states), "absent")


def _inspect_split(
    family: str, label: str, split: str, options: dict[str, Any], root: Path, deep: bool, tell: Tell | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "split": label, "state": "whole", "samples": None, "annotated": None, "missing": [], "problem": None,
    }  # fmt: skip
    try:
        dataset: FileDataset = reader(family)(root, split, check=False, **options)
        entry |= {"samples": len(dataset), "annotated": dataset.annotated}
        dataset.require(dataset._files())
        if deep:
            _decode(dataset, tell)
    except MissingFilesError as error:
        state = "absent" if entry["samples"] is None else "incomplete"
        entry |= {"state": state, "missing": list(error.missing)}
    except DataError as error:
        entry |= {"state": "malformed", "problem": str(error)}
    return entry


def _decode(dataset: FileDataset, tell: Tell | None) -> None:
    for index in range(len(dataset)):
        item = dataset.item(index)
        for time in range(item.n_frames):
            item.target(time)
        if tell is not None:
            tell(dataset.name, index + 1, len(dataset))

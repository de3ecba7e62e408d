"""Data sets by name: `leanseg.data.open("refcoco:val", root)`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from leanseg.data.sample import Dataset
from leanseg.errors import DataError, unknown_name

READERS: dict[str, tuple[str, str]] = {
    "refcoco": ("refcoco", "RefCOCO"),
    "refcoco+": ("refcoco", "RefCOCOPlus"),
    "refcocog": ("refcoco", "RefCOCOg"),
    "reasonseg": ("reasonseg", "ReasonSeg"),
    "refyoutube": ("youtube_vos", "RefYouTubeVOS"),
    "refdavis": ("davis", "RefDAVIS"),
    "revos": ("revos", "ReVOS"),
    "rio": ("rio", "RIO"),
    "coco_tasks": ("coco_tasks", "COCOTasks"),
    "mmconv": ("mm_conv", "Conversations"),
    "instructseg": ("instructseg_files", "InstructSegFiles"),
}
"""The module and class of each family that is read from files."""


def reader(family: str) -> Any:
    """Return the class of a family, imported when it is asked for."""
    if family not in READERS:
        raise DataError(unknown_name("data set", family, (*READERS, "scenes")))
    module, name = READERS[family]
    return getattr(import_module(f"leanseg.data.{module}"), name)


def open_dataset(name: str, root: Path | str | None = None, **options: Any) -> Dataset:
    """Return a data set by name, `family:split`, from the folder `root` that holds it.

    Options are those of the family (docs/data.md), and of all of them `links` (follow links that lead out of the root)
    and `check` (look for every picture at once). The generated scenes, `scenes:SPLIT`, need no root.

    >>> len(open_dataset("scenes:test", scenes=2))
    8

    Raises:
        DataError: an unknown name, split or option; files that are missing or malformed.
    """
    family, _, split = name.partition(":")
    if family == "scenes":
        from leanseg.data.scenes.splits import split as scenes

        return scenes(split, **options)
    kind = reader(family)
    if not split:
        raise DataError(
            f"data set {name!r} names no split; expected one of {', '.join(kind.splits)}; add it: {name}:..."
        )
    if root is None:
        raise DataError(
            f"data set {name!r} is read from files; expected the folder that holds them; give a root (--root)"
        )
    for option in ("links", "check"):
        value = options.get(option, True)
        if not isinstance(value, bool):  # a word as "false" would be true
            raise DataError(f"option {option} of {family} is {value!r}; expected True or False; give that")
    made: Dataset = kind(root, split, **options)
    return made

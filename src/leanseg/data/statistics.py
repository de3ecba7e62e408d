"""The table of data sets of the paper's supplement, counted on what lies below a root.

The paper compares Ref-DAVIS17 with Ref-YouTube-VOS to say why pruning costs more on the first. Its values stand in
columns of their own; ours are counts of the files that are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leanseg.data.folder import Folder, MissingFilesError
from leanseg.data.inspection import families, is_there
from leanseg.data.registry import reader

# EVTP, supplement, Table 6 (numbered 3 in its text version).
PAPER: dict[str, dict[str, Any]] = {
    "refdavis": {
        "videos": 90, "objects": 205, "expressions": 1544, "objects_per_video": 2.3, "expressions_per_object": 7.53,
        "frames_per_video": 67.4, "density": "Dense (every frame)", "categories": "Low (e.g., people, dogs)",
    },
    "refyoutube": {
        "videos": 3975, "objects": 7451, "expressions": 27899, "objects_per_video": 1.87,
        "expressions_per_object": 3.74, "frames_per_video": 126.0, "density": "Sparse (5 fps)",
        "categories": "High (animals, vehicles, tools)",
    },
}  # fmt: skip
ROWS: dict[str, str] = {
    "videos": "videos", "pictures": "pictures", "objects": "objects", "expressions": "expressions",
    "objects_per_video": "objects per video", "expressions_per_object": "expressions per object",
    "frames_per_video": "frames per video", "spanned_frames_per_video": "frames per video, by their numbers",
    "density": "annotation density", "categories": "categories",
}  # fmt: skip
_ADDED = ("videos", "pictures", "objects", "expressions", "frames", "annotated_frames", "spanned_frames")
_SPLITS = {"refyoutube": ("train", "valid_all"), "refdavis": ("train", "val")}
_NAMED = 3


def statistics(root: Path, names: Iterable[str] = (), *, links: bool = False) -> list[dict[str, Any]]:
    """Return one entry per data set that is there: `splits` counted, `measured`, and `paper` (None if it has no row).

    Pictures need not be there. Splits that cannot be opened for missing files are left out, malformed ones raise.
    """
    folder = Folder(root, links=links)
    found = []
    for family in families(names):
        kind = reader(family)
        counted: dict[str, dict[str, Any]] = {}
        for split in _SPLITS.get(family, kind.splits) if is_there(family, folder) else ():
            try:
                dataset = kind(root, split, check=False, links=links)
            except MissingFilesError:
                continue
            counted[split] = dict(dataset.statistics())
        if counted:
            found.append({
                "name": family, "splits": list(counted), "by_split": counted, "measured": summary(counted.values()),
                "paper": PAPER.get(family),
            })  # fmt: skip
    return found


def summary(splits: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of the table over several splits; means count only splits that state both of their numbers."""
    counts = list(splits)
    total: dict[str, Any] = {}
    for name in _ADDED:
        stated = [one[name] for one in counts if one.get(name) is not None]
        if stated:
            total[name] = sum(stated)
    named: Counter[str] = Counter()
    for one in counts:
        named.update(one.get("categories", {}))
    pairs = {
        "objects_per_video": ("objects", "videos"),
        "expressions_per_object": ("expressions", "objects"),
        "frames_per_video": ("frames", "videos"),
        "spanned_frames_per_video": ("spanned_frames", "videos"),
    }
    for name, (upper, lower) in pairs.items():
        both = [one for one in counts if one.get(upper) is not None and one.get(lower)]
        if both:
            total[name] = round(sum(one[upper] for one in both) / sum(one[lower] for one in both), 2)
    if total.get("frames"):
        total["density"] = _density(total)
    if named:
        total["categories"] = dict(named.most_common())
    return total


def _density(total: dict[str, Any]) -> str:
    """Say how many of the listed frames have masks, and how far apart listed frames lie by their numbers."""
    share = total.get("annotated_frames", 0) / total["frames"]
    gaps = total["frames"] - total.get("videos", 0)
    step = (total.get("spanned_frames", total["frames"]) - total.get("videos", 0)) / gaps if gaps > 0 else 1.0
    spaced = "every frame" if step == 1 else f"one frame in {step:.3g}"
    return f"{share:.0%} of the listed frames; listed: {spaced}"


def cell(name: str, value: Any) -> str:
    """Return a value of the table as text.

    >>> cell("categories", {"dog": 3, "cat": 1}), cell("videos", 3975), cell("objects", None)
    ('2: dog 3, cat 1', '3,975', '-')
    """
    if value is None:
        return "-"
    if name == "categories" and isinstance(value, dict):
        listed = ", ".join(f"{category} {count}" for category, count in list(value.items())[:_NAMED])
        return f"{len(value)}: {listed}" + (", ..." if len(value) > _NAMED else "")
    return f"{value:,}" if isinstance(value, int) else str(value)

"""The layout of Ref-DAVIS17 as downloaded: the DAVIS tree and four text files of two annotators."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from leanseg.data.scenes.export.files import index_map, write_index_map, write_json, write_picture
from leanseg.data.scenes.scene import ClipScene

_TEXTS = (
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)


def write_ref_davis17(clips: Iterable[ClipScene], root: Path, *, split: str = "val") -> dict[str, int]:
    """Write one part (train or val) below `root`; the other part's list is left empty.

    Every annotated object needs four descriptions, so only objects that some instruction means alone are annotated
    (numbered from 1); their sentences are dealt to the four files in turn, those about motion to the full-video ones
    first. A clip without such an object is left out.
    """
    davis = root / "DAVIS"
    names: list[str] = []
    categories: dict[str, dict[str, str]] = {}
    lines: list[list[str]] = [[] for _ in _TEXTS]
    objects = 0
    for clip in clips:
        described = _described(clip)
        if not described:
            continue
        name = f"scene-{len(names):05d}"
        names.append(name)
        for time, (frame, masks) in enumerate(zip(clip.frames, clip.masks, strict=True)):
            write_picture(davis / "JPEGImages" / "480p" / name / f"{time:05d}.jpg", frame)
            numbers = index_map(masks[list(described)])
            write_index_map(davis / "Annotations_unsupervised" / "480p" / name / f"{time:05d}.png", numbers)
        categories[name] = {str(k): clip.objects[index].item for k, index in enumerate(described, start=1)}
        objects += len(described)
        for number, texts in enumerate(described.values(), start=1):
            for column, text in zip(lines, _four(*texts), strict=True):
                column.append(f'{name} {number} "{text}"')
    for (file, encoding), column in zip(_TEXTS, lines, strict=True):
        path = root / "davis_text_annotations" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{line}\n" for line in column).encode(encoding))
    for part in ("train", "val"):
        path = davis / "ImageSets" / "2017" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names) if part == split else "", encoding="utf-8")
    write_json(davis / "davis_semantics.json", categories)
    return {"videos": len(names), "objects": objects, "expressions": 4 * objects}


def _described(clip: ClipScene) -> dict[int, tuple[list[str], list[str]]]:
    """Return for each object meant alone and seen in the first frame: (sentences about looks, about motion)."""
    found: dict[int, tuple[list[str], list[str]]] = {}
    for instruction in clip.instructions:
        if len(instruction.targets) == 1 and bool(np.any(clip.masks[0, instruction.targets[0]])):
            texts = found.setdefault(instruction.targets[0], ([], []))[instruction.kind == "motion"]
            if instruction.text not in texts:
                texts.append(instruction.text)
    return dict(sorted(found.items()))


def _four(looks: list[str], motion: list[str]) -> tuple[str, str, str, str]:
    """Return sentences for (first frame, full video) of annotator 1, then of annotator 2."""
    first, full = looks or motion, motion + looks
    return first[0], full[0], first[1 % len(first)], full[1 % len(full)]

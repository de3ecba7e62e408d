"""The layout of ReVOS: expressions with object and annotation numbers, run-length masks by annotation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.export.files import write_json, write_picture
from leanseg.data.scenes.scene import ClipScene, SceneInstruction
from leanseg.run_length import encode_mask


def write_revos(clips: Iterable[ClipScene], root: Path, *, split: str = "valid") -> dict[str, int]:
    """Write one part (train or valid) below `root`; the other part's expressions are an empty table.

    type_id is 0 for referring, 1 for reasoning, 2 for expressions without an object. A frame in which an object cannot
    be seen has null for a mask. The foreground is the union of what any expression of the clip means.
    """
    videos: dict[str, Any] = {}
    masks_by_annotation: dict[str, list[dict[str, Any] | None]] = {}
    foregrounds: dict[str, Any] = {}
    expressions = 0
    for clip in clips:
        video = f"scenes/{clip.seed:010x}"
        first = len(masks_by_annotation)
        names = [f"{time:05d}" for time in range(len(clip.frames))]
        for name, frame in zip(names, clip.frames, strict=True):
            write_picture(root / "JPEGImages" / video / f"{name}.jpg", frame)
        for k in range(len(clip.objects)):
            masks_by_annotation[str(first + k)] = [
                encode_mask(mask) if mask.any() else None for mask in clip.masks[:, k]
            ]
        spoken = {str(k): _expression(one, first) for k, one in enumerate(clip.instructions)}
        expressions += len(spoken)
        videos[video] = {
            "expressions": spoken, "vid_id": len(videos), "frames": names, "height": clip.frames.shape[1],
            "width": clip.frames.shape[2], "source": "scenes",
        }  # fmt: skip
        meant = sorted({target for one in clip.instructions for target in one.targets})
        foregrounds[video] = _foreground(np.asarray(clip.masks[:, meant].any(axis=1)))
    for part in ("train", "valid"):
        write_json(root / f"meta_expressions_{part}_.json", {"videos": videos if part == split else {}}, indent=1)
    write_json(root / "mask_dict.json", masks_by_annotation)
    write_json(root / "mask_dict_foreground.json", foregrounds)
    return {"videos": len(videos), "annotations": len(masks_by_annotation), "expressions": expressions}


def _expression(instruction: SceneInstruction, first: int) -> dict[str, Any]:
    kind = 1 if instruction.task.endswith("reasoning") else 0
    return {
        "exp": instruction.text,
        "obj_id": list(instruction.targets),
        "anno_id": [first + target for target in instruction.targets],
        "type_id": kind if instruction.targets else 2,
    }


def _foreground(union: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "masks_rle": [encode_mask(mask) for mask in union],
        "foreground_ratio": [float(mask.mean()) for mask in union],
    }

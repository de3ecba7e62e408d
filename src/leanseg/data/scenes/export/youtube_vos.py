"""The layout of Ref-YouTube-VOS: expressions by video, JPEG frames, indexed masks for the training part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leanseg.data.scenes.export.files import index_map, write_index_map, write_json, write_picture
from leanseg.data.scenes.scene import ClipScene

FRAME_STEP = 5  # the data set keeps every fifth frame and names it so


def write_ref_youtube_vos(clips: Iterable[ClipScene], root: Path, *, split: str = "train") -> dict[str, int]:
    """Write one part (train, valid or test) below `root`; only the training part has masks and object numbers.

    An expression of this data set means one object, so instructions with none or several are left out.
    """
    public = split == "train"
    tree = root / ("train" if public else split)
    expressions: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for clip in clips:
        video = f"{clip.seed:010x}"
        names = [f"{time * FRAME_STEP:05d}" for time in range(len(clip.frames))]
        for name, frame, masks in zip(names, clip.frames, clip.masks, strict=True):
            write_picture(tree / "JPEGImages" / video / f"{name}.jpg", frame)
            if public:
                write_index_map(tree / "Annotations" / video / f"{name}.png", index_map(masks))
        single = [one for one in clip.instructions if len(one.targets) == 1]
        spoken = {
            str(k): {"exp": one.text, "obj_id": str(one.targets[0] + 1)} if public else {"exp": one.text}
            for k, one in enumerate(single)
        }
        expressions[video] = {"expressions": spoken, "frames": names}
        objects[video] = {
            "objects": {
                str(k + 1): {
                    "category": item.item,
                    "frames": [name for name, masks in zip(names, clip.masks, strict=True) if masks[k].any()],
                }
                for k, item in enumerate(clip.objects)
            }
        }
    write_json(root / "meta_expressions" / split / "meta_expressions.json", {"videos": expressions})
    if public:
        write_json(tree / "meta.json", {"videos": objects})
    count = sum(len(video["expressions"]) for video in expressions.values())
    return {"videos": len(expressions), "expressions": count}

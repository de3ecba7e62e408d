"""Our own layout: PNG pictures and frames, indexed PNG masks of every object, one JSON file with all the words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leanseg.data.scenes.export.files import index_map, write_index_map, write_json, write_picture
from leanseg.data.scenes.scene import ClipScene, Scene


def write_native(scenes: Iterable[Scene | ClipScene], root: Path) -> dict[str, int]:
    """Write `pictures/`, `clips/`, `masks/` and `instructions.json` below `root`; return how many of what.

    Value k + 1 of a mask picture marks the visible part of object k; an instruction's answer is the union of
    its targets.
    """
    entries: list[dict[str, Any]] = []
    counts = {"pictures": 0, "clips": 0, "instructions": 0}
    for scene in scenes:
        if isinstance(scene, ClipScene):
            name = f"clip-{counts['clips']:06d}"
            for time, (frame, masks) in enumerate(zip(scene.frames, scene.masks, strict=True)):
                write_picture(root / "clips" / name / f"{time:05d}.png", frame)
                write_index_map(root / "masks" / name / f"{time:05d}.png", index_map(masks))
            place = {"clip": f"clips/{name}", "masks": f"masks/{name}", "redundancy": scene.redundancy}
            counts["clips"] += 1
        else:
            name = f"picture-{counts['pictures']:06d}"
            write_picture(root / "pictures" / f"{name}.png", scene.image)
            write_index_map(root / "masks" / f"{name}.png", index_map(scene.masks))
            place = {"picture": f"pictures/{name}.png", "masks": f"masks/{name}.png"}
            counts["pictures"] += 1
        counts["instructions"] += len(scene.instructions)
        instructions = [asdict(one) for one in scene.instructions]
        objects = [asdict(one) for one in scene.objects]
        entries.append({"id": name, **place, "seed": scene.seed, "objects": objects, "instructions": instructions})
    write_json(root / "instructions.json", {"schema": 1, "scenes": entries}, indent=1)
    return counts

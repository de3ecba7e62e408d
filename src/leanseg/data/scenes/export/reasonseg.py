"""The layout of ReasonSeg: a JPEG and a JSON file with texts and labelled polygons for each question."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leanseg.data.scenes.export.files import write_json, write_picture
from leanseg.data.scenes.export.outline import center_polygons
from leanseg.data.scenes.scene import Scene


def write_reasonseg(scenes: Iterable[Scene], root: Path, *, split: str = "val") -> dict[str, int]:
    """Write `<split>/<name>.jpg` and `.json` below `root`, one pair for each instruction, and the explanatory list.

    `is_sentence` is true for questions about purposes. The polygons run through the outermost pixels of the masks, so
    that the data set's own way of painting (outline and inside) gives the exact masks.
    """
    explained: list[dict[str, Any]] = []
    pictures = 0
    for number, scene in enumerate(scenes):
        for which, instruction in enumerate(scene.instructions):
            name = f"{number + 1:06d}_{which}"
            write_picture(root / split / f"{name}.jpg", scene.image)
            shapes: list[dict[str, Any]] = [
                {
                    "label": "target", "labels": ["target"], "shape_type": "polygon", "image_name": f"{name}.jpg",
                    "points": points, "group_id": None, "group_ids": [None], "flags": {},
                }
                for target in instruction.targets
                for points in center_polygons(scene.masks[target])
            ]  # fmt: skip
            is_sentence = instruction.task.endswith("reasoning")
            document = {"text": [instruction.text], "is_sentence": is_sentence, "shapes": shapes}
            write_json(root / split / f"{name}.json", document, indent=2)
            pictures += 1
            if split == "train" and is_sentence:
                things = " and ".join(dict.fromkeys(scene.objects[k].item for k in instruction.targets))
                explained.append({
                    "image": f"{name}.jpg", "query": instruction.text, "outputs": f"It is the {things}.",
                    "json": f"{name}.json",
                })  # fmt: skip
    write_json(root / "explanatory" / "train.json", explained, indent=2)
    return {"pictures": pictures, "explanations": len(explained)}

"""The layout of RefCOCO, RefCOCO+ and RefCOCOg: `instances.json`, `refs(<splitBy>).p` and the tree of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.categories import CATEGORIES
from leanseg.data.scenes.export.files import write_json, write_picture
from leanseg.data.scenes.export.outline import edge_polygons
from leanseg.data.scenes.items import ITEMS, N_TRAIN_ITEMS, class_index
from leanseg.data.scenes.phrasing import words
from leanseg.data.scenes.scene import Scene

_SEVERAL = N_TRAIN_ITEMS + 1000  # category of answers with objects of several names


def write_refcoco(
    scenes: Iterable[Scene], root: Path, *, dataset: str = "refcoco", split_by: str = "unc", split: str = "val"
) -> dict[str, int]:
    """Write below `root` what a RefCOCO reader expects; instructions with the same answer become one ref.

    An answer of several objects becomes one annotation with their polygons. Instructions without a target are left
    out, because a ref needs an annotation. The polygons rasterise to the exact masks under COCO's rule.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    sentences = 0
    for number, scene in enumerate(scenes, start=1):
        name = f"COCO_train2014_{number:012d}.jpg"
        write_picture(root / "images" / "mscoco" / "images" / "train2014" / name, scene.image)
        height, width = scene.image.shape[:2]
        images.append({
            "id": number, "file_name": name, "height": height, "width": width, "license": 1, "coco_url": "",
            "flickr_url": "", "date_captured": "2024-01-01 00:00:00",
        })  # fmt: skip
        answers: dict[tuple[int, ...], list[str]] = {}
        for instruction in scene.instructions:
            if instruction.targets:
                answers.setdefault(instruction.targets, []).append(instruction.text)
        for targets, texts in answers.items():
            mask = np.asarray(scene.masks[list(targets)].any(axis=0))
            classes = {class_index(scene.objects[k].item_index) for k in targets}
            category = classes.pop() + 1 if len(classes) == 1 else _SEVERAL
            identity = len(annotations) + 1
            annotations.append(_annotation(mask, identity, number, category))
            spoken = [_sentence(text, sentences + k) for k, text in enumerate(texts)]
            sentences += len(spoken)
            refs.append({
                "sent_ids": [one["sent_id"] for one in spoken], "file_name": f"{name[:-4]}_{identity}.jpg",
                "ann_id": identity, "ref_id": len(refs), "image_id": number, "split": split, "sentences": spoken,
                "category_id": category,
            })  # fmt: skip
    folder = root / dataset
    write_json(folder / "instances.json", {
        "info": {"description": "generated scenes in the layout of RefCOCO", "version": "1.0", "year": 2024},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": ""}],
        "images": images, "annotations": annotations, "categories": _categories(),
    })  # fmt: skip
    (folder / f"refs({split_by}).p").write_bytes(old_pickle(refs))
    return {"pictures": len(images), "refs": len(refs), "sentences": sentences}


def old_pickle(value: Any) -> bytes:
    """Return plain data (dicts, lists, text, integers) as a pickle of protocol 0, the form of the published files.

    Written out rather than left to the library, whose protocol 0 stores text with another code than Python 2 did.
    """
    return "".join(_codes(value)).encode("ascii") + b"."


def _codes(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        yield "(d"
        for key, entry in value.items():
            yield from _codes(key)
            yield from _codes(entry)
            yield "s"
    elif isinstance(value, list):
        yield "(l"
        for entry in value:
            yield from _codes(entry)
            yield "a"
    elif isinstance(value, int):
        yield f"I{int(value)}\n"
    else:
        yield f"S{str(value)!a}\n"


def _annotation(mask: NDArray[np.bool_], identity: int, image: int, category: int) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
    return {
        "id": identity, "image_id": image, "category_id": category, "bbox": [float(side) for side in box],
        "area": float(mask.sum()), "iscrowd": 0, "segmentation": edge_polygons(mask),
    }  # fmt: skip


def _sentence(text: str, identity: int) -> dict[str, Any]:
    plain = [word for word in words(text) if word not in (",", "?")]
    return {"sent_id": identity, "sent": " ".join(plain), "raw": text, "tokens": plain}


def _categories() -> list[dict[str, Any]]:
    broad = {category.name for category in CATEGORIES}
    rows = [
        {"id": k + 1, "name": item.name, "supercategory": next((c for c in item.categories if c in broad), "thing")}
        for k, item in enumerate(ITEMS)
        if item.drawing_of is None
    ]
    return [*rows, {"id": _SEVERAL, "name": "several things", "supercategory": "thing"}]

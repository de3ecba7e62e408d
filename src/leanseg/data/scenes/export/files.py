"""What the writers share: pictures, indexed masks with the DAVIS palette, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

JPEG_QUALITY = 95
# Stands in the EXIF tag "Software" of every picture: `leanseg segment` tells a generated scene from a photograph by it.
SCENE_MARK = "leanseg scenes"
SOFTWARE_TAG = 0x0131


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W, 3) as PNG or JPEG by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = Image.Exif()
    mark[SOFTWARE_TAG] = SCENE_MARK
    if path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=JPEG_QUALITY, subsampling=0, exif=mark)
    else:
        Image.fromarray(pixels).save(path, exif=mark)


def write_index_map(path: Path, numbers: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W) as an indexed PNG: the stored value is the object's number, the palette is that of DAVIS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(numbers).convert("P")
    picture.putpalette(davis_palette())
    picture.save(path)


def write_json(path: Path, document: Any, indent: int | None = None) -> None:
    """Write JSON in UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def davis_palette() -> list[int]:
    """Return the 256 RGB colours of the DAVIS palette: the bits of the number, dealt to red, green and blue in turn."""
    colors = []
    for number in range(256):
        color, rest = [0, 0, 0], number
        for bit in range(7, -1, -1):
            for channel in range(3):
                color[channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
        colors += color
    return colors


def index_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return (H, W) with the number (from 1) of the object that owns each pixel, from disjoint masks (n, H, W)."""
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]
    return np.asarray((masks * numbers).sum(axis=0, dtype=np.uint8))

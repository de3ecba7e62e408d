"""COCO's compressed run-length code of a mask: in results, in records and in the layouts of public data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as compressed COCO run lengths: `size` [height, width] and `counts` as text."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of compressed COCO run lengths, the inverse of `encode_mask`."""
    height, width = encoded["size"]
    values = np.arange(len(counts := _run_lengths(encoded["counts"]))) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _run_lengths(text: str) -> list[int]:
    """Decode COCO's text: five bits a character, low bits first; the fourth run and later are differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts

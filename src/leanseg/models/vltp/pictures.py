"""A picture as the guide's CLIP tower takes it, as released; SAM's input is made by `models.sam.pictures`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from leanseg.errors import InputError
from leanseg.limits import check_picture_size
from leanseg.models.sam.pictures import normalised
from leanseg.shapes import Float, Tensor

# Of RGB values in 0..1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST = 16  # sides' ratio beyond which the ends are cut off before scaling, which would need any amount of memory


def clip_pixels(image: NDArray[Any], *, size: int = 224) -> Float[Tensor, "3 s s"]:
    """Scale the shorter side to `size` (bicubic on uint8), cut the middle square out, normalise.

    The ends of a long picture are lost to the guide, though not to SAM. Shapes: image (H, W, 3) uint8 RGB.

    >>> clip_pixels(np.zeros((20, 60, 3), np.uint8), size=8).shape
    torch.Size([3, 8, 8])
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"a picture has shape {tuple(image.shape)} and type {image.dtype}; "
            "expected (height, width, 3) of uint8 RGB; convert it first"
        )
    height, width = image.shape[:2]
    check_picture_size(height, width)
    shorter = min(height, width)
    image = _middle(image, min(height, LONGEST * shorter), min(width, LONGEST * shorter))
    height, width = image.shape[:2]
    scaled = (size * width // shorter, size * height // shorter)
    picture = Image.fromarray(np.ascontiguousarray(image)).resize(scaled, Image.Resampling.BICUBIC)
    square = _middle(np.asarray(picture, dtype=np.float32), size, size)
    values = torch.from_numpy(square.transpose(2, 0, 1).copy())
    return normalised(values / 255, MEAN, STD)


def _middle(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]

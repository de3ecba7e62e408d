"""One picture, two inputs: SigLIP sees it squashed to a square, the pixel branch sees it scaled and padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from leanseg.errors import InputError
from leanseg.limits import check_picture_size
from leanseg.shapes import Float

# Of RGB values in 0..255, as Swin was pre-trained.
MASK_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
MASK_STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)
PADDING_VALUE = 128  # before normalising, so padding is not zero afterwards


def siglip_pixels(image: NDArray[Any], size: int) -> Float[Tensor, "3 s s"]:
    """Resize to `size` x `size` without keeping the aspect ratio (bicubic) and scale the values to [-1, 1].

    Shapes: image (H, W, 3) uint8 RGB -> (3, size, size) float32.

    >>> siglip_pixels(np.full((2, 3, 3), 255, np.uint8), size=4).unique()
    tensor([1.])
    """
    squashed = np.asarray(_picture(image).resize((size, size), Image.Resampling.BICUBIC))
    scaled = squashed.astype(np.float32) * np.float32(1 / 255)
    return _channels_first((scaled - np.float32(0.5)) / np.float32(0.5))


def mask_pixels(image: NDArray[Any], size: int) -> tuple[Float[Tensor, "3 s s"], tuple[int, int]]:
    """Resize so that the longer side is `size` (bilinear), pad at the bottom and right, and normalise.

    Shapes: image (H, W, 3) uint8 RGB -> (3, size, size) float32 and (height, width) of the part that is picture,
    at the top left. Small pictures are enlarged.

    >>> pixels, valid_size = mask_pixels(np.zeros((50, 100, 3), np.uint8), size=64)
    >>> tuple(pixels.shape), valid_size
    ((3, 64, 64), (32, 64))
    """
    picture = _picture(image)
    height, width = scaled_size(picture.height, picture.width, size=size)
    padded = np.full((size, size, 3), PADDING_VALUE, dtype=np.uint8)
    padded[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return _channels_first((padded.astype(np.float32) - MASK_MEAN) / MASK_STD), (height, width)


def scaled_size(height: int, width: int, *, size: int) -> tuple[int, int]:
    """Return height and width after scaling the longer side to `size`, rounded half up and never below one pixel.

    The two steps, shorter side to `size` and then back until the longer side fits, are those of the released code;
    one step rounds differently now and then.

    >>> scaled_size(480, 640, size=1024)
    (768, 1024)
    """
    scale = size / min(height, width)
    scaled_height, scaled_width = (float(size), scale * width) if height < width else (scale * height, float(size))
    longer = max(scaled_height, scaled_width)
    if longer > size:
        scaled_height, scaled_width = scaled_height * (size / longer), scaled_width * (size / longer)
    return max(1, int(scaled_height + 0.5)), max(1, int(scaled_width + 0.5))


def _picture(image: NDArray[Any]) -> Image.Image:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"a picture has shape {tuple(image.shape)} and type {image.dtype}; "
            "expected (height, width, 3) of uint8 RGB; convert it first"
        )
    check_picture_size(image.shape[0], image.shape[1])
    return Image.fromarray(np.ascontiguousarray(image))


def _channels_first(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))

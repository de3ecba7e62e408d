"""Pictures into SAM's input, and its mask logits back to the picture's size, as released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from leanseg.errors import InputError
from leanseg.limits import check_picture_size
from leanseg.shapes import Float

# Of RGB values in 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

Size = tuple[int, int]


def scaled_size(height: int, width: int, *, size: int = 1024) -> Size:
    """Return height and width after scaling the longer side to `size`, rounded half up, never below one pixel.

    >>> scaled_size(480, 640), scaled_size(1000, 3)
    ((768, 1024), (1024, 3))
    """
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def sam_pixels(image: NDArray[Any], *, size: int = 1024) -> tuple[Float[Tensor, "3 s s"], Size]:
    """Scale the longer side to `size` (bilinear on uint8, as PIL), normalise, then fill up with zeros.

    Shapes: image (H, W, 3) uint8 RGB -> (3, size, size) float32 and (height, width) of the part that is picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"a picture has shape {tuple(image.shape)} and type {image.dtype}; "
            "expected (height, width, 3) of uint8 RGB; convert it first"
        )
    check_picture_size(image.shape[0], image.shape[1])
    height, width = scaled_size(image.shape[0], image.shape[1], size=size)
    picture = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1).copy())
    return fill_up(normalised(values), size), (height, width)


def normalised(
    values: Float[Tensor, "*b 3 h w"], mean: Sequence[float] = MEAN, deviation: Sequence[float] = STD
) -> Float[Tensor, "*b 3 h w"]:
    """Return RGB values in 0..255 less their mean, by their deviation; those of SAM's training if none are given."""
    centre, spread = (values.new_tensor(each)[:, None, None] for each in (mean, deviation))
    return (values - centre) / spread


def fill_up(values: Float[Tensor, "*b c h w"], size: int) -> Float[Tensor, "*b c s s"]:
    """Add zeros at the right and at the bottom, up to a square of side `size`."""
    height, width = values.shape[-2:]
    if max(height, width) > size:
        raise InputError(f"a picture of {height} x {width} does not fit into {size} x {size}; scale it down before")
    return F.pad(values, (0, size - width, 0, size - height))


def full_masks(
    logits: Float[Tensor, "r m h w"], *, valid_size: Size, output_size: Size, size: int = 1024
) -> Float[Tensor, "r m ho wo"]:
    """Bring mask logits to the picture's own size, in float32: enlarge to the input, cut the picture, resize.

    `valid_size`: the part of the input that is picture, as `sam_pixels` returned it. Inside is where a logit > 0.
    """
    height, width = valid_size
    if not (0 < height <= size and 0 < width <= size):
        raise InputError(
            f"the picture's part is {height} x {width} of an input of {size} x {size}; "
            "expected at least 1 x 1 and no more than the input; pass what sam_pixels returned"
        )
    enlarged = F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)
    cut = enlarged[..., :height, :width]
    return F.interpolate(cut, size=output_size, mode="bilinear", align_corners=False)

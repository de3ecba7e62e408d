"""Pictures of results: masks as tints with a contour, kept tokens as dots at the place of the picture that they see.

Tokens cover a picture in one of two ways: where a model squashes it to a square, a token cell (row, column) of the grid
is a rectangle with the picture's own aspect ratio; where it fills the picture up to a square, cells are squares, and
some lie beside the picture. Masks are at the picture's size already when they come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from leanseg.core.tokens import Grid
from leanseg.errors import InputError

Colour = tuple[int, int, int]
# IBM's colours that stay apart for colour-blind eyes, then one of Okabe and Ito's; first the rarest in pictures.
COLOURS: tuple[Colour, ...] = (
    (220, 38, 127),
    (100, 143, 255),
    (255, 176, 0),
    (0, 158, 115),
    (254, 97, 0),
    (120, 94, 240),
)
# Black inside white, so that labels are seen on light and on dark pictures.
_LABEL_COLOURS: tuple[Colour, Colour] = ((0, 0, 0), (255, 255, 255))
_TINT = 0.55
_DIM = 0.25
_GAP_FRACTION = 0.02


@dataclass(frozen=True)
class TokenLayout:
    """Where a token grid lies on a picture: cells of equal size from the top left, over `used` of each side.

    `used` is (height, width) in (0, 1]: a patch embedding without padding leaves the last pixels of the squashed
    picture unseen (27 x 14 = 378 of 384, so 378 / 384); 1 where the patches fill the picture. `padded`: the picture is
    not squashed but filled up at the right or at the bottom.
    """

    grid: Grid
    used: tuple[float, float] = (1.0, 1.0)
    padded: bool = False

    def boxes(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the cells (N, 4) as (top, left, bottom, right) in pixels of a picture, in raster order.

        >>> TokenLayout(Grid(1, 2)).boxes(10, 40).tolist()
        [[0.0, 0.0, 10.0, 20.0], [0.0, 20.0, 10.0, 40.0]]
        """
        if self.padded:
            height = width = max(height, width)
        cell = np.array([height * self.used[0] / self.grid.height, width * self.used[1] / self.grid.width])
        rows, columns = np.divmod(np.arange(self.grid.height * self.grid.width), self.grid.width)
        corner = np.stack([rows, columns], axis=1) * cell
        return np.concatenate([corner, corner + cell], axis=1)


def token_layout(grid: Grid, image_size: int, patch_size: int) -> TokenLayout:
    """Return the layout of a ViT that squashes the picture to `image_size` pixels and cuts patches without padding."""
    return TokenLayout(grid, (grid.height * patch_size / image_size, grid.width * patch_size / image_size))


def overlay(
    image: NDArray[Any],
    masks: NDArray[Any] | None = None,
    kept: Sequence[int] | NDArray[Any] | None = None,
    layout: TokenLayout | Grid | None = None,
    *,
    colours: Sequence[Colour] = COLOURS,
    min_side: int | None = None,
) -> Image.Image:
    """Return the picture (H, W, 3) with masks (H, W) or (n, H, W) tinted and outlined, and kept tokens as dots.

    Each mask takes the next of `colours`; where masks overlap the earlier one is drawn on top. `kept` are token
    indices in raster order of `layout`. A picture with a side below `min_side` pixels is enlarged, so that dots show.
    """
    pixels, planes = _checked(image, masks)
    pixels, planes = _enlarged(pixels, planes, min_side)
    canvas = pixels.astype(np.float64)
    thickness = max(1, round(min(pixels.shape[:2]) / 200))
    for index in range(len(planes) - 1, -1, -1):
        colour = np.asarray(colours[index % len(colours)], dtype=np.float64)
        canvas[planes[index]] = (1 - _TINT) * pixels[planes[index]] + _TINT * colour
        canvas[contour(planes[index], thickness)] = colour
    picture = Image.fromarray(np.rint(canvas).astype(np.uint8))
    if kept is None:
        return picture
    return _with_dots(picture, _boxes_of(kept, layout, picture))


def kept_cells(
    image: NDArray[Any],
    kept: Sequence[int] | NDArray[Any],
    layout: TokenLayout | Grid,
    *,
    min_side: int | None = None,
) -> Image.Image:
    """Return the picture as the language model gets it: kept token cells in their colours, all else dimmed."""
    pixels, _ = _checked(image, None)
    pixels, _ = _enlarged(pixels, np.zeros((0, *pixels.shape[:2]), dtype=bool), min_side)
    grey = pixels.mean(axis=2, keepdims=True)
    canvas = np.rint(255 - (255 - grey) * _DIM).repeat(3, axis=2).astype(np.uint8)
    picture = Image.fromarray(canvas)
    for top, left, bottom, right in np.rint(_boxes_of(kept, layout, picture)).astype(int).tolist():
        canvas[top:bottom, left:right] = pixels[top:bottom, left:right]
    return Image.fromarray(canvas)


def compare(
    image: NDArray[Any],
    masks: NDArray[Any],
    kept: Sequence[int] | NDArray[Any],
    layout: TokenLayout | Grid,
    *,
    min_side: int = 256,
) -> Image.Image:
    """Return the row original | kept tokens | mask on white, the figure of the README."""
    panels = [
        overlay(image, min_side=min_side),
        kept_cells(image, kept, layout, min_side=min_side),
        overlay(image, masks, min_side=min_side),
    ]
    return _in_a_row(panels)


def stages_row(
    image: NDArray[Any],
    masks: NDArray[Any],
    stages: Sequence[Sequence[int] | NDArray[Any]],
    layout: TokenLayout | Grid,
    *,
    labels: Sequence[int] | NDArray[Any] | None = None,
    **look: Any,
) -> Image.Image:
    """Return one `overlay` per stage on white, each with the tokens that this stage kept; `look` goes to `overlay`.

    `labels`: tokens in which the wanted mask lies (VLTP's Eq. 13), outlined together, to compare with what was kept.
    """
    panels = [overlay(image, masks, kept, layout, **look) for kept in stages]
    return _in_a_row(panels if labels is None else [_outlined(panel, labels, layout) for panel in panels])


def _in_a_row(panels: Sequence[Image.Image]) -> Image.Image:
    width, height = panels[0].size
    gap = max(2, round(_GAP_FRACTION * width))
    row = Image.new("RGB", (len(panels) * (width + gap) - gap, height), (255, 255, 255))
    for index, panel in enumerate(panels):
        row.paste(panel, (index * (width + gap), 0))
    return row


def _outlined(picture: Image.Image, labels: Sequence[int] | NDArray[Any], layout: TokenLayout | Grid) -> Image.Image:
    canvas = np.array(picture)
    plane = np.zeros(canvas.shape[:2], dtype=bool)
    for top, left, bottom, right in np.rint(_boxes_of(labels, layout, picture)).astype(int).tolist():
        plane[top:bottom, left:right] = True
    thickness = max(1, round(min(plane.shape) / 200))
    for colour, width in zip(_LABEL_COLOURS, (2 * thickness, thickness), strict=True):
        canvas[contour(plane, width)] = colour
    return Image.fromarray(canvas)


def contour(mask: NDArray[np.bool_], thickness: int = 1) -> NDArray[np.bool_]:
    """Return the pixels of `mask` (H, W) within `thickness` steps of its outside; beyond the border is no outside."""
    inner = mask
    for _ in range(thickness):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _with_dots(picture: Image.Image, boxes: NDArray[np.float64]) -> Image.Image:
    draw = ImageDraw.Draw(picture)
    for top, left, bottom, right in boxes.tolist():
        radius = max(1.0, 0.18 * min(bottom - top, right - left))
        y, x = (top + bottom) / 2, (left + right) / 2
        # Pixel (i, j) covers [i, i + 1): the centre of a cell lies half a pixel before the index that Pillow draws at.
        draw.ellipse(
            (x - 0.5 - radius, y - 0.5 - radius, x - 0.5 + radius, y - 0.5 + radius),
            fill=(255, 255, 255),
            outline=(0, 0, 0),
        )
    return picture


def _boxes_of(
    kept: Sequence[int] | NDArray[Any], layout: TokenLayout | Grid | None, picture: Image.Image
) -> NDArray[np.float64]:
    if layout is None:
        raise InputError("kept tokens were given without a layout; give the Grid or TokenLayout that they index")
    layout = TokenLayout(layout) if isinstance(layout, Grid) else layout
    boxes = layout.boxes(picture.height, picture.width)
    indices = np.asarray(kept, dtype=np.int64).ravel()
    if indices.size and (indices.min() < 0 or indices.max() >= len(boxes)):
        raise InputError(
            f"kept token {indices.max() if indices.max() >= len(boxes) else indices.min()} is not on the grid of "
            f"{layout.grid.height} x {layout.grid.width} = {len(boxes)} tokens; give the grid that was pruned"
        )
    return boxes[indices]


def _checked(image: NDArray[Any], masks: NDArray[Any] | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image of shape {image.shape} and dtype {image.dtype}; expected uint8 of shape (H, W, 3)")
    planes = np.zeros((0, *image.shape[:2]), dtype=bool) if masks is None else masks
    planes = planes[None] if planes.ndim == 2 else planes
    if planes.ndim != 3 or planes.dtype != np.bool_ or planes.shape[1:] != image.shape[:2]:
        raise InputError(
            f"masks of shape {planes.shape} and dtype {planes.dtype}; expected bool of shape (n, H, W) with the "
            f"image's {image.shape[0]} x {image.shape[1]} pixels"
        )
    return image, planes


def _enlarged(
    pixels: NDArray[np.uint8], planes: NDArray[np.bool_], min_side: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    factor = 1 if min_side is None else -(-min_side // min(pixels.shape[:2]))
    if factor <= 1:
        return pixels, planes
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    larger = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return larger, planes.repeat(factor, axis=1).repeat(factor, axis=2)

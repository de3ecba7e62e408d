"""The sizes above which an input is refused before any long work, shared by the readers and the models."""

from __future__ import annotations

from leanseg.errors import InputError

MAX_PIXELS = 50_000_000
MAX_SIDE_PIXELS = 16_384


def check_picture_size(height: int, width: int, what: str = "picture") -> None:
    """Refuse a picture without pixels, of more than 50 megapixels, or with a side above 16,384 pixels.

    >>> check_picture_size(480, 640)
    """
    if height < 1 or width < 1:
        raise InputError(f"{what} has zero size: {height} x {width} pixels; give one with at least 1 x 1 pixel")
    if max(height, width) > MAX_SIDE_PIXELS:
        raise InputError(
            f"{what} is too large: {height} x {width} pixels, at most {MAX_SIDE_PIXELS} per side; make it smaller first"
        )
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{what} is too large: {height} x {width} = {height * width / 1e6:.1f} megapixels, "
            f"at most {MAX_PIXELS // 1_000_000}; make it smaller first"
        )

"""Frames and indexed masks of data sets: their sizes are checked before anything is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanseg.errors import DataError, InputError
from leanseg.limits import check_picture_size

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, Image.DecompressionBombError)


def read_frame(path: Path) -> NDArray[np.uint8]:
    """Return a JPEG or PNG as RGB uint8 (H, W, 3), as stored: annotations do not know of a turn in its EXIF."""
    pixels: NDArray[np.uint8] = _read(path, lambda picture: np.asarray(picture.convert("RGB"), dtype=np.uint8))
    return pixels


def read_index_map(path: Path) -> NDArray[np.uint8]:
    """Return an indexed or grey PNG as its stored numbers uint8 (H, W)."""

    def numbers(picture: Image.Image) -> NDArray[np.uint8]:
        if picture.mode not in ("P", "L", "1"):
            raise DataError(
                f"{path} is a {picture.mode} picture; expected an indexed or grey PNG whose values are object numbers"
            )
        return np.asarray(picture, dtype=np.uint8)

    found: NDArray[np.uint8] = _read(path, numbers)
    return found


def picture_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from a picture's header."""
    size: tuple[int, int] = _read(path, lambda picture: (picture.height, picture.width))
    return size


def _read(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                check_picture_size(picture.height, picture.width, f"picture {path}")
                return use(picture)
    except InputError as error:
        raise DataError(str(error)) from None
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no such file: {path}; get the data set's pictures") from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}; the file is truncated or damaged; get it again") from None

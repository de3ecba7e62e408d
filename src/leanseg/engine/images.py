"""Single pictures: a file of a common kind becomes RGB uint8; masks become PNG files, whole or not at all, and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from leanseg.errors import InputError
from leanseg.limits import check_picture_size

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})
# Pillow knows more, among them EPS, for which it runs another program on the file's content.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
_SIXTEEN_TO_EIGHT_BITS = 257.0
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def is_picture(path: Path) -> bool:
    """Return whether a file's header is one of a picture; nothing is decoded, and a damaged picture counts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.open(path, formats=_FORMATS).close()
    except UnidentifiedImageError:
        return False
    except _UNREADABLE:
        return path.suffix.lower() in IMAGE_SUFFIXES
    return True


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture's header with its size checked; the pixels are not decoded yet.

    Raises:
        InputError: the file is missing, is not a picture, or is larger than `leanseg.limits` allows.
    """
    if not path.exists():
        raise InputError(f"no such file: {path}; give the path of a picture")
    try:
        with warnings.catch_warnings():
            # Pillow only warns about a picture of 90 to 180 megapixels; the size check below refuses it in our words.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"picture {path} is too large (a decompression bomb?); make it smaller first") from None
    except UnidentifiedImageError:
        raise InputError(f"not a picture that can be read: {path}; give a PNG, JPEG, WebP, BMP, TIFF or GIF") from None
    except _UNREADABLE as error:
        raise InputError(f"cannot read {path}: {_one_line(error)}; check that the file is whole") from None
    with picture:
        check_picture_size(picture.height, picture.width, f"picture {path}")
        yield picture


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture as RGB uint8 of shape (H, W, 3), upright as its EXIF orientation says.

    Transparency is flattened on white; palette, grey, 16-bit grey and CMYK pictures are converted; of a file with
    several pictures the first is read.

    Raises:
        InputError: the file is missing, truncated, too large, or no picture that can be converted.
    """
    path = Path(path)
    with open_picture(path) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
        except _UNREADABLE as error:
            raise InputError(f"cannot decode {path}: {_one_line(error)}; the file is truncated or damaged") from None
        return to_rgb(upright, path)


def decoded_pictures(picture: Image.Image, path: Path) -> Iterator[Image.Image]:
    """Yield the pictures of an open animation in order, each complete."""
    for index in range(int(getattr(picture, "n_frames", 1))):
        try:
            picture.seek(index)
            picture.load()
        except _UNREADABLE as error:
            raise InputError(
                f"cannot decode picture {index} of {path}: {_one_line(error)}; the file is damaged"
            ) from None
        yield picture


def to_rgb(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Return a decoded picture of any Pillow mode as RGB uint8 of shape (H, W, 3)."""
    if picture.mode == "F":
        raise InputError(f"picture {path} holds floating-point values without a known range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float64) / _SIXTEEN_TO_EIGHT_BITS
        eight_bits = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
        return np.repeat(eight_bits[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, coloured)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def write_mask_png(path: str | Path, mask: NDArray[Any]) -> Path:
    """Write a bool mask (H, W) as an 8-bit grey PNG of 0 and 255, the layout of Ref-YouTube-VOS and ReVOS results."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise InputError(f"mask of shape {mask.shape} and dtype {mask.dtype}; expected bool of shape (H, W)")
    return save_png(path, Image.fromarray(mask.astype(np.uint8) * 255))


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a mask (H, W) from a picture of one colour on black, such as `write_mask_png` writes.

    Raises:
        InputError: as `read_image`, or several colours.
    """
    pixels = read_image(path)
    mask = np.asarray(pixels.any(axis=2))
    inside = pixels[mask]
    if (inside != inside[:1]).any():
        raise InputError(f"{path} is no mask: it holds several colours; expected one, such as white, on black")
    return mask


def save_png(path: str | Path, picture: Image.Image) -> Path:
    """Save a picture as PNG under a temporary name, then rename it, so that no half-written file is ever seen."""
    path = Path(path)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it becomes `path` when the block ends well and is removed when it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex[:12]}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

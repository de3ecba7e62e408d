"""Label maps and masks of public layouts, read from PNG files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leanseg.errors import DataError
from leanseg.limits import check_picture_size

Labels = npt.NDArray[np.uint8]


def require(paths: Iterable[Path], what: str) -> None:
    """Raise one error that names every path that is not there."""
    missing = sorted({str(path) for path in paths if not path.exists()})
    if missing:
        raise DataError(
            f"{len(missing)} {what} missing: {', '.join(missing)}; nothing was measured, since a mean over what is "
            "there would be another number"
        )


def read_labels(path: Path) -> Labels:
    """Return an indexed or grey PNG as its values (H, W): the index is the object's number."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            check_picture_size(picture.height, picture.width, f"picture {path}")
            mode = picture.mode
            labels = np.array(picture, dtype=np.uint8) if mode in ("P", "L", "1") else None
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); write it again as an 8-bit PNG") from error
    if labels is None:
        raise DataError(f"{path} is a picture of mode {mode}; expected 8-bit, indexed or grey: the label")
    return labels


def read_clip(paths: Iterable[Path]) -> Labels:
    """Return label maps of one size as (T, H, W)."""
    frames = [(path, read_labels(path)) for path in paths]
    for path, labels in frames:
        if labels.shape != frames[0][1].shape:
            raise DataError(
                f"{path} is {labels.shape[0]} x {labels.shape[1]} pixels and {frames[0][0]} is "
                f"{frames[0][1].shape[0]} x {frames[0][1].shape[1]}; all frames of a clip must have one size"
            )
    return np.stack([labels for _, labels in frames])


def read_masks(paths: Iterable[Path]) -> npt.NDArray[np.bool_]:
    """Return masks of one size, saved with any one value inside, as (T, H, W)."""
    files = list(paths)
    clip = read_clip(files)
    for path, labels in zip(files, clip, strict=True):
        inside = labels[labels > 0]
        if inside.size and bool((inside != inside[0]).any()):
            raise DataError(
                f"{path} holds several values beside 0; expected a mask with 0 outside and one value inside, as 255"
            )
    return clip > 0


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); get it again") from error

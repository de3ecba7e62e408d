"""COCO run lengths from strangers: checked before anything is allocated.

`leanseg.run_length` trusts its input, since we wrote it; here every number is somebody else's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.errors import DataError, InputError
from leanseg.limits import check_picture_size

_MOST_CHARACTERS_PER_RUN = 7  # 5 bits each: more than any mask within the limits needs


def decode(code: Any, what: str, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Return the mask (H, W) of `{"size": [H, W], "counts": text or list}`; `size` is what it must have.

    >>> decode({"size": [2, 3], "counts": [2, 1, 3]}, "a mask").astype(int).tolist()
    [[0, 1, 0], [0, 0, 0]]

    Raises:
        DataError: not run lengths, of another or an unreasonable size, or a sum that is not H x W.
    """
    if not isinstance(code, dict) or not {"size", "counts"} <= code.keys():
        raise DataError(f"the mask of {what} is no run-length code; expected size and counts; mend the file")
    height, width = _size(code["size"], what)
    if size is not None and (height, width) != size:
        raise DataError(
            f"the mask of {what} has {height} x {width} pixels; expected {size[0]} x {size[1]}, as its picture has; "
            "mend the file"
        )
    runs = _runs(code["counts"], what)
    if len(runs) and (runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width):
        raise DataError(
            f"the run lengths of {what} do not add up to {height} x {width} pixels; the file is damaged; get it again"
        )
    if not len(runs):
        raise DataError(f"the mask of {what} has no run lengths; expected at least one; mend the file")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _size(size: Any, what: str) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        raise DataError(f"the size of the mask of {what} is not [height, width]; mend the file")
    try:
        check_picture_size(size[0], size[1], f"the mask of {what}")
    except InputError as error:
        raise DataError(str(error)) from None
    return size[0], size[1]


def _runs(counts: Any, what: str) -> NDArray[np.int64]:
    if isinstance(counts, list):
        if not all(type(count) is int and 0 <= count < 2**40 for count in counts):
            raise DataError(f"the run lengths of {what} are not whole numbers >= 0; mend the file")
        return np.array(counts, dtype=np.int64)
    try:
        codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except (AttributeError, UnicodeEncodeError):
        raise DataError(f"the run lengths of {what} are neither text nor a list; mend the file") from None
    ends = np.flatnonzero((codes & 0x20) == 0)
    lengths = np.diff(ends, prepend=-1)
    fit = len(codes) == 0 or (codes.min() >= 0 and codes.max() < 64 and len(ends) and ends[-1] == len(codes) - 1)
    if not fit or (len(lengths) and lengths.max() > _MOST_CHARACTERS_PER_RUN):
        raise DataError(f"the run lengths of {what} are not COCO's code; the file is damaged; get it again")
    # Five bits a character, low bits first; the sixth bit says that more follow, the fifth of the last is the sign.
    starts = ends - lengths + 1
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * places), starts) if len(codes) else codes
    values = np.where(codes[ends] & 0x10, values - (np.int64(1) << (5 * lengths)), values)
    # The fourth run and later are differences to the one two before.
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs

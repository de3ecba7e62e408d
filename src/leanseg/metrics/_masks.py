"""What every measure of masks asks of the masks that it is given."""

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

Mask = npt.NDArray[np.bool_]


def checked_masks(
    gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None, ignore_name: str, *, binary: bool
) -> tuple[Mask, Mask, Mask | None]:
    """Return masks of one shape (..., H, W) as booleans; `binary` refuses whole numbers other than 0 and 1."""
    truth, guess = checked_mask("gt", gt, binary), checked_mask("pred", pred, binary)
    if truth.shape != guess.shape:
        raise InputError(f"gt has shape {truth.shape} and pred {guess.shape}; both must be (..., H, W) of one size")
    if ignore is None:
        return truth, guess, None
    ignored = checked_mask(ignore_name, ignore, binary)
    if ignored.shape not in (truth.shape, truth.shape[-2:]):
        raise InputError(f"{ignore_name} has shape {ignored.shape}; expected {truth.shape} or {truth.shape[-2:]}")
    return truth, guess, ignored


def checked_mask(name: str, value: npt.ArrayLike, binary: bool) -> Mask:
    """Return a mask (..., H, W) as booleans. A soft mask is refused, `binary` or not: where to cut it is not ours."""
    array = np.asarray(value)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise InputError(f"{name} is {array.dtype} {array.shape}; expected a mask (..., H, W)")
    if 0 in array.shape[-2:]:
        raise InputError(f"{name} has shape {array.shape}, no pixel at all; expected a mask (..., H, W)")
    exact = array.dtype.kind == "f" or (binary and array.dtype.kind != "b")
    if exact and bool(((array != 0) & (array != 1)).any()):
        raise InputError(
            f"{name} holds values other than 0 and 1; threshold a soft mask; give a label 255 as ignore=gt == 255"
        )
    return array.astype(bool, copy=False)


def overlap_counts(
    truth: Mask, guess: Mask, ignored: Mask | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return intersection and union in pixels, per pair of masks."""
    inter, union = truth & guess, truth | guess
    if ignored is not None:
        inter, union = inter & ~ignored, union & ~ignored
    # asarray, since the sum over a single mask is a numpy scalar
    return np.asarray(inter.sum(axis=(-2, -1), dtype=np.int64)), np.asarray(union.sum(axis=(-2, -1), dtype=np.int64))

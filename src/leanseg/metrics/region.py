"""Overlap of masks: J (Jaccard index), and gIoU and cIoU over a data set."""

import math
from collections.abc import Iterable
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

Mask = npt.NDArray[np.bool_]


def jaccard(gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None = None) -> Any:
    """Return J = |gt and pred| / |gt or pred| over the pixels that are not void; 1 where the union is empty.

    Masks (..., H, W), anything non-zero is inside. Returns a float for one pair of masks, else float64 (...).
    Same as J of the DAVIS 2017 evaluation.

    >>> jaccard([[1, 1, 0]], [[0, 1, 0]])
    0.5
    """
    truth, guess, ignored = _masks(gt, pred, void, "void", binary=False)
    inter, union = _counts(truth, guess, ignored)
    overlap = np.where(union == 0, 1.0, inter / np.maximum(union, 1))
    return float(overlap) if overlap.ndim == 0 else overlap


class _Overlap:
    """Intersections and unions in pixels, kept as integers: any partition, merged in any order, is the same."""

    def __init__(self, intersections: Iterable[int] = (), unions: Iterable[int] = ()) -> None:
        self.intersections = [int(count) for count in intersections]
        self.unions = [int(count) for count in unions]
        if len(self.intersections) != len(self.unions):
            raise InputError(f"{len(self.intersections)} intersections and {len(self.unions)} unions do not pair up")

    def __len__(self) -> int:
        return len(self.unions)

    def add(self, gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None) -> None:
        inter, union = _counts(*_masks(gt, pred, ignore, "ignore", binary=True))
        self.intersections += [int(count) for count in np.ravel(inter)]
        self.unions += [int(count) for count in np.ravel(union)]

    def extend(self, other: "_Overlap") -> None:
        self.intersections += other.intersections
        self.unions += other.unions

    @property
    def state(self) -> dict[str, list[int]]:
        return {"intersections": list(self.intersections), "unions": list(self.unions)}


@final
class GIoU:
    """Mean over masks of IoU = I / (U + 1e-5), and 1 where both masks are empty (LISA's gIoU).

    A target that is empty while the prediction is not scores 0, and the other way round. Pixels of `ignore` count in
    neither mask. Differs from LISA: exact integer counts instead of float32 sums, and no 1e-5 in the divisor of the
    mean, which LISA's reduction over processes adds; the difference is below 2e-5.
    """

    def __init__(self) -> None:
        self._overlap = _Overlap()

    def update(self, gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None = None) -> None:
        """Add one pair of masks (H, W), or several (..., H, W); each counts as one."""
        self._overlap.add(gt, pred, ignore)

    def merge(self, other: "GIoU") -> None:
        """Add what `other` has seen."""
        self._overlap.extend(_same(self, other)._overlap)

    def values(self) -> list[float]:
        """Return the IoU of each mask, in the order in which they came; for intervals and paired tests."""
        pairs = zip(self._overlap.intersections, self._overlap.unions, strict=True)
        return [1.0 if union == 0 else inter / (union + 1e-5) for inter, union in pairs]

    def compute(self) -> float:
        """Return the mean IoU."""
        values = self.values()
        if not values:
            raise InputError("GIoU has seen no mask; call update first")
        # fsum rounds once, so that the order of the masks cannot show.
        return math.fsum(values) / len(values)

    @property
    def state(self) -> dict[str, list[int]]:
        """Return intersections and unions in pixels, one of each per mask; plain data."""
        return self._overlap.state

    @classmethod
    def from_state(cls, state: dict[str, list[int]]) -> "GIoU":
        """Return the metric that had this `state`."""
        metric = cls()
        metric._overlap = _Overlap(**state)
        return metric


@final
class CIoU:
    """Sum of all intersections over the sum of all unions plus 1e-10 (LISA's cIoU): large objects weigh more.

    A pair of empty masks adds nothing, so that a set of nothing else scores 0. `ignore` as in `GIoU`.
    """

    def __init__(self) -> None:
        self._overlap = _Overlap()

    def update(self, gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None = None) -> None:
        """Add one pair of masks (H, W), or several (..., H, W)."""
        self._overlap.add(gt, pred, ignore)

    def merge(self, other: "CIoU") -> None:
        """Add what `other` has seen."""
        self._overlap.extend(_same(self, other)._overlap)

    def compute(self) -> float:
        """Return the cumulative IoU."""
        if not len(self._overlap):
            raise InputError("CIoU has seen no mask; call update first")
        return sum(self._overlap.intersections) / (sum(self._overlap.unions) + 1e-10)

    @property
    def state(self) -> dict[str, list[int]]:
        """Return intersections and unions in pixels, one of each per mask; plain data."""
        return self._overlap.state

    @classmethod
    def from_state(cls, state: dict[str, list[int]]) -> "CIoU":
        """Return the metric that had this `state`."""
        metric = cls()
        metric._overlap = _Overlap(**state)
        return metric


def _same(metric: Any, other: Any) -> Any:
    if type(other) is not type(metric):
        raise InputError(f"cannot merge {type(other).__name__} into {type(metric).__name__}")
    return other


def _masks(
    gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None, ignore_name: str, *, binary: bool
) -> tuple[Mask, Mask, Mask | None]:
    truth, guess = _mask("gt", gt, binary), _mask("pred", pred, binary)
    if truth.shape != guess.shape:
        raise InputError(f"gt has shape {truth.shape} and pred {guess.shape}; both must be (..., H, W) of one size")
    if ignore is None:
        return truth, guess, None
    ignored = _mask(ignore_name, ignore, binary)
    if ignored.shape not in (truth.shape, truth.shape[-2:]):
        raise InputError(f"{ignore_name} has shape {ignored.shape}; expected {truth.shape} or {truth.shape[-2:]}")
    return truth, guess, ignored


def _mask(name: str, value: npt.ArrayLike, binary: bool) -> Mask:
    array = np.asarray(value)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise InputError(f"{name} is {array.dtype} {array.shape}; expected a mask (..., H, W)")
    if binary and array.dtype.kind != "b" and bool(((array != 0) & (array != 1)).any()):
        raise InputError(
            f"{name} holds values other than 0 and 1; threshold a soft mask; give a label 255 as ignore=gt == 255"
        )
    return array.astype(bool)


def _counts(truth: Mask, guess: Mask, ignored: Mask | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    inter, union = truth & guess, truth | guess
    if ignored is not None:
        inter, union = inter & ~ignored, union & ~ignored
    # asarray, since the sum over a single mask is a numpy scalar
    return np.asarray(inter.sum(axis=(-2, -1), dtype=np.int64)), np.asarray(union.sum(axis=(-2, -1), dtype=np.int64))

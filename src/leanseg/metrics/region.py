"""Overlap of masks: J (Jaccard index), and gIoU, cIoU, mIoU, oIoU and Precision@X over a data set."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics._masks import checked_masks, overlap_counts

_Metric = TypeVar("_Metric", bound="OverlapMetric")


def jaccard(gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None = None) -> Any:
    """Return J = |gt and pred| / |gt or pred| over the pixels that are not void; 1 where the union is empty.

    Masks (..., H, W), any whole number but 0 is inside. Returns a float for one pair of masks, else float64 (...).
    Same as J of the DAVIS 2017 evaluation.

    >>> jaccard([[1, 1, 0]], [[0, 1, 0]])
    0.5
    """
    truth, guess, ignored = checked_masks(gt, pred, void, "void", binary=False)
    inter, union = overlap_counts(truth, guess, ignored)
    overlap = np.where(union == 0, 1.0, inter / np.maximum(union, 1))
    return float(overlap) if overlap.ndim == 0 else overlap


class _Overlap:
    """Intersections and unions in pixels, kept as integers: any partition, merged in any order, is the same.

    Masks that came with an id are counted once: what has the same id and the same counts is the same sample again, as
    a sampler makes it that pads the last batch of every process.
    """

    def __init__(
        self, intersections: Iterable[int] = (), unions: Iterable[int] = (), ids: Iterable[str | None] | None = None
    ) -> None:
        self.intersections = [int(count) for count in intersections]
        self.unions = [int(count) for count in unions]
        self.ids = [None] * len(self.unions) if ids is None else list(ids)
        n = len(self.unions)
        if len(self.intersections) != n:
            raise InputError(f"{len(self.intersections)} intersections and {n} unions do not pair up")
        if len(self.ids) != n:
            raise InputError(f"{len(self.ids)} ids and {n} unions do not pair up; give one per mask, or none at all")
        self.known = _by_id(self)

    def __len__(self) -> int:
        return len(self.unions)

    def add(self, gt: npt.ArrayLike, pred: npt.ArrayLike, ignore: npt.ArrayLike | None, id: str | None) -> None:
        inter, union = overlap_counts(*checked_masks(gt, pred, ignore, "ignore", binary=True))
        counts = [int(count) for count in np.ravel(inter)], [int(count) for count in np.ravel(union)]
        self.extend(_Overlap(*counts, None if id is None else [id] * len(counts[0])))

    def extend(self, other: "_Overlap") -> None:
        for id, counts in other.known.items():
            if self.known.get(id, counts) != counts:
                raise InputError(
                    f"sample {id!r} was measured before, with other counts: {self.known[id]} and now {counts}; "
                    "give every sample an id of its own"
                )
        # The same list, where a metric is merged into itself, must not grow while it is read.
        rows = list(zip(other.intersections, other.unions, other.ids, strict=True))
        fresh = [row for row in rows if row[2] is None or row[2] not in self.known]
        self.intersections += [row[0] for row in fresh]
        self.unions += [row[1] for row in fresh]
        self.ids += [row[2] for row in fresh]
        self.known |= other.known

    @property
    def state(self) -> dict[str, list[Any]]:
        counts: dict[str, list[Any]] = {"intersections": list(self.intersections), "unions": list(self.unions)}
        return counts | {"ids": list(self.ids)} if self.known else counts


def _by_id(overlap: _Overlap) -> dict[str, list[tuple[int, int]]]:
    known: dict[str, list[tuple[int, int]]] = {}
    for id, inter, union in zip(overlap.ids, overlap.intersections, overlap.unions, strict=True):
        if id is not None:
            known.setdefault(id, []).append((inter, union))
    return known


class OverlapMetric(ABC):
    """What the measures of overlap share: pairs of masks come in, whole numbers stay; `compute` says what they mean."""

    def __init__(self) -> None:
        self._overlap = _Overlap()

    @final
    def update(
        self,
        gt: npt.ArrayLike,
        pred: npt.ArrayLike,
        ignore: npt.ArrayLike | None = None,
        *,
        id: str | None = None,
    ) -> None:
        """Add one pair of masks (H, W), or several (..., H, W); each counts as one. `ignore` counts in neither.

        With an `id` the sample counts once: given again with equal counts it is left out, with others it is an error.
        """
        self._overlap.add(gt, pred, ignore, id)

    @final
    def merge(self, other: "OverlapMetric") -> None:
        """Add what `other` has seen; samples with an id that both have seen count once."""
        if type(other) is not type(self):
            raise InputError(f"cannot merge {type(other).__name__} into {type(self).__name__}")
        self._overlap.extend(other._overlap)

    @abstractmethod
    def compute(self) -> Any:
        """Return the measure over all masks seen."""

    @property
    def state(self) -> dict[str, list[Any]]:
        """Return intersections and unions in pixels, one of each per mask, and ids where there are any; plain data."""
        return self._overlap.state

    @classmethod
    def from_state(cls: type[_Metric], state: dict[str, list[Any]]) -> _Metric:
        """Return the metric that had this `state`."""
        metric = cls()
        metric._overlap = _Overlap(**state)
        return metric

    def _pairs(self) -> list[tuple[int, int]]:
        if not len(self._overlap):
            raise InputError(f"{type(self).__name__} has seen no mask; call update first")
        return list(zip(self._overlap.intersections, self._overlap.unions, strict=True))


@final
class GIoU(OverlapMetric):
    """Mean over masks of IoU = I / (U + 1e-5), and 1 where both masks are empty (LISA's gIoU).

    A target that is empty while the prediction is not scores 0, and the other way round. Differs from LISA: exact
    integer counts instead of float32 sums, and no 1e-5 in the divisor of the mean, which LISA's reduction over
    processes adds; the difference is below 2e-5.
    """

    def values(self) -> list[float]:
        """Return the IoU of each mask, in the order in which they came; for intervals and paired tests."""
        pairs = zip(self._overlap.intersections, self._overlap.unions, strict=True)
        return [1.0 if union == 0 else inter / (union + 1e-5) for inter, union in pairs]

    def compute(self) -> float:
        """Return the mean IoU."""
        # fsum rounds once, so that the order of the masks cannot show.
        return math.fsum(self.values()) / len(self._pairs())


@final
class CIoU(OverlapMetric):
    """Sum of all intersections over the sum of all unions plus 1e-10 (LISA's cIoU): large objects weigh more.

    A pair of empty masks adds nothing, so that a set of nothing else scores 0.
    """

    def compute(self) -> float:
        """Return the cumulative IoU."""
        pairs = self._pairs()
        return sum(inter for inter, _ in pairs) / (sum(union for _, union in pairs) + 1e-10)


@final
class MIoU(OverlapMetric):
    """Mean over masks of IoU = I / U, and **0** where both masks are empty: mIoU of referring segmentation (LAVT).

    The one difference from `GIoU` that can be large: there an empty prediction for an empty target scores 1.
    """

    def values(self) -> list[float]:
        """Return the IoU of each mask, in the order in which they came; for intervals and paired tests."""
        pairs = zip(self._overlap.intersections, self._overlap.unions, strict=True)
        return [inter / union if union else 0.0 for inter, union in pairs]

    def compute(self) -> float:
        """Return the mean IoU."""
        return math.fsum(self.values()) / len(self._pairs())


@final
class OIoU(OverlapMetric):
    """Sum of all intersections over the sum of all unions: oIoU, cIoU by another name; 0 where every mask is empty."""

    def compute(self) -> float:
        """Return the overall IoU."""
        pairs = self._pairs()
        return sum(inter for inter, _ in pairs) / max(1, sum(union for _, union in pairs))


@final
class PrecisionAt(OverlapMetric):
    """Share of masks whose IoU = I / U is **at least** a threshold: Precision@X; 0 counts where both masks are empty.

    Differs from the references: they compare a float32 IoU, which a mask of IoU exactly 0.7 misses.
    """

    THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)

    def compute(self, thresholds: Iterable[float] = THRESHOLDS) -> dict[float, float]:
        """Return the share of masks per threshold."""
        values = [inter / union if union else 0.0 for inter, union in self._pairs()]
        wanted = list(thresholds)
        for threshold in wanted:
            if not 0.0 < threshold <= 1.0:
                raise InputError(f"threshold is {threshold}; expected an IoU above 0 and at most 1, as 0.5 is")
        return {threshold: sum(value >= threshold for value in values) / len(values) for threshold in wanted}

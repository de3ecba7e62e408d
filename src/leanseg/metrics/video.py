"""J, F and J&F of clips: a mean over an object's frames, then over objects, with recall and decay."""

import math
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics._keyed import Counts, KeyedMetric, Sample, mean
from leanseg.metrics._masks import checked_masks
from leanseg.metrics.boundary import TOLERANCE, f_of, j_of, pair_counts
from leanseg.metrics.result import Result

RECALL_ABOVE = 0.5
QUARTERS = 4


@dataclass(frozen=True)
class SequenceStatistics:
    """Mean of one measure over frames, share of frames above 0.5, and how much it falls from first to last quarter."""

    mean: float
    recall: float
    decay: float

    def to_json(self) -> dict[str, float | None]:
        """Return the fields; None where all frames of a quarter or of the clip are undefined."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def sequence_statistics(values: npt.ArrayLike) -> SequenceStatistics:
    """Return mean, recall and decay of one measure over the frames of one object.

    The mean leaves NaN out; recall = share of frames **above** 0.5, where NaN counts as a frame that is not. Decay =
    mean of the first quarter - mean of the last, the quarters being cut at round(1, .., n in five steps) and sharing
    the frames where they meet. Same as the DAVIS 2017 evaluation up to 255 frames; beyond, the reference's cuts
    overflow 8 bits, and its decay is NaN or of other frames than those named.

    >>> sequence_statistics([0.9, 0.8, 0.4, 0.5]).recall
    0.5
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not series.size:
        raise InputError(f"values has shape {series.shape}; expected one number per frame, and at least one frame")
    cuts = np.round(np.linspace(1, series.size, QUARTERS + 1) + 1e-10).astype(np.int64) - 1
    first, last = series[: cuts[1] + 1], series[cuts[-2] :]
    return SequenceStatistics(
        _defined_mean(series), float((series > RECALL_ABOVE).mean()), _defined_mean(first) - _defined_mean(last)
    )


def _defined_mean(series: npt.NDArray[np.float64]) -> float:
    defined = series[~np.isnan(series)]
    return float(defined.mean()) if defined.size else math.nan


@final
@dataclass(kw_only=True, eq=False)
class JF(KeyedMetric):
    """J, F and J&F over clips. Each `update` is one object of one clip, over all its frames, under an id of its own.

    `compute` returns the plain mean over objects (not over clips) of each object's mean, recall and decay, as the DAVIS
    2017 evaluation does; J&F = (J + F) / 2. A frame in which the object is absent from both masks counts 1. An id given
    again with equal counts is left out, with others it is an error. `tolerance` as in `boundary_f`.
    """

    tolerance: float = TOLERANCE

    def update(self, id: str, gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None = None) -> None:
        """Add an object: masks (T, H, W), and perhaps pixels (T, H, W) or (H, W) that count in neither."""
        self._keep(id, clip_counts(gt, pred, void, self.tolerance))

    def compute(self) -> Result:
        """Return J, F and J&F, and under `samples` the mean, recall and decay of each object."""
        return summary(self._seen(), {"tolerance": self.tolerance})


def clip_counts(
    gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None, tolerance: float = TOLERANCE
) -> Counts:
    """Return `pair_counts` per frame of a clip, (T, 6); what is no clip of masks is refused."""
    truth, guess, ignored = checked_masks(gt, pred, void, "void", binary=True)
    if truth.ndim != 3 or not len(truth):
        raise InputError(f"gt has shape {truth.shape}; expected a clip of masks (T, H, W) with at least one frame")
    return pair_counts(truth, guess, ignored, tolerance)


def summary(samples: list[tuple[str, Sample]], protocol: dict[str, Any]) -> Result:
    """Return J, F and J&F of objects whose counts per frame are those of `pair_counts`."""
    found: dict[str, dict[str, float]] = {}
    for id, sample in samples:
        counts = np.array(sample.counts, dtype=np.int64)
        j, f = sequence_statistics(j_of(counts)), sequence_statistics(f_of(counts))
        found[id] = {"J&F": (j.mean + f.mean) / 2.0}
        for name, statistics in (("J", j), ("F", f)):
            found[id] |= {name: statistics.mean, f"{name}-Recall": statistics.recall, f"{name}-Decay": statistics.decay}
    return Result(protocol=protocol, scores=means(found.values()), samples=found)


def means(rows: Any) -> dict[str, float]:
    """Return the plain mean over objects of what `summary` says of each."""
    rows = list(rows)
    names = ("J", "J-Recall", "J-Decay", "F", "F-Recall", "F-Decay")
    over = {name: mean(row[name] for row in rows) for name in names}
    return {"J&F": (over["J"] + over["F"]) / 2.0, **over}

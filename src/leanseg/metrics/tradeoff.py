"""Quality against what it costs: how few tokens are enough, and which settings no other beats."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics._resampling import ROUNDING, Array, check_confidence, ends, resampled_means, unit_sums

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Retention:
    """The keep ratio that is enough, with its bootstrap interval; `threshold` is the mean quality asked of it."""

    keep_ratio: float
    low: float
    high: float
    threshold: float

    def to_json(self) -> dict[str, float]:
        """Return the fields as a dictionary."""
        return asdict(self)


def smallest_retention(
    keep_ratios: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    share: float = 0.9,
    interpolate: bool = False,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> Retention:
    """Return the smallest keep ratio at which the mean is at least `share` of that with all tokens.

    `values` (samples, ratios) holds one quality per sample and measured ratio; 1 is among `keep_ratios`. A ratio is
    enough if every larger one is as well, so that a lucky peak at a small ratio proves nothing. `interpolate` puts the
    answer where the straight line from the largest ratio that is too small crosses the threshold; otherwise it is a
    measured ratio, and so are the ends of its interval. Samples, or whole `clusters` of them (an id per sample), are
    resampled with all their ratios; the threshold follows the resample.

    >>> smallest_retention([0.1, 0.5, 1.0], [[0.2, 0.7, 0.8], [0.4, 0.6, 0.6]]).keep_ratio
    0.5
    """
    ratios, table = _measured(keep_ratios, values)
    return _retention(ratios, table, _share_of(share, table), interpolate, clusters, confidence)


def saturation(
    keep_ratios: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    share: float = 0.98,
    margin: float | None = None,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> Retention:
    """Return the smallest keep ratio from which on more tokens gain next to nothing.

    As `smallest_retention`, among the measured ratios, for a `share` near 1; or, where `margin` is given, for a mean
    within `margin` (in the units of the values) of that with all tokens.

    >>> saturation([0.1, 0.5, 1.0], [[0.2, 0.7, 0.8], [0.4, 0.6, 0.6]], margin=0.1).keep_ratio
    0.5
    """
    ratios, table = _measured(keep_ratios, values)
    if margin is None:
        return _retention(ratios, table, _share_of(share, table), False, clusters, confidence)
    if not 0.0 <= margin < np.inf:
        raise InputError(f"margin is {margin}; it must be a number from 0 on, in the units of the values")
    return _retention(ratios, table, lambda everything: everything - margin, False, clusters, confidence)


def pareto(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which rows (cost, quality) of `points` are on the front: no other row is at least as good in both.

    A row is dominated by one that costs no more and is no worse, and is better in one of the two; equal rows do not
    dominate each other. Cost O(n log n).

    >>> pareto([[1.0, 0.3], [2.0, 0.5], [3.0, 0.4]]).tolist()
    [True, True, False]
    """
    rows = np.asarray(points, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise InputError(f"points has shape {rows.shape}; expected rows (cost, quality)")
    if not np.isfinite(rows).all():
        raise InputError("points holds values that are NaN or infinite; leave those rows out")
    costs, index = np.unique(rows[:, 0], return_inverse=True)
    best = np.full(len(costs), -np.inf)
    np.maximum.at(best, index, rows[:, 1])
    cheaper = np.concatenate([[-np.inf], np.maximum.accumulate(best)[:-1]]) if len(costs) else best
    return (rows[:, 1] == best[index]) & (rows[:, 1] > cheaper[index])


def _measured(keep_ratios: npt.ArrayLike, values: npt.ArrayLike) -> tuple[Array, Array]:
    """Return the ratios ascending and the table's columns in that order."""
    ratios, table = np.asarray(keep_ratios, dtype=np.float64), np.asarray(values, dtype=np.float64)
    fits = ratios.ndim == 1 and len(np.unique(ratios)) == ratios.size and ((ratios > 0.0) & (ratios <= 1.0)).all()
    if not fits or 1.0 not in ratios:
        raise InputError(
            f"keep_ratios is {ratios.tolist()}; expected different numbers above 0 and up to 1, with 1 (all tokens)"
        )
    if table.ndim != 2 or len(table) < 2 or table.shape[1] != ratios.size:
        raise InputError(
            f"values has shape {table.shape}; expected at least 2 samples by {ratios.size} keep ratios, all measured"
        )
    if not np.isfinite(table).all():
        raise InputError("values holds values that are NaN or infinite; leave those samples out")
    order = np.argsort(ratios)
    return ratios[order], table[:, order]


def _share_of(share: float, table: Array) -> Callable[[Array], Array]:
    if not 0.0 < share <= 1.0:
        raise InputError(f"share is {share}; it must lie above 0 and be at most 1, as 0.9 does")
    if (table[:, -1] < 0.0).any():
        raise InputError("values with all tokens are below 0, and a share of those says nothing; give them from 0 on")
    return lambda everything: share * everything


def _retention(
    ratios: Array,
    table: Array,
    threshold: Callable[[Array], Array],
    interpolate: bool,
    clusters: npt.ArrayLike | None,
    confidence: float,
) -> Retention:
    check_confidence(confidence)
    observed = table.mean(axis=0, keepdims=True)
    resampled = resampled_means(*unit_sums(table, clusters), _RESAMPLES)
    rounding = ROUNDING * float(np.abs(table).max())
    found, drawn = (
        _smallest(ratios, means, threshold(means[:, -1]), rounding, interpolate) for means in (observed, resampled)
    )
    low, high = ends(drawn, confidence, "linear" if interpolate else "inverted_cdf")
    return Retention(float(found[0]), float(low), float(high), float(threshold(observed[:, -1])[0]))


def _smallest(ratios: Array, means: Array, thresholds: Array, rounding: float, interpolate: bool) -> Array:
    """Return per row of `means` (rows, ratios) the smallest ratio from which on all means reach the row's threshold."""
    enough = means >= thresholds[:, None] - rounding
    enough[:, -1] = True
    first = len(ratios) - np.logical_and.accumulate(enough[:, ::-1], axis=1).sum(axis=1)
    if not interpolate:
        return ratios[first]
    rows, before = np.arange(len(means)), np.maximum(first - 1, 0)
    below, above = means[rows, before], means[rows, first]
    gap = np.where(first > 0, above - below, 1.0)
    part = np.where(first > 0, np.clip((thresholds - below) / gap, 0.0, 1.0), 1.0)
    return ratios[before] + part * (ratios[first] - ratios[before])

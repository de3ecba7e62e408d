"""Correlation where one picture, or one pruner, gives several points, which then are no independent ones."""

import math

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._resampling import ROUNDING, Array, checked_pair, chunks, ends, resampled_means
from leanseg.metrics.correlation import METHODS, PERMUTATION, Correlation, coefficients


def within_clusters(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    method: str = "pearson",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
) -> Correlation:
    """Return the correlation of two tables (clusters, points) less each cluster's means, for clusters drawn at random.

    As the pooled one of `within_groups`, S_xy / sqrt(S_xx S_yy) with S over all clusters, for many small groups, as ten
    selections of each picture: clusters are resampled whole, since what is said is to hold for other ones. Random
    pairings stay within the cluster. For `spearman` x and y are ranks within the cluster. A cluster in which a side is
    constant adds nothing to S_xy. Cost O(R C) for the interval of C clusters, O(R C P) for p.

    >>> within_clusters([[1.0, 2.0], [11.0, 12.0]], [[5.0, 6.0], [1.0, 2.0]]).coefficient
    1.0
    """
    if method not in METHODS:
        raise InputError(unknown_name("method of correlation", method, METHODS))
    first, second = (_centred(each, method == "spearman") for each in _tables(x, y, fewest=2))
    sums = np.stack([(a * b).sum(axis=1) for a, b in ((first, first), (first, second), (second, second))], axis=1)
    coefficient = float(coefficients(sums.sum(axis=0, keepdims=True))[0])
    if math.isnan(coefficient):
        return Correlation(first.size, None, None, None, None)
    resampled = coefficients(resampled_means(sums, np.ones(len(sums)), n_resamples))
    low, high = ends(resampled[~np.isnan(resampled)], confidence)
    generator = np.random.Generator(np.random.PCG64((PERMUTATION, 0)))
    paired = np.tile(sums.sum(axis=0), (n_resamples, 1))
    paired[:, 1] = np.concatenate(
        [
            (generator.permuted(np.tile(second, (rows, 1, 1)), axis=2) * first).sum(axis=(1, 2))
            for rows in chunks(second.size, n_resamples)
        ]
    )
    as_large = int((np.abs(coefficients(paired)) >= abs(coefficient) - ROUNDING).sum())
    return Correlation(first.size, coefficient, float(low), float(high), (as_large + 1) / (n_resamples + 1))


def crossed(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    method: str = "pearson",
    within: bool = True,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
) -> Correlation:
    """Return the correlation of two tables (groups, units) of units measured in every group, as pruners at each ratio.

    What a unit has in one group it mostly has in the others, so that its points are no independent ones: units are
    drawn, and paired at random, whole. `within` takes each group's means away (`spearman`: ranks within the group), as
    `within_groups` does; else all points are taken together. Cost O(R n) for R resamples of n points, `spearman` with
    an n log n each.

    >>> crossed([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]], [[5.0, 6.0, 7.0], [1.0, 2.0, 3.0]]).coefficient
    1.0
    """
    if method not in METHODS:
        raise InputError(unknown_name("method of correlation", method, METHODS))
    first, second = _tables(x, y, fewest=1)
    n_units = first.shape[1]
    generator = np.random.Generator(np.random.PCG64((PERMUTATION, 1)))
    drawn = generator.integers(n_units, size=(n_resamples, n_units))
    paired = generator.permuted(np.tile(np.arange(n_units), (n_resamples, 1)), axis=1)

    def of(chosen: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> Array:
        tables = (first[:, chosen].swapaxes(0, 1), second[:, other].swapaxes(0, 1))
        shape = (-1, n_units) if within else (len(chosen), -1)
        a, b = (_centred(each.reshape(shape), method == "spearman").reshape(len(chosen), -1) for each in tables)
        return coefficients(np.stack([(p * q).sum(axis=1) for p, q in ((a, a), (a, b), (b, b))], axis=1))

    everything = np.arange(n_units)[None]
    coefficient = float(of(everything, everything)[0])
    if math.isnan(coefficient):
        return Correlation(first.size, None, None, None, None)
    resampled = of(drawn, drawn)
    low, high = ends(resampled[~np.isnan(resampled)], confidence)
    as_large = int((np.abs(of(np.tile(everything, (n_resamples, 1)), paired)) >= abs(coefficient) - ROUNDING).sum())
    return Correlation(first.size, coefficient, float(low), float(high), (as_large + 1) / (n_resamples + 1))


def _tables(x: npt.ArrayLike, y: npt.ArrayLike, fewest: int) -> tuple[Array, Array]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    for name, found in (("x", first), ("y", second)):
        if found.ndim != 2 or found.shape[0] < fewest or found.shape[1] < 2:
            raise InputError(
                f"{name} has shape {found.shape}; expected a table: at least {fewest} clusters by at least 2 points"
            )
    if first.shape != second.shape:
        raise InputError(
            f"x has shape {first.shape} and y {second.shape}; give both for the same clusters and points, in one order"
        )
    checked_pair(("x", "y"), first.ravel(), second.ravel())
    return first, second


def _centred(values: Array, ranked: bool) -> Array:
    """Return values (clusters, points), or their ranks, less their cluster's mean; what is rounding becomes 0."""
    if ranked:
        values = _mean_ranks(values)
    deviations = values - values.mean(axis=1, keepdims=True)
    deviations[np.abs(deviations).max(axis=1) <= ROUNDING * np.abs(values).max(axis=1)] = 0.0
    return deviations


def _mean_ranks(values: Array) -> Array:
    """Return each value's mean rank in its row, from 1."""
    order = values.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.arange(values.shape[1])
    new = np.ones(values.shape, dtype=np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last = np.ones(values.shape, dtype=np.bool_)
    last[:, :-1] = new[:, 1:]
    end = np.minimum.accumulate(np.where(last, place, values.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + end) / 2.0 + 1.0, axis=1)
    return ranks

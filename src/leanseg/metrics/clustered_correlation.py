"""Correlation within many small groups, as several selections of one picture, where groups are what is drawn."""

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._resampling import ROUNDING, Array, checked_pair, chunks, ends, resampled_means
from leanseg.metrics.correlation import METHODS, Correlation


def within_clusters(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    method: str = "pearson",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
) -> Correlation:
    """Return the correlation of two tables (clusters, points) less each cluster's means, for clusters drawn at random.

    With S the sums of (products of) deviations from the cluster's mean, over all clusters: S_xy / sqrt(S_xx S_yy), of
    the values or, for `spearman`, of their ranks within the cluster. Clusters are resampled whole, since what is said
    is to hold for other ones; random pairings stay within the cluster. `leanseg.metrics.correlation.within_groups`
    takes the groups as given instead. A cluster in which a side is constant adds nothing to S_xy. Cost O(R C) for the
    interval of C clusters, O(R C P) for p.

    >>> within_clusters([[1.0, 2.0], [11.0, 12.0]], [[5.0, 6.0], [1.0, 2.0]]).coefficient
    1.0
    """
    if method not in METHODS:
        raise InputError(unknown_name("method of correlation", method, METHODS))
    first, second = _tables(x, y)
    if method == "spearman":
        first, second = _ranks(first), _ranks(second)
    first, second = _centred(first), _centred(second)
    sums = np.stack([(first * first).sum(axis=1), (first * second).sum(axis=1), (second * second).sum(axis=1)], axis=1)
    n = first.size
    if not (sums[:, [0, 2]].sum(axis=0) > 0.0).all():
        return Correlation(n, None, None, None, None)
    coefficient = float(_coefficient(sums.mean(axis=0)))
    resampled = _coefficient(resampled_means(sums, np.ones(len(sums)), n_resamples))
    low, high = ends(resampled[~np.isnan(resampled)], confidence)
    products = _random_pairings(first, second, n_resamples) / np.sqrt(sums[:, 0].sum() * sums[:, 2].sum())
    as_large = int((np.abs(products) >= abs(coefficient) - ROUNDING).sum())
    return Correlation(n, coefficient, float(low), float(high), (as_large + 1) / (n_resamples + 1))


def _tables(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    for name, found in (("x", first), ("y", second)):
        if found.ndim != 2 or min(found.shape) < 2:
            raise InputError(
                f"{name} has shape {found.shape}; expected a table of at least 2 clusters by at least 2 points each"
            )
    checked_pair(("x", "y"), first.ravel(), second.ravel())
    if first.shape != second.shape:
        raise InputError(
            f"x has shape {first.shape} and y {second.shape}; give both for the same clusters and points, in one order"
        )
    return first, second


def _ranks(values: Array) -> Array:
    """Return each value's mean rank in its row, from 1."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    alike = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return below + (alike + 1.0) / 2.0


def _centred(values: Array) -> Array:
    """Return the deviations from each row's mean; a row that differs by rounding only is constant."""
    deviations = values - values.mean(axis=1, keepdims=True)
    rounding = ROUNDING * np.abs(values).max(axis=1)
    deviations[np.abs(deviations).max(axis=1) <= rounding] = 0.0
    return deviations


def _coefficient(sums: Array) -> Array:
    """Return S_xy / sqrt(S_xx S_yy) over the last axis, NaN where a side is constant."""
    scale = np.sqrt(sums[..., 0] * sums[..., 2])
    ratio = np.divide(sums[..., 1], scale, out=np.full(scale.shape, np.nan), where=scale > 0.0)
    return np.clip(ratio, -1.0, 1.0)


def _random_pairings(x: Array, y: Array, n_resamples: int) -> Array:
    """Return S_xy of random pairings within each row."""
    generator = np.random.Generator(np.random.PCG64(0))
    shuffled = (
        generator.permuted(np.broadcast_to(y, (rows, *y.shape)), axis=2) for rows in chunks(y.size, n_resamples)
    )
    return np.concatenate([np.einsum("rcp,cp->r", each, x) for each in shuffled])

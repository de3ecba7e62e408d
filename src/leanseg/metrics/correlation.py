"""Correlation of two measures, with what it could be by chance; over all points, or within groups of them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._resampling import (
    ROUNDING,
    Array,
    check_confidence,
    checked_pair,
    chunks,
    draws,
    ends,
)

METHODS = ("pearson", "spearman")
# The two uses of chance draw from streams of their own.
_BOOTSTRAP, PERMUTATION = 0, 1


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient of `n` points, its interval, and the two-sided p of "no association".

    `low` and `high` are of the percentile bootstrap; resamples in which a side is constant are left out. p is the share
    of random pairings of the same values whose coefficient is at least as large either way, counted with the +1 that
    keeps it above 0 (Phipson and Smyth 2010). All four are None where a side is constant, as nothing is defined then.
    """

    n: int
    coefficient: float | None
    low: float | None
    high: float | None
    p: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the fields as a dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class GroupedCorrelation:
    """The correlation within each group, by the group's name, and `pooled` over all groups less their means."""

    groups: dict[str, Correlation]
    pooled: Correlation

    def to_json(self) -> dict[str, Any]:
        """Return the fields as nested dictionaries."""
        return asdict(self)


def pearson(x: npt.ArrayLike, y: npt.ArrayLike, *, confidence: float = 0.95, n_resamples: int = 10_000) -> Correlation:
    """Return Pearson's product-moment correlation: that of a straight line.

    >>> pearson([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]).coefficient
    1.0
    """
    first, second = checked_pair(("x", "y"), x, y)
    return _Chance.of(first, second, False, n_resamples).correlation(confidence)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, *, confidence: float = 0.95, n_resamples: int = 10_000) -> Correlation:
    """Return Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    Every resample is ranked anew.

    >>> spearman([1.0, 2.0, 3.0, 4.0], [1.0, 8.0, 27.0, 64.0]).coefficient
    1.0
    """
    first, second = checked_pair(("x", "y"), x, y)
    return _Chance.of(first, second, True, n_resamples).correlation(confidence)


def within_groups(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    method: str = "pearson",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
) -> GroupedCorrelation:
    """Return the correlation within each group, and pooled: what is left when the groups' own levels are taken away.

    Two measures that both follow the keep ratio correlate over all ratios without having anything to do with each
    other; `groups`, an id per point (the keep ratio, the picture), asks what remains at one ratio.

    With S the sums of (products of) deviations from the group's mean, pooled = sum S_xy / sqrt(sum S_xx sum S_yy). For
    `spearman` x and y are ranks within the group over its size plus 1, so that a point weighs alike in a large group.
    Resamples are drawn, and pairings permuted, within the groups. Cost O(R n) for R resamples of n points.
    """
    if method not in METHODS:
        raise InputError(unknown_name("method of correlation", method, METHODS))
    first, second = checked_pair(("x", "y"), x, y)
    ids = np.asarray(groups)
    if ids.shape != first.shape:
        raise InputError(f"groups has shape {ids.shape}; expected one id for each of the {first.size} points")
    names, index = np.unique(ids, return_inverse=True)
    found = {}
    for group, name in enumerate(names):
        members = index == group
        found[str(name)] = _Chance.of(first[members], second[members], method == "spearman", n_resamples, group)
    return GroupedCorrelation(
        {name: chance.correlation(confidence) for name, chance in found.items()},
        _Chance.total(list(found.values())).correlation(confidence),
    )


@dataclass(frozen=True, eq=False)
class _Chance:
    """Sums of squared and multiplied deviations (S_xx, S_xy, S_yy): of the points, of resamples, of random pairings."""

    n: int
    observed: Array
    resampled: Array
    paired: Array

    @classmethod
    def of(cls, x: Array, y: Array, ranked: bool, n_resamples: int, group: int = 0) -> "_Chance":
        once = _deviations(np.ones((1, x.size)), x, y, ranked)
        counted = draws(x.size, n_resamples, (_BOOTSTRAP, group))
        resampled = np.concatenate([_deviations(counts, x, y, ranked) for counts in counted])
        if ranked:
            x, y = _ranks(np.ones((1, x.size)), x)[0], _ranks(np.ones((1, y.size)), y)[0]
        products = _random_pairings(x - x.mean(), y - y.mean(), n_resamples, group)
        paired = np.repeat(once, n_resamples, axis=0)
        paired[:, 1] = products
        return cls(x.size, once, resampled, paired)

    @classmethod
    def total(cls, parts: "list[_Chance]") -> "_Chance":
        return cls(
            sum(part.n for part in parts),
            np.sum([part.observed for part in parts], axis=0),
            np.sum([part.resampled for part in parts], axis=0),
            np.sum([part.paired for part in parts], axis=0),
        )

    def correlation(self, confidence: float) -> Correlation:
        check_confidence(confidence)
        coefficient = float(coefficients(self.observed)[0])
        if math.isnan(coefficient):
            return Correlation(self.n, None, None, None, None)
        resampled, paired = coefficients(self.resampled), coefficients(self.paired)
        low, high = ends(resampled[~np.isnan(resampled)], confidence)
        as_large = int((np.abs(paired) >= abs(coefficient) - ROUNDING).sum())
        return Correlation(self.n, coefficient, float(low), float(high), (as_large + 1) / (len(paired) + 1))


def _deviations(counts: Array, x: Array, y: Array, ranked: bool) -> Array:
    """Return S_xx, S_xy, S_yy (rows, 3) of points that are there `counts` (rows, n) times; a constant side's is 0."""
    a, b = (_ranks(counts, x), _ranks(counts, y)) if ranked else (x[None], y[None])
    n = x.size
    a = a - (counts * a).sum(axis=1, keepdims=True) / n
    b = b - (counts * b).sum(axis=1, keepdims=True) / n
    weighted = counts * a
    sums = np.stack([(weighted * a).sum(axis=1), (weighted * b).sum(axis=1), (counts * b * b).sum(axis=1)], axis=1)
    for column, values in ((0, x), (2, y)):
        rounding = n * (ROUNDING * (1.0 if ranked else np.abs(values).max())) ** 2
        sums[sums[:, column] <= rounding, column] = 0.0
    return sums


def _ranks(counts: Array, values: Array) -> Array:
    """Return each point's mean rank over n + 1 (rows, n), in rows that hold the points `counts` (rows, n) times."""
    distinct, index = np.unique(values, return_inverse=True)
    order = np.argsort(index, kind="stable")
    first = np.searchsorted(index[order], np.arange(len(distinct)))
    alike = np.add.reduceat(counts[:, order], first, axis=1)
    ranks = np.cumsum(alike, axis=1) - (alike - 1.0) / 2.0
    return ranks[:, index] / (values.size + 1)


def _random_pairings(x: Array, y: Array, n_resamples: int, group: int) -> Array:
    generator = np.random.Generator(np.random.PCG64((PERMUTATION, group)))
    parts = [generator.permuted(np.tile(y, (rows, 1)), axis=1) @ x for rows in chunks(y.size, n_resamples)]
    return np.concatenate(parts)


def coefficients(sums: Array) -> Array:
    """Return S_xy / sqrt(S_xx S_yy) per row, NaN where a side is constant."""
    scale = np.sqrt(sums[:, 0] * sums[:, 2])
    ratio = np.divide(sums[:, 1], scale, out=np.full(len(sums), np.nan), where=scale > 0.0)
    return np.clip(ratio, -1.0, 1.0)

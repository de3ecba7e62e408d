"""How far a mean, or a mean difference, could be chance: the bootstrap and Student's t."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from leanseg.metrics._resampling import (
    ROUNDING,
    Array,
    check_confidence,
    checked,
    checked_pair,
    draws,
    ends,
    resampled_means,
    unit_sums,
)


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval; `p` is two-sided, None where nothing is compared."""

    mean: float
    low: float
    high: float
    p: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return the fields as a dictionary."""
        return asdict(self)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval.

    `clusters` holds an id per sample. Samples of one cluster, as the instructions on one picture, are drawn together,
    since they are not independent; the mean stays that over samples (Davison and Hinkley 1997, section 3.8).

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0, p=None)
    """
    sample = checked("values", values)
    means = resampled_means(*unit_sums(sample[:, None], clusters), n_resamples, seed)
    low, high = ends(means[:, 0], confidence)
    return Interval(float(sample.mean()), float(low), float(high))


def bootstrap_median(
    values: npt.ArrayLike, *, n_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the ends of the percentile bootstrap interval of the median of `values`.

    >>> bootstrap_median([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    sample = np.sort(checked("values", values))
    middle = [(len(sample) - 1) // 2, len(sample) // 2]
    # Where so many draws lie at or below a value, it is the one in this place of the sorted resample.
    reached = (counts.cumsum(axis=1) for counts in draws(len(sample), n_resamples, seed))
    medians = [sum(sample[(each > place).argmax(axis=1)] for place in middle) / 2.0 for each in reached]
    low, high = ends(np.concatenate(medians), confidence)
    return float(low), float(high)


def paired_bootstrap(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of a - b over pairs with its interval, and the two-sided p of "no difference".

    Pairs are resampled together, so that what both share (hard and easy samples) cancels. p = twice the smaller share
    of resampled means on either side of 0, counted with the +1 that keeps it above 0; at most 1. `clusters` as in
    `bootstrap_mean`.
    """
    first, second = checked_pair(("a", "b"), a, b)
    difference = (first - second)[:, None]
    means = resampled_means(*unit_sums(difference, clusters), n_resamples, seed)
    low, high = ends(means[:, 0], confidence)
    return Interval(float(difference.mean()), float(low), float(high), float(two_sided(means, difference)[0]))


def two_sided(means: Array, differences: Array) -> Array:
    """Return p of "no difference" for each column of resampled `means`, given what was resampled."""
    rounding = ROUNDING * np.abs(differences).max(axis=0)
    tail = np.minimum((means <= rounding).sum(axis=0), (means >= -rounding).sum(axis=0))
    return np.minimum(1.0, 2.0 * (tail + 1) / (len(means) + 1))


def paired_t(
    a: npt.ArrayLike, b: npt.ArrayLike, *, clusters: npt.ArrayLike | None = None, confidence: float = 0.95
) -> Interval:
    """Return the mean of a - b over pairs with the interval and the two-sided p of Student's paired t.

    t = mean / (s / sqrt(n)) with n - 1 degrees of freedom (Student 1908). With `clusters`, an id per sample, the error
    is that of G clusters drawn whole: sqrt(G / (G - 1) sum of squared residual sums) / n with G - 1 degrees of freedom
    (Liang and Zeger 1986); clusters of one sample give the plain t. Where all residuals are 0 the interval is the mean
    alone, and p is 1 for a mean of 0 and 0 for any other.

    >>> paired_t([0.5, 0.6, 0.8], [0.4, 0.5, 0.7]).p
    0.0
    """
    from scipy.special import stdtrit

    check_confidence(confidence)
    first, second = checked_pair(("a", "b"), a, b)
    difference = (first - second)[:, None]
    sums, sizes = unit_sums(difference, clusters)
    error, p = student(difference, sums, sizes)
    mean, half = float(difference.mean()), float(stdtrit(len(sizes) - 1, (1.0 + confidence) / 2.0) * error[0])
    return Interval(mean, mean - half, mean + half, float(p[0]))


def student(differences: Array, sums: Array, sizes: Array) -> tuple[Array, Array]:
    """Return each column's standard error and p by `paired_t`, given its values and the sums and sizes of its units."""
    from scipy.special import stdtr  # not scipy.stats, which takes twice as long to import

    mean, rounding = differences.mean(axis=0), ROUNDING * np.abs(differences).max(axis=0)
    freedom = len(sizes) - 1
    residuals = sums - sizes[:, None] * mean
    error = np.sqrt((freedom + 1) / freedom * (residuals**2).sum(axis=0)) / sizes.sum()
    constant = error <= rounding
    p = 2.0 * stdtr(freedom, -np.abs(mean) / np.where(constant, 1.0, error))
    return np.where(constant, 0.0, error), np.where(constant, np.abs(mean) <= rounding, p)

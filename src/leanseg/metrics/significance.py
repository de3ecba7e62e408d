"""Confidence intervals by the bootstrap: how far a mean, or a mean difference, could be chance."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

# Resampled values held at once; bounds memory, and does not change the result.
_CHUNK_VALUES = 4_000_000


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
    values: npt.ArrayLike, *, n_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0, p=None)
    """
    sample = _sample("values", values)
    low, high = _ends(_resampled_means(sample, n_resamples, seed), confidence)
    return Interval(float(sample.mean()), low, high)


def paired_bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, *, n_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return the mean of a - b over pairs with its interval, and the two-sided p of "no difference".

    Pairs are resampled together, so that what both share (hard and easy samples) cancels. p = twice the smaller share
    of resampled means on either side of 0, counted with the +1 that keeps it above 0; at most 1.
    """
    first, second = _sample("a", a), _sample("b", b)
    if first.shape != second.shape:
        raise InputError(f"a has {first.size} values and b {second.size}; give both for the same samples, in one order")
    difference = first - second
    means = _resampled_means(difference, n_resamples, seed)
    low, high = _ends(means, confidence)
    tail = min(int((means <= 0.0).sum()), int((means >= 0.0).sum()))
    return Interval(float(difference.mean()), low, high, min(1.0, 2.0 * (tail + 1) / (n_resamples + 1)))


def _sample(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise InputError(f"{name} has shape {sample.shape}; expected a list of at least 2 values, one per sample")
    if not np.isfinite(sample).all():
        raise InputError(f"{name} holds values that are NaN or infinite; leave those samples out of both sides")
    return sample


def _resampled_means(sample: npt.NDArray[np.float64], n_resamples: int, seed: int) -> npt.NDArray[np.float64]:
    if n_resamples < 100:
        raise InputError(f"n_resamples is {n_resamples}; take at least 100, better 10000")
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(n_resamples)
    rows = max(1, _CHUNK_VALUES // sample.size)
    for begin in range(0, n_resamples, rows):
        end = min(begin + rows, n_resamples)
        draw = generator.integers(sample.size, size=(end - begin, sample.size))
        means[begin:end] = sample[draw].mean(axis=1)
    return means


def _ends(means: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence is {confidence}; it must lie between 0 and 1, as 0.95 does")
    low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)

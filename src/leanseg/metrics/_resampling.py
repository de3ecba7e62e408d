"""Draws with replacement, as counts: how often each sample, or each cluster of samples, is in a resample."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

Array = npt.NDArray[np.float64]

# Differences below this share of the values that they come from are rounding, and count as none.
ROUNDING = 1e-12
# Counts held at once; bounds memory, and does not change the draws.
_CHUNK_VALUES = 1_000_000


def draws(n_units: int, n_resamples: int, seed: int | tuple[int, ...] = 0) -> Iterator[Array]:
    """Yield `n_resamples` rows in chunks (rows, n_units): how often each unit is among n_units draws of it."""
    if n_resamples < 100:
        raise InputError(f"n_resamples is {n_resamples}; take at least 100, better 10000")
    generator = np.random.Generator(np.random.PCG64(seed))
    for rows in chunks(n_units, n_resamples):
        draw = generator.integers(n_units, size=(rows, n_units))
        draw += n_units * np.arange(rows)[:, None]
        yield np.bincount(draw.ravel(), minlength=rows * n_units).reshape(rows, n_units).astype(np.float64)


def chunks(n_units: int, n_resamples: int) -> Iterator[int]:
    """Yield numbers of rows that add up to `n_resamples` and are small enough to be held at once."""
    most = max(1, _CHUNK_VALUES // n_units)
    for begin in range(0, n_resamples, most):
        yield min(most, n_resamples - begin)


def unit_sums(table: Array, clusters: npt.ArrayLike | None) -> tuple[Array, Array]:
    """Return sums (units, columns) and sizes (units,) of what is drawn whole: each row of `table`, or each cluster."""
    if clusters is None:
        return table, np.ones(len(table))
    ids = np.asarray(clusters)
    if ids.shape != (len(table),):
        raise InputError(f"clusters has shape {ids.shape}; expected one id for each of the {len(table)} samples")
    distinct, index = np.unique(ids, return_inverse=True)
    if len(distinct) < 2:
        raise InputError(f"all samples are in one cluster, {distinct[0]!s}; at least 2 are needed to draw from")
    order = np.argsort(index, kind="stable")
    sizes = np.bincount(index)
    return np.add.reduceat(table[order], np.cumsum(sizes) - sizes, axis=0), sizes.astype(np.float64)


def resampled_means(sums: Array, sizes: Array, n_resamples: int, seed: int = 0) -> Array:
    """Return the mean of each column in each resample (n_resamples, columns): its sum over its number of samples."""
    return np.concatenate(
        [counts @ sums / (counts @ sizes)[:, None] for counts in draws(len(sizes), n_resamples, seed)]
    )


def ends(values: Array, confidence: float, method: str = "linear") -> Array:
    """Return the ends (2, ...) of the central interval that holds `confidence` of the rows of `values`."""
    check_confidence(confidence)
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    return np.quantile(values, tails, axis=0, method=method)  # type: ignore[call-overload]


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no share, as 95 for 95 %."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence is {confidence}; it must lie between 0 and 1, as 0.95 does")


def checked(name: str, values: npt.ArrayLike) -> Array:
    """Return `values` as a list of at least two finite numbers."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise InputError(f"{name} has shape {sample.shape}; expected a list of at least 2 values, one per sample")
    if not np.isfinite(sample).all():
        raise InputError(f"{name} holds values that are NaN or infinite; leave those samples out of both sides")
    return sample


def checked_pair(names: tuple[str, str], first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Array, Array]:
    """Return two lists of values of the same samples."""
    a, b = checked(names[0], first), checked(names[1], second)
    if a.shape != b.shape:
        raise InputError(
            f"{names[0]} has {a.size} values and {names[1]} {b.size}; give both for the same samples, in one order"
        )
    return a, b

"""Many differences at once: which of them would stand if none but chance were at work."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._resampling import (
    Array,
    check_confidence,
    checked_pair,
    ends,
    resampled_means,
    unit_sums,
)
from leanseg.metrics.significance import student, two_sided


@dataclass(frozen=True)
class Comparison:
    """The mean of `first` - `second` over `n` samples, with what it could be by chance, alone and among all compared.

    `low` to `high` is the bootstrap interval of this difference alone; `simultaneous_low` to `simultaneous_high` holds
    for all differences together (Bonferroni). p are two-sided, by `paired_bootstrap` and `paired_t`; `adjusted` for the
    number of comparisons. `significant`: both adjusted p are below 1 - confidence, since with few samples the bootstrap
    alone finds too much (three differences of one sign suffice).
    """

    first: str
    second: str
    n: int
    difference: float
    low: float
    high: float
    simultaneous_low: float
    simultaneous_high: float
    p_bootstrap: float
    p_bootstrap_adjusted: float
    p_t: float
    p_t_adjusted: float
    significant: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def compare(
    values: Mapping[str, npt.ArrayLike],
    *,
    against: str | None = None,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    correction: str = "holm",
    n_resamples: int = 10_000,
) -> list[Comparison]:
    """Compare named lists of values of the same samples: each with each in the mapping's order, or all with `against`.

    `values` maps a name to one value per sample, in one order. `clusters` holds an id per sample; samples of one
    cluster are drawn together. `correction` is a method of `adjusted`. One set of draws serves all differences. Cost
    O(R n P) for R resamples, n samples (or clusters) and P differences.

    >>> [only] = compare({"grid": [0.5, 0.7, 0.9, 0.6], "random": [0.4, 0.5, 0.8, 0.5]})
    >>> only.first, only.second, round(only.difference, 3), only.significant
    ('grid', 'random', 0.125, True)
    """
    check_confidence(confidence)
    _check_correction(correction)
    pairs = _pairs(list(values), against)
    level = round(1.0 - confidence, 12)
    if correction != "benjamini_hochberg":
        check_resolution(len(pairs), level, n_resamples)
    differences = np.stack([_difference(values, first, second) for first, second in pairs], axis=1)
    sums, sizes = unit_sums(differences, clusters)
    means = resampled_means(sums, sizes, n_resamples)
    low, high = ends(means, confidence)
    simultaneous_low, simultaneous_high = ends(means, 1.0 - level / len(pairs))
    p_bootstrap, (_, p_t) = two_sided(means, differences), student(differences, sums, sizes)
    columns = {
        "difference": differences.mean(axis=0),
        "low": low,
        "high": high,
        "simultaneous_low": simultaneous_low,
        "simultaneous_high": simultaneous_high,
        "p_bootstrap": p_bootstrap,
        "p_bootstrap_adjusted": adjusted(p_bootstrap, correction),
        "p_t": p_t,
        "p_t_adjusted": adjusted(p_t, correction),
    }
    significant = np.maximum(columns["p_bootstrap_adjusted"], columns["p_t_adjusted"]) < level
    rows = [{name: float(column[i]) for name, column in columns.items()} for i in range(len(pairs))]
    return [
        Comparison(first=first, second=second, n=len(differences), significant=bool(found), **row)
        for (first, second), found, row in zip(pairs, significant, rows, strict=True)
    ]


def adjusted(p_values: npt.ArrayLike, method: str = "holm") -> Array:
    """Return p values adjusted for their number m; an adjusted p below a level is significant among all at that level.

    With p_(1) <= ... <= p_(m), each at most 1:
    - `bonferroni`: m p_(i); the chance of any false finding is at most the level (Dunn 1961).
    - `holm`: the largest over j <= i of (m - j + 1) p_(j); the same promise, never a larger p (Holm 1979).
    - `benjamini_hochberg`: the smallest over j >= i of m p_(j) / j; bounds the expected share of false findings among
      all findings, for independent or positively dependent p (Benjamini and Hochberg 1995).

    >>> adjusted([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    _check_correction(method)
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or p.size == 0 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise InputError(f"p_values is {p.tolist()}; expected a list of at least one number from 0 to 1")
    order = np.argsort(p, kind="stable")
    result = np.empty_like(p)
    result[order] = np.minimum(1.0, CORRECTIONS[method](p[order]))
    return result


def _bonferroni(p: Array) -> Array:
    return p.size * p


def _holm(p: Array) -> Array:
    return np.maximum.accumulate(np.arange(p.size, 0, -1) * p)


def _benjamini_hochberg(p: Array) -> Array:
    return np.minimum.accumulate((p.size / np.arange(1, p.size + 1) * p)[::-1])[::-1]


CORRECTIONS = {"holm": _holm, "bonferroni": _bonferroni, "benjamini_hochberg": _benjamini_hochberg}


def _check_correction(method: str) -> None:
    if method not in CORRECTIONS:
        raise InputError(unknown_name("correction", method, CORRECTIONS))


def _pairs(names: list[str], against: str | None) -> list[tuple[str, str]]:
    if len(names) < 2:
        raise InputError(f"values holds {names}; at least 2 names are needed to compare")
    if against is None:
        return list(combinations(names, 2))
    if against not in names:
        raise InputError(unknown_name("name to compare with", against, names))
    return [(name, against) for name in names if name != against]


def _difference(values: Mapping[str, npt.ArrayLike], first: str, second: str) -> Array:
    a, b = checked_pair((first, second), values[first], values[second])
    return a - b


def check_resolution(n_tests: int, level: float, n_resamples: int) -> None:
    """Refuse so many tests that the smallest p of a bootstrap, 2 / (R + 1), times their number is not below a level.

    Holm's and Bonferroni's correction could then find nothing. Where several calls of `compare` are corrected together,
    `n_tests` is that of all of them.
    """
    if 2.0 * n_tests / (n_resamples + 1) >= level:
        raise InputError(
            f"among {n_tests} comparisons no adjusted p of {n_resamples} resamples can fall below {level:g}; "
            f"take n_resamples of at least {math.ceil(2 * n_tests / level)}, or compare less"
        )

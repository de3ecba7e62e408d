"""Evaluation records as numbers: one per row and sample, and which pruners at which keep ratios there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
import numpy.typing as npt

from leanseg.engine.evaluation.scorings import scoring_of
from leanseg.metrics.significance import Interval

Array = npt.NDArray[np.float64]
UNPRUNED = ("all", "ovp_only", "blind")
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Measured:
    """The measure of a record's scoring, `values[row]` (samples,), and what the lines say of each sample.

    `pruners` and `keep_ratios` are those of its grid, ratios from large to small.
    """

    measure: str
    values: Mapping[str, Array]
    lines: tuple[Mapping[str, Any], ...]
    pruners: tuple[str, ...]
    keep_ratios: tuple[float, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """Read a record."""
        scoring, lines = scoring_of(record), record["samples"]
        pruned = [row for row in record["rows"] if row["pruner"] is not None]
        return cls(
            measure=scoring.measure,
            values={row["name"]: scoring.series(lines, row["name"]) for row in record["rows"]},
            lines=tuple(lines),
            pruners=tuple(dict.fromkeys(row["name"].rsplit("@", 1)[0] for row in pruned)),
            keep_ratios=tuple(sorted({row["keep_ratio"] for row in pruned}, reverse=True)),
        )

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(self.lines)

    def at(self, pruner: str, keep_ratio: float) -> Array:
        """Return a pruner's numbers at a keep ratio; those of all tokens at 1."""
        return self.values["all" if keep_ratio == 1 else f"{pruner}@{keep_ratio:g}"]

    def curve(self, pruner: str) -> tuple[Array, Array]:
        """Return the keep ratios, 1 first, and the pruner's numbers (samples, ratios)."""
        ratios = (1.0, *self.keep_ratios)
        return np.array(ratios), np.stack([self.at(pruner, ratio) for ratio in ratios], axis=1)


def rounded(interval: Interval) -> dict[str, float]:
    """Return mean and ends of an interval as a record keeps them."""
    return {name: round(float(getattr(interval, name)), _DIGITS) for name in ("mean", "low", "high")}


def apart(first: Interval, second: Interval) -> Interval:
    """Return the difference of two means of different samples, with its interval.

    From the two intervals, which need not be symmetric: low = d - hypot(m1 - l1, h2 - m2), high = d + hypot(h1 - m1,
    m2 - l2) (Zou and Donner 2008, for independent estimates).

    >>> apart(Interval(0.5, 0.2, 0.9), Interval(0.1, 0.0, 0.5))
    Interval(mean=0.4, low=-0.09999999999999998, high=0.8123105625617661, p=None)
    """
    difference = first.mean - second.mean
    low = difference - hypot(first.mean - first.low, second.high - second.mean)
    return Interval(difference, low, difference + hypot(first.high - first.mean, second.mean - second.low))

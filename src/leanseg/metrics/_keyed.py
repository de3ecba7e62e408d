"""Whole numbers per sample, kept under the sample's id: what every measure over a data set is made of.

Any split of the samples over any number of processes, merged in any order, holds the same numbers, and a sample that
came twice is there once. What is computed from them adds with `math.fsum`, so that no order shows in any digit.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError

Counts = npt.NDArray[np.int64]
_Metric = TypeVar("_Metric", bound="KeyedMetric")


class Sample(NamedTuple):
    """The counts of one sample, one row (of equal length) per frame or mask, and what else is to be known of it."""

    counts: tuple[tuple[int, ...], ...]
    facts: dict[str, Any]


@dataclass(kw_only=True, eq=False)
class KeyedMetric(ABC):
    """A measure over samples with ids. The fields of a subclass are its options, and stand in its state."""

    _samples: dict[str, Sample] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def compute(self) -> Any:
        """Return the measure over all samples seen."""

    @final
    def merge(self, other: "KeyedMetric") -> None:
        """Add what `other` has seen; a sample that both have seen counts once."""
        if type(other) is not type(self):
            raise InputError(f"cannot merge {type(other).__name__} into {type(self).__name__}")
        if other.options != self.options:
            raise InputError(
                f"cannot merge a {type(self).__name__} with options {other.options} into one with {self.options}"
            )
        for id, sample in other._samples.items():
            self._check(id, sample)
        self._samples |= other._samples

    @property
    @final
    def options(self) -> dict[str, Any]:
        """The options as plain data."""
        return {option.name: getattr(self, option.name) for option in fields(self) if option.init}

    @property
    @final
    def state(self) -> dict[str, Any]:
        """Return options and counts; plain data."""
        samples = {id: {"counts": [list(row) for row in s.counts], **s.facts} for id, s in self._sorted()}
        return {"options": self.options, "samples": samples}

    @classmethod
    def from_state(cls: type[_Metric], state: Mapping[str, Any]) -> _Metric:
        """Return the metric that had this `state`."""
        metric = cls(**state["options"])
        for id, sample in state["samples"].items():
            metric._keep(id, sample["counts"], {name: fact for name, fact in sample.items() if name != "counts"})
        return metric

    def _keep(self, id: str, counts: Counts | Sequence[Sequence[int]], facts: Mapping[str, Any] | None = None) -> None:
        sample = Sample(tuple(tuple(int(count) for count in row) for row in counts), dict(facts or {}))
        self._check(id, sample)
        self._samples[id] = sample

    def _check(self, id: str, sample: Sample) -> None:
        known = self._samples.get(id, sample)
        if known != sample:
            raise InputError(
                f"sample {id!r} was measured before and is not the same now: {_differing(known, sample)}; "
                "give every sample an id of its own, and each only once"
            )

    def _sorted(self) -> list[tuple[str, Sample]]:
        return sorted(self._samples.items(), key=lambda item: natural(item[0]))

    def _seen(self) -> list[tuple[str, Sample]]:
        if not self._samples:
            raise InputError(f"{type(self).__name__} has seen no sample; call update first")
        return self._sorted()


def mean(values: Iterable[float]) -> float:
    """Return the mean, rounded once; NaN of nothing.

    >>> mean([0.1] * 10)
    0.1
    """
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return the key that sorts numbers inside names by value.

    >>> sorted(["dog_10", "dog_2", "cat"], key=natural)
    ['cat', 'dog_2', 'dog_10']
    """
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part)


def _differing(known: Sample, now: Sample) -> str:
    if known.facts != now.facts:
        return f"{known.facts} before, {now.facts} now"
    if len(known.counts) != len(now.counts):
        return f"{len(known.counts)} frames before, {len(now.counts)} now"
    place = next(n for n, (one, other) in enumerate(zip(known.counts, now.counts, strict=True)) if one != other)
    return f"counts {list(known.counts[place])} before, {list(now.counts[place])} now, in frame {place}"

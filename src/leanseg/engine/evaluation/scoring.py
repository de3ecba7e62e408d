"""From masks to counts and from counts to scores: how each kind of data set is scored.

A scoring keeps whole numbers per frame; what they mean is worked out at the end, by the protocols of
`leanseg.metrics.protocols`. So lines of any number of processes give the same digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, ClassVar, TypeVar, get_type_hints

import numpy as np

from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.units import Unit, item_of
from leanseg.errors import DataError, unknown_name
from leanseg.metrics import CIoU, GIoU
from leanseg.metrics.boundary import TOLERANCE, f_of, j_of, pair_counts
from leanseg.metrics.protocols import RefYouTubeVOS, Result

Counts = list[list[int]]
"""Whole numbers of one sample under one row, a list per frame; intersection and union in pixels come first."""
Line = dict[str, Any]
"""A sample's `index`, `id`, `kind`, `instruction` and `counts` per row; perhaps `facts` and `failures` per row."""


@dataclass(frozen=True, kw_only=True)
class Recording(ABC):
    """What a line keeps of the answers to a unit. The fields of a subclass are its options, and stand in the record."""

    name: ClassVar[str]
    soft: ClassVar[bool] = False

    @property
    def described(self) -> dict[str, Any]:
        """Name and options as plain data."""
        return {"name": self.name, **asdict(self)}

    def groups(self, dataset: Dataset) -> Sequence[Sequence[int]]:
        """Return the samples that make up each unit: by default every sample is one."""
        return [(index,) for index in range(len(dataset))]

    def check(self, dataset: Dataset, indices: Sequence[int]) -> None:
        """Raise DataError where these units alone could not be scored, before any of them is answered."""
        return

    def unit(self, dataset: Dataset, index: int, members: Sequence[int]) -> Unit:
        """Return unit number `index`, made of these samples of the data set."""
        items = tuple(item_of(dataset, member) for member in members)
        return Unit(index, items, dataset, items[0].meta.get("kind"))

    @abstractmethod
    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> Any:
        """Return what is kept of one frame's answers, one `Segmentation` per instruction."""

    def counts(self, unit: Unit, frames: list[Any]) -> Any:
        """Return the counts of a unit from what was kept of its frames."""
        return frames

    @abstractmethod
    def nothing(self, unit: Unit | None) -> Any:
        """Return the counts of an answer that failed, scored 0; without a unit where no annotation can be read.

        The target's pixels are missed; where there are none, or they cannot be read, one pixel is.

        Raises:
            DataError: what cannot be read decides which mean the sample enters, so that no score can be had.
        """


Kind = TypeVar("Kind", bound=Recording)


def with_options(kind: type[Kind], options: Mapping[str, Any]) -> Kind:
    """Return a recording of this kind, refusing an option that it does not have, and a value of another type."""
    known, types = [each.name for each in fields(kind)], get_type_hints(kind)
    for option, value in options.items():
        if option not in known:
            raise DataError(unknown_name(f"option of the {kind.name} protocol", option, known or ["none"]))
        expected = types[option]
        fits = isinstance(value, float | int if expected is float else expected)
        # A word as "false" would be true, and True is an int.
        if not fits or isinstance(value, bool) != (expected is bool):
            shown = "True or False" if expected is bool else getattr(expected, "__name__", expected)
            raise DataError(f"option {option} of the {kind.name} protocol is {value!r}; expected {shown}; give that")
    return kind(**options)


@dataclass(frozen=True, kw_only=True)
class Scoring(Recording):
    """How a kind of data set is scored, by what a line keeps."""

    measure: ClassVar[str]
    """The name, among `values`, of the number that tables show and tests compare."""

    @abstractmethod
    def values(self, counts: Any) -> dict[str, float]:
        """Return one sample's numbers, by name."""

    @abstractmethod
    def result(self, lines: Sequence[Line], row: str) -> Result:
        """Return what the protocol says of a row over all lines."""

    def series(self, lines: Sequence[Line], row: str, measure: str | None = None) -> np.ndarray:
        """Return one number per line under a row, float64 (lines,): `measure`, or the scoring's own."""
        return np.array([self.values(line["counts"][row])[measure or self.measure] for line in lines])


def missed(unit: Unit | None) -> Counts:
    """Return per frame 0 pixels found, and those of the target (at least 1) missed."""
    return [[0, 1]] if unit is None else [[0, max(1, _area(unit, time))] for time in range(unit.n_frames)]


def _area(unit: Unit, time: int) -> int:
    try:
        return int(unit.truths(time)[0][0].sum())
    except Exception:  # it cannot be read, which the line says under `failures`
        return 0


def overlap(counts: Counts) -> dict[str, list[int]]:
    """Return the state of an overlap metric that has seen these frames."""
    return {"intersections": [row[0] for row in counts], "unions": [row[1] for row in counts]}


@dataclass(frozen=True, kw_only=True)
class Region(Scoring):
    """gIoU and cIoU, as LISA defines them; of a clip: the mean over its frames, and all of its pixels."""

    name = "region"
    measure = "giou"

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> list[int]:
        target, ignore = unit.truths(time)[0]
        metric = GIoU()
        metric.update(target, answers[0].masks[0], ignore)
        state = metric.state
        return [*state["intersections"], *state["unions"]]

    def nothing(self, unit: Unit | None) -> Counts:
        return missed(unit)

    def values(self, counts: Counts) -> dict[str, float]:
        return {"giou": GIoU.from_state(overlap(counts)).compute()}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        samples = {line["id"]: self.values(line["counts"][row]) for line in lines}
        scores = {
            "giou": fmean(sample["giou"] for sample in samples.values()),
            "ciou": CIoU.from_state(overlap([pair for line in lines for pair in line["counts"][row]])).compute(),
        }
        return Result(protocol=self.described, scores=scores, samples=samples)


@dataclass(frozen=True, kw_only=True)
class Video(Scoring):
    """J, F and J&F of each expression over its frames, then their mean over expressions; and gIoU and cIoU besides.

    The rule of Ref-YouTube-VOS, also for generated clips. Pixels that the data set ignores are void.
    """

    name = "video"
    measure = "J&F"
    tolerance: float = TOLERANCE

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> list[int]:
        target, ignore = unit.truths(time)[0]
        counts: list[int] = pair_counts(target, answers[0].masks[0], ignore, self.tolerance).tolist()
        return counts

    def nothing(self, unit: Unit | None) -> Counts:
        return [[*pair, 1, 1, 0, 0] for pair in missed(unit)]

    def values(self, counts: Counts) -> dict[str, float]:
        table = np.array(counts, dtype=np.int64)[:, :6]
        j, f = float(np.mean(j_of(table))), float(np.mean(f_of(table)))
        return {"J&F": (j + f) / 2, "J": j, "F": f, "giou": GIoU.from_state(overlap(counts)).compute()}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        samples = {line["id"]: {"counts": [pair[:6] for pair in line["counts"][row]]} for line in lines}
        found = RefYouTubeVOS.from_state({"options": {"tolerance": self.tolerance}, "samples": samples}).compute()
        pairs = [pair for line in lines for pair in line["counts"][row]]
        giou = fmean(self.series(lines, row, "giou").tolist())
        extra = {"giou": giou, "ciou": CIoU.from_state(overlap(pairs)).compute()}
        return Result(protocol=self.described, scores={**found.scores, **extra}, samples=found.samples)

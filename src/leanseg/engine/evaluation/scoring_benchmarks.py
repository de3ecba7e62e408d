"""The scorings of benchmarks with rules of their own: RIO, COCO-Tasks and ReVOS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leanseg.engine.evaluation.scoring import Counts, Line, Scoring, missed
from leanseg.engine.evaluation.units import Unit
from leanseg.errors import DataError
from leanseg.metrics.boundary import f_of, j_of
from leanseg.metrics.protocols import RIO, COCOTasks, Result, ReVOS
from leanseg.metrics.protocols.revos import KINDS, MEASURES
from leanseg.metrics.protocols.rio import instance_counts, picture_scores

# The kinds that enter ReVOS's overall.
_OVERALL = ("referring", "reasoning")


@dataclass(frozen=True, kw_only=True)
class RIOScoring(Scoring):
    """gIoU and cIoU with the union of an intention's objects; `best_instance` adds RIO's own measure."""

    name = "rio"
    measure = "giou"
    best_instance: bool = False

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> Counts:
        return _picture(unit, time, answers, self.best_instance)

    def counts(self, unit: Unit, frames: list[Any]) -> Counts:
        found: Counts = frames[0]
        return found

    def nothing(self, unit: Unit | None) -> Counts:
        return missed(unit)

    def values(self, counts: Counts) -> dict[str, float]:
        scores = picture_scores(counts, self.best_instance)
        return {"giou": scores.pop("iou"), **scores}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        samples = {line["id"]: {"counts": line["counts"][row]} for line in lines}
        return RIO.from_state({"options": {"best_instance": self.best_instance}, "samples": samples}).compute()


@dataclass(frozen=True, kw_only=True)
class COCOTasksScoring(Scoring):
    """gIoU and cIoU per task and their plain means over tasks; the mean is over the tasks that the data set holds.

    `best_instance` adds the IoU with the best single object, as in RIO.
    """

    name = "coco_tasks"
    measure = "giou"
    best_instance: bool = False

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> Counts:
        return _picture(unit, time, answers, self.best_instance)

    def counts(self, unit: Unit, frames: list[Any]) -> Counts:
        found: Counts = frames[0]
        return found

    def nothing(self, unit: Unit | None) -> Counts:
        return missed(_known(unit))

    def values(self, counts: Counts) -> dict[str, float]:
        scores = picture_scores(counts, self.best_instance)
        return {"giou": scores.pop("iou"), **scores}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        # `kind` is task_<number>; ids are coco_tasks/<number>/<picture>.
        tasks = {line["id"]: int(line["kind"].removeprefix("task_")) for line in lines}
        samples = {
            line["id"].removeprefix("coco_tasks/"): {"counts": line["counts"][row], "task": tasks[line["id"]]}
            for line in lines
        }
        metric = COCOTasks.from_state({"options": {"best_instance": self.best_instance}, "samples": samples})
        return metric.compute(tasks=sorted(set(tasks.values())))


@dataclass(frozen=True, kw_only=True)
class ReVOSScoring(Scoring):
    """J, F, A and R per kind of expression, and overall; options as `leanseg.metrics.protocols.ReVOS`.

    Where only one kind is measured, the scores are that kind's, and the result says so under `overall`. Masks are
    compared as they would be saved: 0 and 255 with `reference_compat`, as the public code saves them.
    """

    name = "revos"
    measure = "J&F"
    reference_compat: bool = False

    @property
    def metric(self) -> ReVOS:
        """The protocol's measure."""
        return ReVOS(reference_compat=self.reference_compat)

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> list[int]:
        foreground = _foreground(unit)[time]
        saved = answers[0].masks[0].astype(np.uint8) * (255 if self.reference_compat else 1)
        dataset: Any = unit.dataset
        raw = self.metric.values == "raw"
        target = dataset.depth(unit.index, time) if raw else unit.truths(time)[0][0]
        counts: list[int] = self.metric.counts(target[None], saved[None], foreground[None])[0].tolist()
        return counts

    def nothing(self, unit: Unit | None) -> Counts:
        _known(unit)
        return []

    def values(self, counts: Counts) -> dict[str, float]:
        if not counts:
            return {"J&F": 0.0, "J": 0.0, "F": 0.0}
        table = np.array(counts, dtype=np.int64)[:, :6]
        j, f = float(np.mean(j_of(table))), float(np.mean(f_of(table)))
        return {"J&F": (j + f) / 2, "J": j, "F": f}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        samples = {
            line["id"].removeprefix("revos/"): {"counts": line["counts"][row], "kind": line["kind"]} for line in lines
        }
        found = ReVOS.from_state({"options": self.metric.options, "samples": samples}).compute()
        kinds = {sample["kind"] for sample in samples.values()}
        if len(kinds & set(_OVERALL)) == len(_OVERALL):
            return found
        # Of a part of the data set: the overall is undefined, and what there is stands in its place.
        only = next((kind for kind in KINDS if kind in kinds), KINDS[0])
        scores = {**found.scores, **{name: found.scores[f"{only}/{name}"] for name in MEASURES}}
        return Result(protocol={**found.protocol, "overall": only}, scores=scores, samples=found.samples)


def _picture(unit: Unit, time: int, answers: Sequence[Any], best_instance: bool) -> Counts:
    """Return the counts of one picture's answer with the union of its objects, and perhaps with each of them."""
    target: Any = unit.truths(time)[0][0]
    if best_instance:
        instances = getattr(unit.dataset, "instances", None)
        if instances is None:
            raise DataError("best_instance needs the objects one by one, and this data set has unions only; omit it")
        target = instances(unit.index)
    counts: Counts = instance_counts(target, answers[0].masks[0], best_instance).tolist()
    return counts


def _known(unit: Unit | None) -> Unit:
    """Return the unit, whose kind says which mean it enters."""
    if unit is None:
        raise DataError("the annotation of a sample cannot be read, so that its kind is unknown; get its file again")
    return unit


def _foreground(unit: Unit) -> Any:
    """Return the foreground of the unit's video, read once."""
    kept = getattr(unit, "foreground", None)
    if kept is None:
        dataset: Any = unit.dataset
        kept = unit.foreground = dataset.foreground(unit.meta["video"])  # type: ignore[attr-defined]
    return kept

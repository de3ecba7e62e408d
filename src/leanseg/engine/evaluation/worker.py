"""One unit under every row: the work that one process, one rank or one actor of a cluster does again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.facts import Facts, target_stability
from leanseg.engine.evaluation.grid import Row, chosen
from leanseg.engine.evaluation.scoring import Line, Recording, Region
from leanseg.engine.evaluation.units import Unit
from leanseg.errors import DataError

_log = logging.getLogger(__name__)
# Where a row's first answers all fail, the request is wrong and not the samples.
_HOPELESS_AFTER = 5


@runtime_checkable
class Evaluated(Protocol):
    """What an evaluation needs of a segmenter: one frame's answers at a time, one per instruction."""

    def segment_stream(self, frames: Any, instruction: list[str], **options: Any) -> Iterator[list[Any]]: ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated: the units `indices` of a data set as `scoring` groups it, each under every row.

    `make` builds the segmenter inside each process and must be picklable where there are several. `options` go to
    every answer, a row's own over them, and with `tasks` the sample's task. `facts` are noted per answer
    (`leanseg.engine.evaluation.facts`). `subject` says in JSON what `make` and `dataset` are: lines of another subject,
    grid or other options are not taken up again.
    """

    make: Callable[[], Evaluated]
    dataset: Dataset
    indices: Sequence[int]
    rows: Sequence[Row]
    scoring: Recording = field(default_factory=Region)
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    tasks: bool = True
    subject: Mapping[str, Any] = field(default_factory=dict)

    def asked(self, row: Row, unit: Unit) -> dict[str, Any]:
        """Return what `segment` is asked with for a row."""
        task = {"task": unit.meta.get("task")} if self.tasks else {}
        return {**self.options, **task, **row.options, "pruner": chosen(row), "visual": row.visual}

    @property
    def about(self) -> dict[str, Any]:
        """What decides every digit, as plain data; it stands in the record."""
        return {
            **self.subject,
            "scoring": self.scoring.described,
            "options": dict(self.options),
            "facts": list(self.facts),
            "rows": [asdict(row) for row in self.rows],
        }


class Worker:
    """Evaluates one unit at a time; the segmenter's cache lets all rows of a unit share what they have in common."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.groups = evaluation.scoring.groups(evaluation.dataset)
        self.segmenter = evaluation.make()
        self._answered: dict[str, int] = {row.name: 0 for row in evaluation.rows}
        self._failed: dict[str, int] = dict(self._answered)

    def line(self, index: int) -> Line:
        """Return the line of unit `index`. What fails is counted as nothing found, and said under `failures`.

        Raises:
            DataError: the first answers of a row all failed, which says that the request itself is wrong.
        """
        unit = None
        try:
            unit = self.evaluation.scoring.unit(self.evaluation.dataset, index, self.groups[index])
            unit.truths(0)
        except Exception as error:
            return self._unreadable(index, unit, error)
        live = {row.name: _Answers(self, row, unit) for row in self.evaluation.rows}
        # All rows see a frame before any sees the next: they share its features, however long the clip is.
        for time in range(unit.n_frames):
            for answers in live.values():
                answers.advance(time)
        line = self._about(unit)
        for name, answers in live.items():
            line["counts"][name] = answers.counts()
            self._note(line, name, answers)
        return line

    def _about(self, unit: Unit) -> Line:
        line: Line = {"index": unit.index, "id": unit.id, "kind": unit.kind}
        line |= {"instruction": " / ".join(unit.instructions), "counts": {}}
        if self.evaluation.facts:
            line["facts"] = {}
            # Where a later mask cannot be read, `failures` says so.
            with suppress(Exception):
                line["target"] = self._target(unit)
        return line

    def _target(self, unit: Unit) -> dict[str, Any]:
        areas = [int(unit.truths(time)[0][0].sum()) for time in range(unit.n_frames)]
        pixels = unit.truths(0)[0][0].size
        about: dict[str, Any] = {name: unit.meta[name] for name in ("redundancy", "scene") if name in unit.meta}
        if "stability" in self.evaluation.facts:
            about["stability"] = target_stability(unit.items[0])
        return {"area": round(sum(areas) / (len(areas) * pixels), 6), **about}

    def _note(self, line: Line, name: str, answers: _Answers) -> None:
        if answers.error is None:
            self._answered[name] += 1
            noted = answers.facts.noted()
            if noted:
                line["facts"][name] = noted
            return
        line.setdefault("failures", {})[name] = _said(answers.error)
        _log.warning("%s under %s: %s", line["id"], name, _said(answers.error))
        self._count_failure(name, answers.error)

    def _count_failure(self, name: str, error: Exception) -> None:
        self._failed[name] += 1
        if not self._answered[name] and self._failed[name] >= _HOPELESS_AFTER:
            raise DataError(
                f"the first {_HOPELESS_AFTER} answers under {name} all failed, the last with: {_said(error)}; "
                "mend the request and run it again"
            ) from error

    def _unreadable(self, index: int, unit: Unit | None, error: Exception) -> Line:
        scoring, rows = self.evaluation.scoring, self.evaluation.rows
        _log.warning("unit %d (samples %s) cannot be read: %s", index, list(self.groups[index]), error)
        for row in rows:
            self._count_failure(row.name, error)
        said = ("", None, "") if unit is None else (unit.id, unit.kind, " / ".join(unit.instructions))
        return {
            "index": index, "id": said[0] or f"unreadable/{index}", "kind": said[1], "instruction": said[2],
            "counts": {row.name: scoring.nothing(unit) for row in rows},
            "failures": {row.name: _said(error) for row in rows}, **({"facts": {}} if self.evaluation.facts else {}),
        }  # fmt: skip


class _Answers:
    """One row's answers to a unit, frame by frame, until the last or until one fails."""

    def __init__(self, worker: Worker, row: Row, unit: Unit) -> None:
        self._scoring, self._unit = worker.evaluation.scoring, unit
        self._frames: list[Any] = []
        self.facts = Facts(worker.evaluation.facts)
        self.error: Exception | None = None
        soft = {"soft": True} if self._scoring.soft else {}
        try:
            self._stream = worker.segmenter.segment_stream(
                (unit.items[0].frame(time) for time in range(unit.n_frames)), unit.instructions,
                **worker.evaluation.asked(row, unit), **soft,
            )  # fmt: skip
        except Exception as error:
            self.error = error

    def advance(self, time: int) -> None:
        if self.error is not None:
            return
        try:
            answers = next(self._stream)
            self._frames.append(self._scoring.frame(self._unit, time, answers))
            self.facts.add(answers[0])
        except Exception as error:
            self.error = error

    def counts(self) -> Any:
        if self.error is None:
            try:
                return self._scoring.counts(self._unit, self._frames)
            except Exception as error:
                self.error = error
        return self._scoring.nothing(self._unit)


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def one_thread() -> None:
    """Keep torch to one thread, in a process that shares the machine with others of its kind."""
    torch.set_num_threads(1)

"""Runs a segmenter over a data set for a grid of pruners and keep ratios; one line per sample, resumable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from leanseg.data.sample import Dataset, Sample
from leanseg.errors import DataError
from leanseg.metrics import CIoU, GIoU
from leanseg.processes import leave_with_parent
from leanseg.pruners import Pruner, pruner

_POLL_SECONDS = 0.5
# What a row's name says behind the pruner's where kept tokens keep the mass of those they stand for.
MASS = ", mass kept"

Line = dict[str, Any]
"""A sample's `index` in the data set, `id`, `kind`, `instruction`, and `counts`: row -> [[intersection, union], ...]
in pixels, one pair per frame."""


@runtime_checkable
class Evaluated(Protocol):
    """What `evaluate` needs of a segmenter: the visual modes `all`, `ovp_only` and `blind` besides a pruner."""

    def segment(
        self, clip: Any, instruction: str, *, pruner: Pruner | None = None, visual: str = "all", **options: Any
    ) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the grid: a pruner spec with its keep ratio, perhaps preserving mass, or an unpruned visual mode."""

    name: str
    pruner: str | None = None
    keep_ratio: float | None = None
    visual: str = "all"
    mass_preserving: bool = False


def grid(pruners: Sequence[str], keep_ratios: Sequence[float], *, mass_preserving: bool = False) -> tuple[Row, ...]:
    """Return all tokens, every pruner at every ratio, ovp-only and blind. Specs are checked here, before any work.

    A spec that sets its own keep ratio gives one row. `mass_preserving` adds each pruned row once more with it.
    """
    rows: dict[tuple[str, bool], Row] = {}
    for spec in pruners:
        for mass in (False, True) if mass_preserving else (False,):
            for ratio in keep_ratios or (None,):
                made = pruner(spec, keep_ratio=ratio, allow_files=False)
                row = Row(
                    name=f"{spec}{MASS if mass else ''}@{made.keep_ratio:g}", pruner=made.spec(),
                    keep_ratio=made.keep_ratio, mass_preserving=mass,
                )  # fmt: skip
                rows.setdefault((made.spec(), mass), row)
    unpruned = Row(name="ovp_only", visual="ovp_only"), Row(name="blind", visual="blind")
    return (Row(name="all", keep_ratio=1.0), *rows.values(), *unpruned)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated: the samples `indices` of a data set, each under every row.

    `make` builds the segmenter inside each process and must be picklable where there are several. `options` go to
    every call of `segment`. `subject` says in JSON what `make` and `dataset` are: lines of another subject, grid or
    other options are not taken up again.
    """

    make: Callable[[], Evaluated]
    dataset: Dataset
    indices: Sequence[int]
    rows: Sequence[Row]
    options: Mapping[str, Any] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, Any]:
        """The first line of every file of lines."""
        about = {"subject": self.subject, "rows": [asdict(row) for row in self.rows], "options": self.options}
        return {"evaluation": json.loads(json.dumps(about))}


def evaluate(
    evaluation: Evaluation,
    lines: Path,
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Line]:
    """Evaluate every sample under every row and return one line per sample, in the order of `indices`.

    The lines are appended to files as they come; a sample that stands in one already is not run again, so a killed run
    resumes where it stopped, with any number of processes. The answers do not depend on that number. `progress` is
    called with the number of finished samples.
    """
    parts = [lines.with_name(f"{lines.name}.{rank}") for rank in range(processes)]
    left_over = sorted(path for path in lines.parent.glob(f"{lines.name}.*") if path.suffix[1:].isdigit())
    done: dict[int, Line] = {}
    for path in (lines, *left_over):
        done |= _read_lines(path, evaluation)
    lines.parent.mkdir(parents=True, exist_ok=True)
    _write_lines(lines, evaluation, done.values())
    for path in left_over:
        path.unlink()
    todo = [index for index in evaluation.indices if index not in done]
    told = _Progress(progress, len(evaluation.indices) - len(todo))
    if todo and processes == 1:
        _evaluate_part(evaluation, lines, todo, told.advance)
        done = _read_lines(lines, evaluation)
    elif todo:
        _run_workers(evaluation, parts, [todo[rank::processes] for rank in range(processes)], told)
        for path in parts:
            done |= _read_lines(path, evaluation)
        _write_lines(lines, evaluation, done.values())
        for path in parts:
            path.unlink()
    return [done[index] for index in evaluation.indices]


class _Progress:
    def __init__(self, tell: Callable[[int], None] | None, start: int) -> None:
        self._tell, self._start, self._count = tell, start, 0
        self.advance(0)

    def advance(self, count: int = 1) -> None:
        self.set(self._count + count)

    def set(self, count: int) -> None:
        self._count = count
        if self._tell is not None:
            self._tell(self._start + count)


def _evaluate_part(
    evaluation: Evaluation, path: Path, indices: Sequence[int], advance: Callable[[], None] | None = None
) -> None:
    segmenter = evaluation.make()
    with path.open("a", encoding="utf-8") as file:
        for index in indices:
            line = _evaluate_sample(segmenter, evaluation, index)
            file.write(_json(line) + "\n")
            file.flush()
            if advance is not None:
                advance()


def _evaluate_sample(segmenter: Evaluated, evaluation: Evaluation, index: int) -> Line:
    sample: Sample = evaluation.dataset[index]
    counts: dict[str, list[list[int]]] = {}
    for row in evaluation.rows:
        chosen = None if row.pruner is None else pruner(row.pruner, allow_files=False)
        result = segmenter.segment(
            sample.clip,
            sample.instruction,
            pruner=chosen,
            visual=row.visual,
            **({"mass_preserving": True} if row.mass_preserving else {}),
            task=sample.meta.get("task"),
            **evaluation.options,
        )
        metric = GIoU()
        metric.update(sample.target, result.masks)
        state = metric.state
        counts[row.name] = [list(pair) for pair in zip(state["intersections"], state["unions"], strict=True)]
    about = {"index": index, "id": sample.id, "kind": sample.meta.get("kind"), "instruction": sample.instruction}
    return {**about, "counts": counts}


def _run_workers(
    evaluation: Evaluation, parts: Sequence[Path], shares: Sequence[Sequence[int]], progress: _Progress
) -> None:
    context = get_context("spawn")
    workers = []
    for part, share in zip(parts, shares, strict=True):
        _write_lines(part, evaluation, ())
        workers.append(context.Process(target=_work, args=(evaluation, part, share), daemon=True))
    try:
        for worker in workers:
            worker.start()
        running = [worker.sentinel for worker in workers]
        while running:
            ended = wait(running, timeout=_POLL_SECONDS)
            running = [sentinel for sentinel in running if sentinel not in ended]
            progress.set(sum(part.read_bytes().count(b"\n") - 1 for part in parts))
            for part, worker in zip(parts, workers, strict=True):
                if worker.sentinel in ended:
                    _check_ended(worker, part)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _check_ended(worker: SpawnProcess, part: Path) -> None:
    worker.join()
    if worker.exitcode != 0:
        raise DataError(
            f"a process of the evaluation stopped with code {worker.exitcode}; its finished samples are in {part}; "
            "run the same command again to resume"
        )


def _work(evaluation: Evaluation, part: Path, indices: Sequence[int]) -> None:
    leave_with_parent()
    torch.set_num_threads(1)
    _evaluate_part(evaluation, part, indices)


def _read_lines(path: Path, evaluation: Evaluation) -> dict[int, Line]:
    if not path.exists():
        return {}
    header, *texts = path.read_text(encoding="utf-8").splitlines() or [""]
    if header != _json(evaluation.header):
        raise DataError(
            f"{path} holds lines of another evaluation (other pruners, data, options or weights); "
            "give another --out, or remove the file"
        )
    found: dict[int, Line] = {}
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a killed run may leave half of its last line; that sample runs again
        found[line["index"]] = line
    return found


def _write_lines(path: Path, evaluation: Evaluation, lines: Iterable[Line]) -> None:
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text("".join(_json(line) + "\n" for line in (evaluation.header, *lines)), encoding="utf-8")
    os.replace(temporary, path)


def _json(line: Line) -> str:
    return json.dumps(line, separators=(",", ":"))


def _state(pairs: Iterable[Sequence[int]]) -> dict[str, list[int]]:
    listed = list(pairs)
    return {"intersections": [pair[0] for pair in listed], "unions": [pair[1] for pair in listed]}


def per_sample_iou(lines: Sequence[Line], row: str) -> np.ndarray:
    """Return each sample's gIoU under a row, float64 (samples,): the mean over its frames."""
    return np.array([GIoU.from_state(_state(line["counts"][row])).compute() for line in lines])


def cumulative_iou(lines: Sequence[Line], row: str) -> float:
    """Return cIoU under a row, over all frames of all samples."""
    return CIoU.from_state(_state(pair for line in lines for pair in line["counts"][row])).compute()

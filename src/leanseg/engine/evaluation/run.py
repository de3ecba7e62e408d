"""Runs an evaluation on this machine: in this process, in several, or as one rank of a torchrun."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.lines import Lines, append
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.worker import Evaluation, Worker, one_thread
from leanseg.errors import DataError, LeansegError
from leanseg.processes import leave_with_parent

_POLL_SECONDS = 0.5


def evaluate(
    evaluation: Evaluation,
    lines: Path,
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Line]:
    """Evaluate every unit under every row and return one line per unit, in the order of `indices`.

    The lines are appended to files as they come; a unit that stands in one already is not run again, so a killed run
    resumes where it stopped, with any number of processes. The answers do not depend on that number. `progress` is
    called with the number of finished units.
    """
    book = Lines(lines, evaluation.about)
    done = book.resume()
    todo = [index for index in evaluation.indices if index not in done]
    told = _Progress(progress, len(evaluation.indices) - len(todo))
    if todo and processes == 1:
        evaluate_part(evaluation, book.path, todo, told.advance)
    elif todo:
        shares = [todo[rank::processes] for rank in range(processes)]
        _run_workers(evaluation, book, [share for share in shares if share], told)
    if todo:
        done = book.gather()
    return [done[index] for index in evaluation.indices]


def evaluate_part(
    evaluation: Evaluation, path: Path, indices: Sequence[int], advance: Callable[[], None] | None = None
) -> None:
    """Append the lines of these units to `path`."""
    worker = Worker(evaluation)
    for index in indices:
        append(path, worker.line(index))
        if advance is not None:
            advance()


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


def _run_workers(evaluation: Evaluation, book: Lines, shares: Sequence[Sequence[int]], progress: _Progress) -> None:
    context = get_context("spawn")
    parts = [book.part(rank) for rank in range(len(shares))]
    workers, said = [], context.SimpleQueue()
    for part, share in zip(parts, shares, strict=True):
        book.write((), part)
        workers.append(context.Process(target=_work, args=(evaluation, part, share, said), daemon=True))
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
                    _check_ended(worker, part, said)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _check_ended(worker: SpawnProcess, part: Path, said: Any) -> None:
    worker.join()
    if worker.exitcode != 0:
        if not said.empty():
            raise DataError(said.get())
        raise DataError(
            f"a process of the evaluation stopped with code {worker.exitcode}; its finished samples are in {part}; "
            "run the same command again to resume"
        )


def _work(evaluation: Evaluation, part: Path, indices: Sequence[int], said: Any) -> None:
    leave_with_parent()
    one_thread()
    try:
        evaluate_part(evaluation, part, indices)
    except LeansegError as error:
        said.put(str(error))
        sys.exit(1)

"""One evaluation over the ranks of a torchrun: units dealt by rank, none twice, lines gathered by the first rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.lines import Lines, append
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.worker import Evaluation, Worker
from leanseg.errors import DataError


def world() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_device(device: str) -> str:
    """Return the device of this rank: its own GPU where `device` is `cuda`."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def evaluate_ranks(
    evaluation: Evaluation,
    lines: Path,
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Line] | None:
    """Evaluate as `evaluate` does, this process being one rank of several; the first returns the lines, others None.

    What is still to do is dealt as `todo[rank::ranks]`: nothing is padded and nothing repeated, unlike torch's
    DistributedSampler. Each rank appends to a file of its own, which a later run takes up, with any number of ranks.
    Ranks may lie on machines that share no files: lines travel through the process group. What a killed run finished on
    such a machine, other than that of the first rank, is done again.
    """
    import torch.distributed as group

    if processes != 1:
        raise DataError(f"--processes is {processes} under torchrun; expected 1: torchrun starts the processes")
    # The first rank may wait long for the slowest; torchrun ends all ranks where one fails.
    group.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        rank, ranks = group.get_rank(), group.get_world_size()
        book = Lines(lines, evaluation.about)
        done = book.resume() if rank == 0 else {}
        shared: list[Any] = [[index for index in evaluation.indices if index not in done]]
        group.broadcast_object_list(shared, src=0)
        tell = told(progress, evaluation, shared[0], ranks) if rank == 0 else None
        mine = _run_share(evaluation, book, shared[0][rank::ranks], rank, tell)
        gathered: list[Any] | None = [None] * ranks if rank == 0 else None
        group.gather_object(mine, gathered, dst=0)
        if gathered is None:
            return None
        done |= {line["index"]: line for part in gathered for line in part}
        book.write(done.values())
        for path in book.parts():
            path.unlink()
        return [done[index] for index in evaluation.indices]
    finally:
        group.destroy_process_group()


def _run_share(
    evaluation: Evaluation, book: Lines, share: Sequence[int], rank: int, progress: Callable[[int], None] | None
) -> list[Line]:
    part = book.part(rank)
    book.write((), part)
    made: list[Line] = []
    if not share:
        return made
    worker = Worker(evaluation)
    for index in share:
        made.append(worker.line(index))
        append(part, made[-1])
        if progress is not None:
            progress(len(made))
    return made


def told(
    progress: Callable[[int], None] | None, evaluation: Evaluation, todo: Sequence[int], ranks: int
) -> Callable[[int], None] | None:
    """Return what tells of all units, from those of one rank: the others are taken to be as far with their shares."""
    if progress is None:
        return None
    there = len(evaluation.indices) - len(todo)
    progress(there)
    return lambda finished: progress(there + min(len(todo), finished * ranks))

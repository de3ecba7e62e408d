"""The same function over many samples, in one process or in several, with the same answers in the same order."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from leanseg.errors import InputError
from leanseg.processes import leave_with_parent

Given = TypeVar("Given")
Found = TypeVar("Found")


def mapped(function: Callable[[Given], Found], given: Iterable[Given], processes: int) -> list[Found]:
    """Return `function` of each, in order. Function and samples must be picklable where `processes` is above 1."""
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= processes <= most:
        raise InputError(f"processes is {processes}; expected 1 to {most} on this machine")
    items = list(given)
    if processes == 1 or len(items) < 2:
        return [function(item) for item in items]
    # Spawned, since a fork of a process with threads may hang.
    context = get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(items)), context, initializer=leave_with_parent) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

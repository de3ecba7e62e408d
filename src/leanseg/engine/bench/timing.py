"""Timing on one thread: processor time and wall time, warmed up, with median and spread; and memory at its peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

# Repeats stop at the budget, so that slow rivals do not take the whole time.
MOST_REPEATS = 11
LEAST_REPEATS = 3
BUDGET_S = 1.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def timed(function: Callable[[], object], *, budget_s: float = BUDGET_S) -> dict[str, Any]:
    """Return median, least and largest milliseconds of thread processor time, and the median of wall time.

    One run before does not count, unless a single one takes the budget, which is processor time.
    """
    samples = [_once(function)]
    if samples[0][0] < budget_s:
        samples.clear()
        spent = 0.0
        while len(samples) < LEAST_REPEATS or (spent < budget_s and len(samples) < MOST_REPEATS):
            samples.append(_once(function))
            spent += samples[-1][0]
    processor, wall = zip(*samples, strict=True)
    return {
        "cpu_ms": round(1e3 * median(processor), 4),
        "cpu_ms_least": round(1e3 * min(processor), 4),
        "cpu_ms_most": round(1e3 * max(processor), 4),
        "wall_ms": round(1e3 * median(wall), 4),
        "repeats": len(samples),
    }


def _once(function: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.thread_time()
    function()
    return time.thread_time() - processor, time.perf_counter() - wall


class Laps:
    """Milliseconds since the lap before, added up by name: this thread's processor time, and wall time.

    On a GPU every lap waits for its kernels, and wall time is what counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.cpu_ms: dict[str, float] = {}
        self.wall_ms: dict[str, float] = {}
        self._device = device
        self._last = self._now()

    def lap(self, name: str) -> None:
        """Add the time since the lap before, or since the start, to a name."""
        now = self._now()
        for totals, begin, end in zip((self.cpu_ms, self.wall_ms), self._last, now, strict=True):
            totals[name] = totals.get(name, 0.0) + 1e3 * (end - begin)
        self._last = now

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.thread_time(), time.perf_counter()


def peak_bytes(function: Callable[[], object]) -> int:
    """Return how many bytes of tensors a call holds at most beyond what was there before it (processor only)."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        function()
    results = profile.kineto_results
    changes = [event for event in (results.events() if results is not None else ()) if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak

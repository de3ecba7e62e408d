"""How long each stage of an answer took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class StageTimer:
    """Seconds per stage; on a GPU each stage waits for its kernels, so that time lands where it was spent."""

    def __init__(self, device: torch.device, stages: Sequence[str]) -> None:
        self._device, self._stages = device, tuple(stages)
        self._seconds = dict.fromkeys(self._stages, 0.0)
        self._open: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's duration to a stage, and take it from the stage around it, if there is one."""
        start = self._now()
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
            taken = self._now() - start
            self._seconds[name] += taken
            if self._open:
                self._seconds[self._open[-1]] -= taken

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call and start again from zero."""
        taken, self._seconds = self._seconds, dict.fromkeys(self._stages, 0.0)
        return taken

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

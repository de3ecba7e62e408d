"""Timing on a CUDA device: by its own clock, and how often the host had to wait for it.

Never run on a device so far: no GPU was at hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def measured_on_cuda(function: Callable[[], object]) -> dict[str, Any]:
    """Return how often a call makes the host wait, and how long it takes."""
    return {"synchronisations": synchronised(function), **timed_on_cuda(function)}


def timed_on_cuda(function: Callable[[], object], repeats: int = 30) -> dict[str, Any]:
    """Return median, least and largest milliseconds between two events around a call, after three calls."""
    for _ in range(3):
        function()
    spans = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        spans.append(float(begin.elapsed_time(end)))
    return {
        "cuda_ms": round(median(spans), 4),
        "cuda_ms_least": round(min(spans), 4),
        "cuda_ms_most": round(max(spans), 4),
        "repeats": repeats,
    }


def synchronised(function: Callable[[], object]) -> int:
    """Return how often a call makes the host wait for the device."""
    function()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return sum("synchroniz" in str(warning.message) for warning in caught)

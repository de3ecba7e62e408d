"""What the very first selection takes in a new process: importing the compiler, and compiling where nothing is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

_CALL = """
import time, torch
from leanseg.core import kcenter
points = torch.zeros(1, 4, 2)
begin = time.process_time()
kcenter.select(points, 2)
print(time.process_time() - begin)
"""


def first_call_seconds() -> dict[str, float | None]:
    """Return processor seconds of a process's first selection, no machine code being kept yet, and with it kept."""
    with tempfile.TemporaryDirectory() as kept:
        environment = {**os.environ, "NUMBA_CACHE_DIR": kept}
        return {name: _seconds(environment) for name in ("nothing_kept", "kept")}


def _seconds(environment: dict[str, str]) -> float | None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CALL], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return round(float(done.stdout), 3)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

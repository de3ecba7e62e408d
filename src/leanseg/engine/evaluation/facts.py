"""What can be noted of an answer besides its mask: kept tokens, coverage, seconds per stage, stability over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np

from leanseg.data.base import Item
from leanseg.errors import DataError, unknown_name
from leanseg.metrics.coverage import Coverage

FACTS = ("target", "kept", "coverage", "seconds", "stability")
"""`target`: the target's share of the pixels, which a line has with any of these. `kept`: tokens per frame. `coverage`:
means over frames of `leanseg.metrics.coverage`. `seconds`: per stage, summed over frames. `stability`: mean overlap of
what successive frames share, of masks and of kept tokens (clips only)."""
_DIGITS = 5


def check_facts(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, refusing one that is not known."""
    for name in names:
        if name not in FACTS:
            raise DataError(unknown_name("fact", name, FACTS))
    return tuple(names)


class Facts:
    """Collects what is noted of one row's answers, frame by frame; of several instructions, the first's."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._kept: list[int] = []
        self._coverage: list[dict[str, float]] = []
        self._seconds: dict[str, float] = {}
        self._overlaps: dict[str, list[float]] = {"mask": [], "selection": []}
        self._before: tuple[Any, Any] | None = None

    def add(self, answer: Any) -> None:
        """Take the answer to one frame."""
        if not self._names:
            return
        selection = answer.selections[0] if answer.selections else None
        if selection is not None:
            self._kept.append(selection.k)
        if "coverage" in self._names and answer.coverage:
            measured = answer.coverage[0]
            self._coverage.append({each.name: float(measured[each.name]) for each in fields(Coverage)})
        for stage, seconds in answer.timings.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        if "stability" in self._names:
            now = answer.masks[0], None if selection is None else set(selection.indices[0].tolist())
            if self._before is not None:
                self._overlaps["mask"].append(_overlap(self._before[0], now[0]))
                if now[1] is not None and self._before[1] is not None:
                    both, either = now[1] & self._before[1], now[1] | self._before[1]
                    self._overlaps["selection"].append(len(both) / max(1, len(either)))
            self._before = now

    def noted(self) -> dict[str, Any]:
        """Return what was asked for, as plain data; what does not exist for this row is absent."""
        found: dict[str, Any] = {}
        if "kept" in self._names and self._kept:
            found["kept"] = self._kept
        if self._coverage:
            names = self._coverage[0]
            found["coverage"] = {
                name: round(float(np.mean([frame[name] for frame in self._coverage])), _DIGITS) for name in names
            }
        if "seconds" in self._names:
            found["seconds"] = {stage: round(seconds, 6) for stage, seconds in self._seconds.items()}
        overlaps = {name: round(float(np.mean(values)), _DIGITS) for name, values in self._overlaps.items() if values}
        if overlaps:
            found["stability"] = overlaps
        return found


def target_stability(item: Item) -> float | None:
    """Return the mean overlap of a target with itself in the next frame; None of a picture."""
    targets = [item.target(time)[0] for time in range(item.n_frames)]
    pairs = list(pairwise(targets))
    return round(float(np.mean([_overlap(one, other) for one, other in pairs])), _DIGITS) if pairs else None


def _overlap(one: Any, other: Any) -> float:
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union

"""A segmenter that knows the targets of a data set, and what it answers written as the files that evaluators read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from leanseg.engine.evaluation.units import Unit
from leanseg.engine.evaluation.worker import Evaluation

RIGHT, WRONG, EVERYTHING, NOTHING = "all", "random@0.5", "ovp_only", "blind"
SURE = 0.9


def units(evaluation: Evaluation) -> Iterator[Unit]:
    """The units that an evaluation asks about."""
    groups = evaluation.scoring.groups(evaluation.dataset)
    for index in evaluation.indices:
        yield evaluation.scoring.unit(evaluation.dataset, index, groups[index])


def answer(row: str, target: np.ndarray) -> np.ndarray:
    """What the oracle says under a row; what it says wrongly is not wrong everywhere."""
    answers = {RIGHT: target, WRONG: np.roll(target, 7, axis=-1), NOTHING: np.zeros_like(target)}
    return answers.get(row, np.ones_like(target))


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).save(path)


class Oracle:
    """Answers with the target under all tokens, a shifted one under a pruner, everything when ovp-only, else nothing.

    Pictures and words do not say which sample is meant, two may share both: the units are answered in their order.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._units = [unit for unit in units(evaluation) for _ in evaluation.rows]

    def segment_stream(
        self, frames: Any, instruction: list[str], *, pruner: Any = None, visual: str = "all", **options: Any
    ) -> Iterator[list[Any]]:
        unit = self._units.pop(0)
        assert instruction == unit.instructions
        row = visual if pruner is None else WRONG
        return (self._answers(unit, row, time) for time, _ in enumerate(frames))

    @staticmethod
    def _answers(unit: Unit, row: str, time: int) -> list[Any]:
        masks = [answer(row, target)[None] for target, _ in unit.truths(time)]
        return [SimpleNamespace(masks=mask, soft=SURE * mask, selections=(), coverage=(), timings={}) for mask in masks]

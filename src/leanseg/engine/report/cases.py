"""Cases of an evaluation, chosen by rule and drawn: what a pruned row wins, what it usually does, what it loses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanseg.engine.evaluation.grid import Row
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.worker import Evaluation
from leanseg.engine.overlay import TokenLayout, kept_cells, overlay

RULES = ("largest gain", "median", "largest loss")
MAX_FRAMES = 6
_PANEL = 240
_GAP = 6
_QUALITY = 88
_TARGET: tuple[tuple[int, int, int], ...] = ((100, 143, 255),)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sample, by which rule it was chosen, and what it scored with all tokens and pruned."""

    rule: str
    line: Line
    row: str
    everything: float
    pruned: float


def choose(lines: Sequence[Line], everything: NDArray[Any], pruned: NDArray[Any], row: str) -> list[Case]:
    """Return the samples with the largest gain, the median change and the largest loss, the first among equals.

    Samples that failed are no cases. The median is the change that is nearest to it; where fewer than three samples
    are left a sample may stand for several rules.
    """
    usable = [n for n, line in enumerate(lines) if not line.get("failures")]
    if not usable:
        return []
    change = {n: float(pruned[n] - everything[n]) for n in usable}
    middle = median(change.values())
    chosen = (
        max(usable, key=lambda n: change[n]),
        min(usable, key=lambda n: abs(change[n] - middle)),
        min(usable, key=lambda n: change[n]),
    )
    return [
        Case(rule=rule, line=lines[n], row=row, everything=float(everything[n]), pruned=float(pruned[n]))
        for rule, n in zip(RULES, chosen, strict=True)
    ]


@dataclass(frozen=True)
class Answered:
    """One unit's frames with their targets, and the answers of two rows to each frame."""

    frames: list[NDArray[np.uint8]]
    targets: list[NDArray[np.bool_]]
    everything: list[Any]
    pruned: list[Any]


def answer(evaluation: Evaluation, segmenter: Any, index: int, row: Row) -> Answered:
    """Ask a unit again with all tokens (the evaluation's first row) and under `row`; of several instructions, one."""
    groups = evaluation.scoring.groups(evaluation.dataset)
    unit = evaluation.scoring.unit(evaluation.dataset, index, groups[index])
    frames = [unit.items[0].frame(time) for time in range(unit.n_frames)]
    answers = []
    for one in (evaluation.rows[0], row):
        asked = evaluation.asked(one, unit)
        answers.append(list(segmenter.segment_stream(frames, unit.instructions[0], **asked)))
    targets = [unit.truths(time)[0][0] for time in range(unit.n_frames)]
    return Answered(frames, targets, *answers)


def figure(answered: Answered, layout: TokenLayout) -> bytes:
    """Return the figure of a case as JPEG: 100 % above, pruned below, its kept tokens beside the masks.

    A picture: picture, target, mask; then kept tokens, their places, mask. A clip, at most six of its frames in a row:
    target, mask with all tokens, kept tokens, mask.
    """
    if len(answered.frames) > 1:
        return _jpeg(_strip(answered, layout))
    frame, target = answered.frames[0], answered.targets[0]
    everything, pruned = answered.everything[0], answered.pruned[0]
    kept = _kept(pruned)
    above = [overlay(frame), overlay(frame, target, colours=_TARGET), overlay(frame, everything.masks[0])]
    below = [
        kept_cells(frame, kept, layout, min_side=_PANEL),
        overlay(frame, None, kept, layout, min_side=_PANEL),
        overlay(frame, pruned.masks[0]),
    ]
    return _jpeg([above, below])


def _strip(answered: Answered, layout: TokenLayout) -> list[list[Image.Image]]:
    count = min(MAX_FRAMES, len(answered.frames))
    times = np.linspace(0, len(answered.frames) - 1, count).round().astype(int).tolist()
    rows: list[list[Image.Image]] = [[], [], [], []]
    for time in times:
        frame = answered.frames[time]
        rows[0].append(overlay(frame, answered.targets[time], colours=_TARGET))
        rows[1].append(overlay(frame, answered.everything[time].masks[0]))
        rows[2].append(kept_cells(frame, _kept(answered.pruned[time]), layout, min_side=_PANEL))
        rows[3].append(overlay(frame, answered.pruned[time].masks[0]))
    return rows


def _kept(answer: Any) -> Any:
    return answer.selections[0].indices[0].numpy() if answer.selections else np.zeros(0, dtype=np.int64)


def _jpeg(rows: list[list[Image.Image]]) -> bytes:
    """Return panels on white, each scaled to one width."""
    first = rows[0][0]
    size = (_PANEL, max(1, round(_PANEL * first.height / first.width)))
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (size[0] + _GAP) - _GAP, len(rows) * (size[1] + _GAP) - _GAP), (255, 255, 255))
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            scaled = panel.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            canvas.paste(scaled, (x * (size[0] + _GAP), y * (size[1] + _GAP)))
    buffer = io.BytesIO()
    canvas.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()

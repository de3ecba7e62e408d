"""What a report measures and counts itself: latency of a few answers, and costs in both modes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from leanseg.costs import Sizes, instructseg
from leanseg.engine.evaluation.grid import Row
from leanseg.engine.evaluation.worker import Evaluation

_WARM_UP = 2


def latency(
    evaluation: Evaluation, segmenter: Any, indices: Sequence[int], rows: Sequence[Row]
) -> list[dict[str, Any]]:
    """Return the median seconds of an answer per row, whole and by stage, nothing being kept between answers.

    The rows take turns on every sample; the first samples warm up and do not count. Reading the files is not counted.
    """
    found: dict[str, list[dict[str, float]]] = {row.name: [] for row in rows}
    for number, index in enumerate([*indices[:_WARM_UP], *indices]):
        members = evaluation.scoring.groups(evaluation.dataset)[index]
        unit = evaluation.scoring.unit(evaluation.dataset, index, members)
        frames = [unit.items[0].frame(t) for t in range(unit.n_frames)]
        for row in rows:
            asked = evaluation.asked(row, unit)
            begin = time.perf_counter()
            answers = list(segmenter.segment_stream(frames, unit.instructions[0], **asked))
            seconds = {"whole": time.perf_counter() - begin}
            for answer in answers:
                for stage, spent in answer.timings.items():
                    seconds[stage] = seconds.get(stage, 0.0) + spent
            if number >= _WARM_UP:
                found[row.name].append(seconds)
    stages = list(dict.fromkeys(stage for runs in found.values() for run in runs for stage in run))
    return [
        {"row": name, "n": len(runs), **{stage: median(run.get(stage, 0.0) for run in runs) for stage in stages}}
        for name, runs in found.items()
    ]


def costs(config: Any, keep_ratios: Sequence[float], *, is_clip: bool) -> list[dict[str, Any]]:
    """Return 1e12 multiply-adds of one answer per keep ratio: published form at the released sizes, exact at these.

    `config` is the model's; a typical instruction of RefCOCO, or of Ref-YouTube-VOS for clips, stands for all.
    """
    typical = "refyoutube" if is_clip else "refcoco"
    rows = []
    for ratio in sorted({1.0, *keep_ratios}, reverse=True):
        paper = instructseg(typical, mode="paper", keep_ratio=ratio)
        exact = instructseg(typical, mode="exact", keep_ratio=ratio, sizes=Sizes.of(config))
        rows.append({"keep_ratio": ratio, "paper": paper.total, "exact": exact.total})
    return rows

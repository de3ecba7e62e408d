"""Seconds of each stage of an answer on this machine: a record that `leanseg flops --amdahl --profile` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.engine.records import record
from leanseg.engine.segmenter import Segmenter
from leanseg.errors import InputError
from leanseg.models.instructseg.cache import FrameCache
from leanseg.pruners import Pruner

KIND = "stages"
INSTRUCTION = "the largest object"
SIDE_PIXELS = 384


def measure_stages(
    segmenter: Segmenter, *, pruner: Pruner, frames: int = 1, repeats: int = 10, warm_up: int = 2
) -> dict[str, Any]:
    """Time `repeats` answers on one generated input of `frames` frames, each from the pixels on.

    `seconds` is the median of each stage per answer (one instruction on one frame); `samples` holds every repeat.
    Nothing is remembered between repeats, and coverage is not measured.

    Raises:
        InputError: a number of frames, repeats or warm-up runs that cannot be.
    """
    for name, given, least in (("frames", frames, 1), ("repeats", repeats, 1), ("warm_up", warm_up, 0)):
        if given < least:
            raise InputError(f"{name} is {given}; expected at least {least}")
    clip = noise_clip(frames)
    answers = []
    for _ in range(warm_up + repeats):
        answers.append(segmenter.segment(clip, INSTRUCTION, pruner=pruner, coverage=False, cache=FrameCache(0)))
    answer = answers[-1]
    samples = [{stage: seconds / frames for stage, seconds in each.timings.items()} for each in answers[warm_up:]]
    selections = answer.selections
    protocol = answer.protocol
    height, width = protocol["grid"]
    return record(
        KIND,
        f"measure_stages(pruner={pruner.spec()}, frames={frames}, repeats={repeats}, warm_up={warm_up})",
        model=segmenter.name,
        protocol=dict(protocol),
        frames=frames,
        n_tokens=height * width,
        kept=len(selections[0].indices[0]) if selections else height * width,
        seconds=medians(samples),
        samples=samples,
    )


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each stage's median.

    >>> medians([{"encode": 1.0}, {"encode": 4.0}, {"encode": 2.0}])
    {'encode': 2.0}
    """
    return {stage: median(sample[stage] for sample in samples) for stage in samples[0]}


def noise_clip(frames: int) -> NDArray[np.uint8]:
    """Return different frames of smooth noise, always the same ones; no stage's amount of work depends on them."""
    random = np.random.Generator(np.random.PCG64(0))
    coarse = random.integers(0, 256, size=(frames, 12, 12, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, SIDE_PIXELS // 12, axis=1), SIDE_PIXELS // 12, axis=2)

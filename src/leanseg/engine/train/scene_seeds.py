"""Which generated scenes a step of training draws: every stage has its own, and none is one of evaluation."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from leanseg.errors import TrainingError

SCENES_PER_STAGE = 50_000_000
SCENE_RANGES = {
    "tower": 1, "pixel": 2, "settle": 3, "language": 4, "place": 5, "video": 7, "prune": 9, "adapt": 10, "sam": 11,
    "guide": 12, "words": 13, "ground": 15,
}  # fmt: skip
"""Which of a seed's 16 ranges of `SCENES_PER_STAGE` scenes each stage draws from; no two share one."""
_RANGES_PER_SEED = 16
MAX_SEED = 2**40 // (_RANGES_PER_SEED * SCENES_PER_STAGE) - 1
"""Evaluation owns the scenes from 2**40 on."""


@runtime_checkable
class DrawsScenes(Protocol):
    """A stage of any model's training: so many frames in each of so many steps."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def frames(self) -> int: ...


def scene_seeds(stage: DrawsScenes, step: int, *, seed: int, rank: int, processes: int) -> list[int]:
    """Return one step's scenes of one process: disjoint over seeds, stages, steps, ranks, and below evaluation's."""
    offset = (step * processes + rank) * stage.frames
    start = (seed * _RANGES_PER_SEED + SCENE_RANGES[stage.name]) * SCENES_PER_STAGE
    return [start + offset + i for i in range(stage.frames)]


def check_scenes(stage: DrawsScenes, *, seed: int, processes: int) -> None:
    """Refuse a run whose scenes would be another stage's or those of evaluation."""
    if not 0 <= seed <= MAX_SEED:
        raise TrainingError(
            f"--seed is {seed}; expected 0 to {MAX_SEED}: the scenes of larger ones belong to evaluation"
        )
    if stage.name not in SCENE_RANGES:
        raise TrainingError(
            f"stage {stage.name!r} has no scenes of its own; expected one of {', '.join(sorted(SCENE_RANGES))}: "
            "add it to SCENE_RANGES"
        )
    wanted = stage.steps * stage.frames * processes
    if wanted > SCENES_PER_STAGE:
        raise TrainingError(
            f"stage {stage.name!r} would draw {wanted} scenes; expected at most {SCENES_PER_STAGE}: lower --steps"
        )

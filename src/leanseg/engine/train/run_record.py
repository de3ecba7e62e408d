"""The record of a training: every stage's settings, time, last losses and validations, from its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leanseg.engine.records import record
from leanseg.engine.train.curves import read_log
from leanseg.engine.train.stages import Stage
from leanseg.engine.train.vltp.stages import VLTPStage
from leanseg.errors import TrainingError

_NO_LOSSES = ("step", "seconds", "learning_rate", "norm")


def training_record(stages: Sequence[Stage | VLTPStage], logs: Sequence[Path], command: str) -> dict[str, Any]:
    """Return the record of `stages` from their logs, one each, in the same order; the logs may be of separate runs."""
    if len(stages) != len(logs):
        raise TrainingError(f"{len(stages)} stages and {len(logs)} logs do not pair up; give one log per stage")
    return record(
        "training", command, stages=[_stage_record(stage, log) for stage, log in zip(stages, logs, strict=True)]
    )


def _stage_record(stage: Stage | VLTPStage, log: Path) -> dict[str, Any]:
    if not log.exists():
        raise TrainingError(f"stage {stage.name!r} has no log at {log}; expected the one that its training wrote")
    # A run that was killed after its last checkpoint has written the steps since then twice; the later ones count.
    losses = {row["step"]: row for row in read_log(log) if "total" in row}
    validations = {row["step"]: row for row in read_log(log) if any(name.startswith("validation_") for name in row)}
    seconds = [row["seconds"] for row in (*losses.values(), *validations.values())]
    last = losses[max(losses)] if losses else {}
    return {
        **asdict(stage),
        "seconds": max(seconds, default=None),
        "final_losses": {name: value for name, value in last.items() if name not in _NO_LOSSES},
        "validation": [validations[step] for step in sorted(validations)],
    }

"""What a user asks to have evaluated, by name, and the record that comes of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from leanseg.data.scenes.splits import split
from leanseg.engine.evaluate import Evaluation, evaluate, grid
from leanseg.engine.records import record, weights_hash
from leanseg.engine.segmenter import assets_folder, load, shipped_models
from leanseg.errors import DataError
from leanseg.models.instructseg.options import read_options

DEFAULT_PRUNERS = ("evtp", "kcenter", "divprune", "visionzip", "vispruner", "tome", "uniform", "random")
"""EVTP, what it is measured against in its paper, and the simple ones that belong into every table."""
DEFAULT_KEEP_RATIOS = (0.5, 0.2, 0.1, 0.05)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for, unchecked; the options of `leanseg eval`."""

    out: Path
    model: str = "instructseg-nano"
    data: str = "scenes:test"
    scenes: int | None = None
    per_scene: int = 1
    pruners: tuple[str, ...] = DEFAULT_PRUNERS
    keep_ratios: tuple[float, ...] = DEFAULT_KEEP_RATIOS
    position_ids: str = "compact"
    mass_preserving: bool = False
    processes: int = 1

    @property
    def command(self) -> str:
        """The command line that makes the record again; the number of processes does not show in it."""
        words = ["leanseg", "eval", "--model", self.model, "--data", self.data]
        words += [] if self.scenes is None else ["--scenes", str(self.scenes)]
        words += [] if self.per_scene == 1 else ["--per-scene", str(self.per_scene)]
        words += ["--position-ids", self.position_ids]
        words += ["--mass-preserving"] if self.mass_preserving else []
        words += [word for spec in self.pruners for word in ("--pruner", spec)]
        words += [word for ratio in self.keep_ratios for word in ("--keep-ratio", f"{ratio:g}")]
        return shlex.join([*words, "--out", self.out.as_posix()])

    @property
    def lines(self) -> Path:
        """Where the lines of an unfinished run stand."""
        return self.out.with_suffix(".lines.jsonl")


def plan(request: Request) -> Evaluation:
    """Check what can be checked before a long run starts, and return what is to be evaluated.

    Each scene is asked `per_scene` of its instructions, which ones turning with the scene's number.
    """
    kind, _, name = request.data.partition(":")
    if kind != "scenes":
        raise DataError(f"--data is {request.data!r}; expected scenes:SPLIT, such as scenes:test")
    dataset = split(name, scenes=request.scenes)
    available = dataset.split.options.n_instructions
    if not 1 <= request.per_scene <= available:
        raise DataError(
            f"--per-scene is {request.per_scene}; a scene of {request.data} has {available} instructions; "
            f"give 1 to {available}"
        )
    turns = range(request.per_scene)
    options = {"position_ids": request.position_ids, "coverage": False}
    read_options(options)
    shipped = request.model in shipped_models()
    folder = assets_folder() / request.model if shipped else Path(request.model)
    return Evaluation(
        make=partial(load, request.model, device="cpu"),
        dataset=dataset,
        indices=[n * available + (n + turn) % available for n in range(dataset.split.scenes) for turn in turns],
        rows=grid(request.pruners, request.keep_ratios, mass_preserving=request.mass_preserving),
        options=options,
        subject={"model": request.model, "weights": weights_hash(folder), "data": request.data},
    )


def evaluation_record(request: Request, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Evaluate a model by name on a data set by name and return the record: samples included, summary not yet.

    `progress` is called with the number of finished samples and that of all.
    """
    evaluation = plan(request)
    total = len(evaluation.indices)
    tell = None if progress is None else lambda count: progress(count, total)
    samples = evaluate(evaluation, request.lines, processes=request.processes, progress=tell)
    return record(
        "evaluation",
        request.command,
        **evaluation.subject,
        n_samples=len(samples),
        protocol={
            "site": "before_projector",
            "position_ids": request.position_ids,
            "template": "released",
            "iou": "of a clip: the mean over its frames; an empty mask for an empty target counts 1",
        },
        rows=[asdict(row) for row in evaluation.rows],
        samples=samples,
    )

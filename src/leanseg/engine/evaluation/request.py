"""What a user asks to have evaluated, by name, and the record that comes of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from leanseg.data.registry import open_dataset
from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.facts import check_facts
from leanseg.engine.evaluation.grid import Row, grid
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.evaluation.scoring import Line, Recording
from leanseg.engine.evaluation.scorings import scoring_for
from leanseg.engine.evaluation.submission import submission_for
from leanseg.engine.evaluation.worker import Evaluation
from leanseg.engine.records import read_record, record, weights_hash
from leanseg.engine.segmenter import assets_folder, check_options, family_of, load, shipped_models
from leanseg.errors import DataError
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg.cache import DEFAULT_BYTES

KIND = "evaluation"
DEFAULT_PRUNERS = ("evtp", "kcenter", "divprune", "visionzip", "vispruner", "tome", "uniform", "random")
"""EVTP, what it is measured against in its paper, and the simple ones that belong into every table."""
VLTP_PRUNERS = ("vltp", "evtp", "kcenter", "guidance_similarity", "uniform", "random")
"""What stages inside SAM can be asked with, besides what the model was trained to keep."""
DEFAULT_KEEP_RATIOS = (0.5, 0.2, 0.1, 0.05)
_SCENES = "scenes"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for, unchecked; the options of `leanseg eval`.

    `data_options` go to the data set, `protocol` to the scoring. `rows` stand in the place of the grid of pruners and
    keep ratios; studies use them, and then give the `made_by` command themselves. A `submission` has no scores: `out`
    is then the zip, and one row answers.
    """

    out: Path
    model: str = "instructseg-nano"
    data: str = "scenes:test"
    root: Path | None = None
    data_options: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    per_scene: int = 1
    pruners: tuple[str, ...] = DEFAULT_PRUNERS
    keep_ratios: tuple[float, ...] = DEFAULT_KEEP_RATIOS
    position_ids: str = "compact"
    site: str = "before_projector"
    mass_preserving: bool = False
    facts: tuple[str, ...] = ()
    device: str = "cpu"
    processes: int = 1
    cache_bytes: int = DEFAULT_BYTES
    rows: tuple[Row, ...] | None = None
    made_by: str | None = None
    submission: bool = False

    @property
    def command(self) -> str:
        """The command line that makes the record again; what cannot change a digit does not show in it."""
        if self.made_by is not None:
            return self.made_by
        plain = Request(out=self.out)
        words = ["leanseg", "eval", "--model", self.model, "--data", self.data]
        # Where the files lie is each machine's own affair.
        words += [] if self.root is None else ["--root", "ROOT"]
        for flag, name in (("limit", "limit"), ("per-scene", "per_scene"), ("site", "site")):
            if (given := getattr(self, name)) != getattr(plain, name):
                words += [f"--{flag}", str(given)]
        words += ["--position-ids", self.position_ids]
        words += ["--mass-preserving"] if self.mass_preserving else []
        for flag, options in (("data-option", self.data_options), ("protocol", self.protocol)):
            words += [word for name, value in options.items() for word in (f"--{flag}", f"{name}={value}")]
        words += [word for name in self.facts for word in ("--fact", name)]
        words += [word for spec in self.pruners for word in ("--pruner", spec)]
        words += [word for ratio in self.keep_ratios for word in ("--keep-ratio", f"{ratio:g}")]
        return shlex.join([*words, "--out", self.out.as_posix()])

    @property
    def lines(self) -> Path:
        """Where the lines of an unfinished run stand."""
        return self.out.with_suffix(".lines.jsonl")


def default_pruners(model: str) -> tuple[str, ...]:
    """Return the pruners that are evaluated where none is named."""
    return VLTP_PRUNERS if family_of(model) == "vltp" else DEFAULT_PRUNERS


def plan(request: Request) -> Evaluation:
    """Check what can be checked before a long run starts, and return what is to be evaluated.

    Each generated scene is asked `per_scene` of its instructions, which ones turning with the scene's number.
    """
    family = family_of(request.model)
    options = _options(request, family)
    rows = request.rows or grid(
        request.pruners, request.keep_ratios, mass_preserving=request.mass_preserving, family=family
    )
    for row in rows:
        check_options(family, {**options, **row.options})
    facts = check_facts(request.facts)
    dataset = _opened(request)
    scoring: Recording
    if request.submission:
        scoring, rows = submission_for(request, dataset, rows)
    else:
        scoring = scoring_for(request.data, dataset, request.protocol)
    indices = _indices(request, dataset, len(scoring.groups(dataset)))
    scoring.check(dataset, indices)
    shipped = request.model in shipped_models()
    folder = assets_folder() / request.model if shipped else Path(request.model)
    return Evaluation(
        make=partial(load, request.model, device=request.device, cache_bytes=request.cache_bytes),
        dataset=dataset,
        indices=indices,
        rows=rows,
        scoring=scoring,
        options=options,
        facts=facts,
        tasks=family == "instructseg",
        subject={
            "model": request.model, "weights": weights_hash(folder), "data": request.data,
            "data_options": dict(request.data_options),
        },
    )  # fmt: skip


def _options(request: Request, family: str) -> dict[str, Any]:
    """Return what every answer is asked with."""
    if family == "instructseg":
        given = {"position_ids": request.position_ids, "site": request.site}
        return {**given, "coverage": "coverage" in request.facts}
    plain = Request(out=request.out)
    for name in ("position_ids", "site", "mass_preserving"):
        if getattr(request, name) != getattr(plain, name):
            raise DataError(
                f"{name} is {getattr(request, name)!r}, and {request.model!r} is a VLTP, without it; omit it"
            )
    if "coverage" in request.facts:
        raise DataError(f"coverage is not measured of stages, as {request.model!r} has them; leave the fact out")
    return {}


def answered(
    request: Request,
    evaluation: Evaluation,
    progress: Callable[[int, int], None] | None = None,
    run: Callable[..., list[Line] | None] = evaluate,
) -> list[Line] | None:
    """Return the lines of a planned evaluation, of every unit; None where another process has them.

    `progress` is called with the number of finished samples and that of all. `run` is what runs it: on this machine by
    default.
    """
    total = len(evaluation.indices)
    tell = None if progress is None else lambda count: progress(count, total)
    return run(evaluation, request.lines, processes=request.processes, progress=tell)


def evaluation_record(
    request: Request,
    progress: Callable[[int, int], None] | None = None,
    run: Callable[..., list[Line] | None] = evaluate,
) -> dict[str, Any] | None:
    """Evaluate a model by name on a data set by name and return the record: samples included, summary not yet.

    `progress` and `run` as in `answered`, and None where that has it.
    """
    evaluation = plan(request)
    samples = answered(request, evaluation, progress, run)
    if samples is None:
        return None
    return record(
        KIND,
        request.command,
        **evaluation.about,
        device=resolve_device(request.device).type,
        protocol={
            **{name: value for name, value in evaluation.options.items() if name != "coverage"},
            **({"template": "released"} if evaluation.tasks else {}),
            "failed answers": "counted as nothing found",
        },
        n_samples=len(samples),
        n_failures=sum(len(line.get("failures", ())) for line in samples),
        samples=samples,
    )


def finished(request: Request, evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the record at `out` where it is this very evaluation's; None where there is none.

    Raises:
        DataError: it is a record of something else, which a new one would destroy.
    """
    if not request.out.exists():
        return None
    found = read_record(request.out, KIND)
    about = json.loads(json.dumps(evaluation.about))
    indices = [line["index"] for line in found.get("samples", ())]
    if all(found.get(name) == value for name, value in about.items()) and indices == list(evaluation.indices):
        return found
    raise DataError(
        f"{request.out} holds the finished record of another evaluation ({found.get('command')}); expected none, or "
        "one of this evaluation; give another --out, or --overwrite to lose it"
    )


def _opened(request: Request) -> Dataset:
    family = request.data.partition(":")[0]
    options = dict(request.data_options)
    if family == _SCENES:
        if request.root is not None:
            raise DataError(f"--root is {request.root}, and {request.data} is drawn, not read; leave it out")
        _refuse(options, options, f"{request.data} has no options")
        return open_dataset(request.data, scenes=request.limit)
    if request.per_scene != 1:
        raise DataError(f"--per-scene is {request.per_scene}, and {request.data} has no scenes; leave it out")
    _refuse(options, ("name", "root", "split"), "--data and --root say that")
    return open_dataset(request.data, request.root, **options)


def _refuse(options: Mapping[str, Any], names: Iterable[str], why: str) -> None:
    for name in names:
        if name in options:
            raise DataError(f"--data-option is {name}={options[name]}, and {why}; leave it out")


def _indices(request: Request, dataset: Any, n_units: int) -> Sequence[int]:
    """Return the units to evaluate."""
    if not request.data.startswith(f"{_SCENES}:"):
        if request.limit is not None and not 1 <= request.limit <= n_units:
            raise DataError(f"--limit is {request.limit}; {request.data} has {n_units} samples; give 1 to {n_units}")
        return range(n_units)[: request.limit]
    available = dataset.split.options.n_instructions
    if not 1 <= request.per_scene <= available:
        raise DataError(
            f"--per-scene is {request.per_scene}; a scene of {request.data} has {available} instructions; "
            f"give 1 to {available}"
        )
    turns = range(request.per_scene)
    return [n * available + (n + turn) % available for n in range(dataset.split.scenes) for turn in turns]

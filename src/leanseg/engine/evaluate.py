"""Runs a segmenter over a data set for a grid of pruners and keep ratios; one line per sample, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from leanseg.data.sample import Dataset, Sample
from leanseg.data.scenes.splits import split
from leanseg.engine.records import record
from leanseg.engine.segmenter import load
from leanseg.errors import DataError
from leanseg.pruners import Pruner, pruner


@runtime_checkable
class Evaluated(Protocol):
    """What `evaluate` needs of a segmenter: the visual modes `all`, `ovp_only` and `blind` besides a pruner."""

    def segment(
        self, clip: Any, instruction: str, *, pruner: Pruner | None = None, visual: str = "all", **options: Any
    ) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the grid: a pruner spec with its keep ratio, or an unpruned visual mode."""

    name: str
    pruner: str | None = None
    keep_ratio: float | None = None
    visual: str = "all"


def grid(pruners: Sequence[str], keep_ratios: Sequence[float]) -> tuple[Row, ...]:
    """Return all tokens, every pruner at every ratio, ovp-only and blind. Specs are checked here, before any work."""
    rows = [Row(name="all", keep_ratio=1.0)]
    for spec in pruners:
        given = "keep_ratio" in spec
        for ratio in (None,) if given else keep_ratios:
            resolved = pruner(spec, keep_ratio=ratio, allow_files=False)
            rows.append(
                Row(name=f"{spec}@{resolved.keep_ratio:g}", pruner=resolved.spec(), keep_ratio=resolved.keep_ratio)
            )
    return (*rows, Row(name="ovp_only", visual="ovp_only"), Row(name="blind", visual="blind"))


def region_counts(target: np.ndarray, predicted: np.ndarray) -> tuple[int, int]:
    """Return intersection and union in pixels, over all frames."""
    return int((target & predicted).sum()), int((target | predicted).sum())


def evaluate(
    segmenter: Evaluated,
    dataset: Dataset,
    rows: Sequence[Row],
    lines: Path,
    *,
    indices: Iterable[int] | None = None,
    options: dict[str, Any] | None = None,
    progress: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate every sample under every row; append one JSON line per sample to `lines` and return all lines.

    A sample that stands in `lines` already is not run again, so a killed run resumes where it stopped. Each line
    holds the
    sample's id and kind and, per row, the (intersection, union) of every frame.
    """
    done = _read_lines(lines, rows)
    lines.parent.mkdir(parents=True, exist_ok=True)
    lines.write_text(
        "".join(json.dumps(line) + "\n" for line in done.values())
    )  # without the half line of a killed run
    with lines.open("a") as file:
        for index in range(len(dataset)) if indices is None else indices:
            sample = dataset[index]
            if sample.id not in done:
                done[sample.id] = _evaluate_sample(segmenter, sample, rows, options or {})
                file.write(json.dumps(done[sample.id]) + "\n")
                file.flush()
            if progress is not None:
                progress()
    return list(done.values())


def _evaluate_sample(
    segmenter: Evaluated, sample: Sample, rows: Sequence[Row], options: dict[str, Any]
) -> dict[str, Any]:
    counts = {}
    for row in rows:
        chosen = None if row.pruner is None else pruner(row.pruner, allow_files=False)
        result = segmenter.segment(
            sample.clip, sample.instruction, pruner=chosen, visual=row.visual, task=sample.meta.get("task"), **options
        )
        counts[row.name] = [list(region_counts(t, m)) for t, m in zip(sample.target, result.masks, strict=True)]
    return {"id": sample.id, "kind": sample.meta.get("kind"), "instruction": sample.instruction, "counts": counts}


def _read_lines(path: Path, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    done = {}
    names = {row.name for row in rows}
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a killed run may leave half of its last line; that sample runs again
        if set(line["counts"]) != names:
            raise DataError(
                f"{path}, line {number}, is of another grid of pruners; give another --out or remove the file"
            )
        done[line["id"]] = line
    return done


def evaluate_parallel(
    make: Callable[[], Evaluated],
    dataset: Dataset,
    rows: Sequence[Row],
    lines: Path,
    *,
    indices: Sequence[int],
    processes: int,
    options: dict[str, Any] | None = None,
    progress: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """`evaluate` with the samples dealt to several processes; each appends to its own file beside `lines`.

    Answers do not depend on the number of processes. `make` builds the segmenter inside each process and must be
    picklable.
    """
    if processes == 1:
        return evaluate(make(), dataset, rows, lines, indices=indices, options=options, progress=progress)
    context = get_context("spawn")
    jobs = []
    for rank in range(processes):
        part = lines.with_name(f"{lines.name}.{rank}-of-{processes}")
        job = (make, dataset, rows, part, list(indices)[rank::processes], options)
        jobs.append((part, context.Process(target=_evaluate_part, args=job)))
    for _, process in jobs:
        process.start()
    for part, process in jobs:
        process.join()
        if process.exitcode != 0:
            raise DataError(
                f"a worker of the evaluation stopped with code {process.exitcode}; what it did is in {part}; "
                "run again to resume"
            )
    done = [line for part, _ in jobs for line in _read_lines(part, rows).values()]
    order = {dataset[index].id: position for position, index in enumerate(indices)}
    done.sort(key=lambda line: order[line["id"]])
    lines.write_text("".join(json.dumps(line) + "\n" for line in done))
    return done


def _evaluate_part(
    make: Callable[[], Evaluated],
    dataset: Dataset,
    rows: Sequence[Row],
    part: Path,
    indices: list[int],
    options: dict[str, Any] | None,
) -> None:
    import torch

    torch.set_num_threads(1)
    evaluate(make(), dataset, rows, part, indices=indices, options=options)


def per_sample_iou(lines: Sequence[dict[str, Any]], row: str) -> np.ndarray:
    """Return each sample's IoU under a row: mean over its frames, LISA's rule (empty target and empty mask count 1)."""
    values = []
    for line in lines:
        frames = [1.0 if union == 0 else inter / (union + 1e-5) for inter, union in line["counts"][row]]
        values.append(float(np.mean(frames)))
    return np.array(values)


def cumulative_iou(lines: Sequence[dict[str, Any]], row: str) -> float:
    """Return cIoU: the sum of intersections over the sum of unions, all frames of all samples."""
    inter = sum(i for line in lines for i, _ in line["counts"][row])
    union = sum(u for line in lines for _, u in line["counts"][row])
    return inter / (union + 1e-10)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for, unchecked; the options of `leanseg eval`."""

    out: Path
    model: str = "instructseg-nano"
    data: str = "scenes:test"
    scenes: int | None = None
    per_scene: int = 1
    pruners: tuple[str, ...] = ()
    keep_ratios: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05)
    position_ids: str = "compact"
    processes: int = 1

    @property
    def command(self) -> str:
        """The command line that makes the record again."""
        words = ["leanseg eval", f"--model {self.model}", f"--data {self.data}"]
        words += [] if self.scenes is None else [f"--scenes {self.scenes}"]
        words += [] if self.per_scene == 1 else [f"--per-scene {self.per_scene}"]
        words += [f"--position-ids {self.position_ids}", *(f"--pruner {spec}" for spec in self.pruners)]
        return " ".join(
            [*words, *(f"--keep-ratio {ratio:g}" for ratio in self.keep_ratios), f"--out {self.out.as_posix()}"]
        )


def evaluation_record(request: Request) -> dict[str, Any]:
    """Evaluate a model by name on a data set by name and return the record: samples included, summary not yet.

    Each scene is asked `per_scene` of its instructions, which ones turning with the scene's number.
    """
    kind, _, name = request.data.partition(":")
    if kind != "scenes":
        raise DataError(f"--data is {request.data!r}; expected scenes:SPLIT, such as scenes:test")
    dataset = split(name, scenes=request.scenes)
    available = dataset.split.options.n_instructions
    if request.per_scene > available:
        raise DataError(f"--per-scene is {request.per_scene}; a scene of {request.data} has {available} instructions")
    turns = range(request.per_scene)
    indices = [n * available + (n + turn) % available for n in range(dataset.split.scenes) for turn in turns]
    rows = grid(request.pruners, request.keep_ratios)
    samples = evaluate_parallel(
        partial(load, request.model, device="cpu"),
        dataset,
        rows,
        request.out.with_suffix(".lines.jsonl"),
        indices=indices,
        processes=request.processes,
        options={"position_ids": request.position_ids, "coverage": False},
    )
    return record(
        "evaluation",
        request.command,
        model=request.model,
        data=request.data,
        n_samples=len(samples),
        protocol={
            "site": "before_projector",
            "position_ids": request.position_ids,
            "template": "released",
            "iou": "of a clip: the mean over its frames; an empty mask for an empty target counts 1",
        },
        rows=[asdict(row) for row in rows],
        samples=samples,
    )

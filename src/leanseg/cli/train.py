"""`leanseg train instructseg|vltp`: train a small model from scratch, or adapt a larger one with LoRA."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = "Examples: leanseg train instructseg --preset nano --stage pixel --out runs/pixel --processes 2, or leanseg "
EPILOG += "train vltp --stage prune --init vltp-nano --at 4:0.2 --at 6:0.2 --out runs/prune20"


def train(
    model: Annotated[str, typer.Argument(help="What to train: instructseg or vltp.")],
    preset: Annotated[
        str, typer.Option(help="Sizes and recipe: nano, tiny; full for instructseg; b, l, h for vltp.")
    ] = "nano",
    stage: Annotated[
        list[str] | None, typer.Option(help="A stage of the recipe; repeat for several; all if absent.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of checkpoints, logs and the model; an existing run is resumed.")
    ] = Path("runs/train"),
    init: Annotated[
        list[str] | None,
        typer.Option(help="Stage files, a model folder or a model in the package to start from, in order."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with tokenizer.json; default: the shipped or the first model's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each stage, instead of the recipe's.")] = None,
    lora: Annotated[
        bool, typer.Option(help="Freeze the language model and train LoRA adapters on q_proj and v_proj.")
    ] = False,
    data: Annotated[str, typer.Option(help="vltp: data set to train on, such as rio:train.")] = "scenes:train",
    root: Annotated[Path | None, typer.Option(help="vltp: folder of the data set.")] = None,
    method: Annotated[
        str | None, typer.Option(help="vltp: who chooses at the stages (vltp, random, cts, dtop, svit, ...).")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="vltp: a pruning stage AFTER_BLOCK:KEEP_RATIO, such as 4:0.5; repeat.")
    ] = None,
    prune: Annotated[str, typer.Option(help="vltp: at stages train the prune `decoder` alone, or `both`.")] = "both",
    processes: Annotated[int, typer.Option(min=1, help="Processes that share each step.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="bfloat16 (mixed) or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(help="Seed of weights, scenes and points.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Train a model stage by stage; run it again to resume."""
    from leanseg.cli.console import print_json, results
    from leanseg.errors import TrainingError, unknown_name

    known: dict[str, Callable[..., tuple[Path, list[str]]]] = {"instructseg": _instructseg, "vltp": _vltp}
    if model not in known:
        raise TrainingError(unknown_name("model to train", model, known))
    shared = {
        "preset": preset, "stages": tuple(stage) if stage else None, "out": out, "init": tuple(init or ()),
        "tokenizer": tokenizer, "steps": steps, "lora": lora, "processes": processes, "threads": threads,
        "device": device, "precision": precision, "seed": seed,
    }  # fmt: skip
    own = {"data": data, "root": root, "method": method, "at": _stages(at), "prune": prune}
    folder, names = known[model](shared, own)
    summary = {
        "model": str(folder),
        "record": str(folder / "training.json"),
        "logs": [str(out / f"{name}.jsonl") for name in names],
        "curves": str(out / "curves.png"),
    }
    if json:
        print_json(summary)
    else:
        results().print(f"model in {folder}; loss curves in {summary['curves']}")


def _instructseg(shared: dict[str, Any], own: dict[str, Any]) -> tuple[Path, list[str]]:
    from leanseg.engine.train.launch import Request, plan, run_job
    from leanseg.errors import TrainingError

    default = {"data": "scenes:train", "root": None, "method": None, "at": None, "prune": "both"}
    given = [f"--{name}" for name in own if own[name] != default[name]]
    if given:
        raise TrainingError(f"{', '.join(given)} belong to vltp; expected none of them for instructseg: leave them out")
    job = plan(Request(**shared))
    return run_job(job, prepare=_log_to_stderr), [one.name for one in job.stages]


def _vltp(shared: dict[str, Any], own: dict[str, Any]) -> tuple[Path, list[str]]:
    from leanseg.engine.train.vltp.launch import VLTPRequest, plan, run_job

    job = plan(VLTPRequest(**shared, **own))
    return run_job(job, prepare=_log_to_stderr), [one.name for one in job.stages]


def _stages(given: list[str] | None) -> tuple[tuple[int, float], ...] | None:
    """Read AFTER_BLOCK:KEEP_RATIO."""
    from leanseg.errors import TrainingError

    pairs = []
    for text in given or ():
        place, _, ratio = text.partition(":")
        try:
            pairs.append((int(place), float(ratio)))
        except ValueError as error:
            raise TrainingError(
                f"--at is {text!r}; expected AFTER_BLOCK:KEEP_RATIO such as 4:0.5, half of the tokens after 4 blocks"
            ) from error
    return tuple(sorted(pairs)) or None


def _log_to_stderr() -> None:
    """Show the lines of the training's log; called in every process of it."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("leanseg").setLevel(logging.INFO)

"""`leanseg train instructseg`: train the small model from scratch, or adapt a larger one with LoRA."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: leanseg train instructseg --preset nano --stage pixel --out runs/pixel --processes 2"


def train(
    model: Annotated[str, typer.Argument(help="What to train: instructseg.")],
    preset: Annotated[str, typer.Option(help="Sizes and recipe: nano, tiny or full.")] = "nano",
    stage: Annotated[
        list[str] | None, typer.Option(help="A stage of the recipe; repeat for several; all if absent.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of checkpoints, logs and the model; an existing run is resumed.")
    ] = Path("runs/train"),
    init: Annotated[
        list[Path] | None, typer.Option(help="Stage files or a model folder to start from, in order.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with tokenizer.json; default: the shipped model's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each stage, instead of the recipe's.")] = None,
    lora: Annotated[
        bool, typer.Option(help="Freeze Phi and train LoRA adapters on q_proj and v_proj, as released.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share each step.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="bfloat16 (mixed) or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(help="Seed of weights, scenes and points.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Train a model on generated scenes, stage by stage; run it again to resume."""
    from leanseg.cli.console import print_json, results
    from leanseg.engine.train.launch import RECORD_FILE, Request, plan, run_job

    request = Request(
        model=model, preset=preset, stages=tuple(stage) if stage else None, out=out, init=tuple(init or ()),
        tokenizer=tokenizer, steps=steps, lora=lora, processes=processes, threads=threads, device=device,
        precision=precision, seed=seed,
    )  # fmt: skip
    job = plan(request)
    folder = run_job(job, prepare=_log_to_stderr)
    summary = {
        "model": str(folder),
        "record": str(folder / RECORD_FILE),
        "logs": [str(out / f"{one.name}.jsonl") for one in job.stages],
        "curves": str(out / "curves.png"),
    }
    if json:
        print_json(summary)
    else:
        results().print(f"model in {folder}; loss curves in {summary['curves']}")


def _log_to_stderr() -> None:
    """Show the lines of the training's log; called in every process of it."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("leanseg").setLevel(logging.INFO)

"""The training loop: staged, resumable exactly, on one or several processes, on CPU or GPU.

Exact resume rests on three rules: a batch is a function of (seed, stage, step, rank); random points come from a
generator seeded by the same numbers; a checkpoint holds parameters, moving averages and the optimiser. Nothing touches
the global random state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from leanseg.data.scenes import SceneOptions
from leanseg.engine.resuming import log_resumed
from leanseg.engine.train.alignment import align_vocabulary, mark_positions
from leanseg.engine.train.auxiliary import AuxiliaryHeads
from leanseg.engine.train.batches import to_device
from leanseg.engine.train.progress import MovingAverage, Run, floats, learning_rate, load_weights, write_log
from leanseg.engine.train.scene_seeds import check_scenes, scene_seeds
from leanseg.engine.train.stages import LOSSES, Context, Stage, draw
from leanseg.errors import TrainingError
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.tokenizer import TextTokenizer

HEADS_RATE = 3.0


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything about a run that is not the stage's own."""

    out: Path
    seed: int = 0
    device: str = "cpu"
    precision: str = "bfloat16"
    """`bfloat16` (autocast) or `float32`."""
    clip_norm: float = 1.0
    average: float = 0.999
    """Decay of the moving average (EMA) of the weights, which are what a stage hands on."""
    log_every: int = 20
    checkpoint_every: int = 200
    scenes: SceneOptions = field(default_factory=SceneOptions)
    rank: int = 0
    world_size: int = 1


def trainable(model: InstructSeg, auxiliary: AuxiliaryHeads, stage: Stage) -> dict[str, nn.Parameter]:
    """Freeze everything but the stage's parameters and the auxiliary heads; return those by name."""
    named = {name: parameter for name, parameter in model.named_parameters()}
    chosen = {name: parameter for name, parameter in named.items() if name.startswith(stage.trains) or ".lora_" in name}
    if not chosen:
        raise TrainingError(f"stage {stage.name!r} trains {stage.trains}, but the model has no such parameter")
    for name, parameter in named.items():
        parameter.requires_grad_(name in chosen)
    if not stage.auxiliary:
        return chosen
    return chosen | {f"auxiliary.{name}": parameter for name, parameter in auxiliary.named_parameters()}


def _optimizer(parameters: dict[str, nn.Parameter], weight_decay: float, tower_rate: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, and a rate of its own for the heads that exist in training only."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = HEADS_RATE if name.startswith("auxiliary.") else tower_rate if name.startswith("vision_tower.") else 1.0
        groups.setdefault((parameter.ndim >= 2, scale), []).append(parameter)
    listed = [
        {"params": chosen, "weight_decay": weight_decay if is_matrix else 0.0, "scale": scale}
        for (is_matrix, scale), chosen in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=1.0, betas=(0.9, 0.98))


def _average_gradients(parameters: dict[str, nn.Parameter], world_size: int) -> None:
    """Average gradients over processes in one message; parameters without a gradient anywhere count as zero."""
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters.values()])
    dist.all_reduce(flat)
    flat /= world_size
    start = 0
    for parameter in parameters.values():
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()


def train_stage(
    model: InstructSeg,
    auxiliary: AuxiliaryHeads,
    tokenizer: TextTokenizer,
    stage: Stage,
    options: TrainOptions,
    *,
    validate: Callable[[Run], dict[str, float]] | None = None,
) -> Path:
    """Train one stage, resuming from `<out>/<stage>.checkpoint` if it is there; return the file of averaged weights.

    Writes `<out>/<stage>.jsonl` (one line per `log_every` steps) and, at the end, `<out>/<stage>.safetensors` with the
    averaged weights of what the stage trained. `validate(run)` is called at every checkpoint on rank 0.
    """
    check_scenes(stage, seed=options.seed, processes=options.world_size)
    options.out.mkdir(parents=True, exist_ok=True)
    result, checkpoint = options.out / f"{stage.name}.safetensors", options.out / f"{stage.name}.checkpoint"
    if result.exists():
        load_weights(model, auxiliary, result)
        if options.rank == 0:
            log_resumed(result, f"stage {stage.name} is done")
        return result
    model.to(options.device).train()
    auxiliary.to(options.device).train()
    if stage.marks_positions and not checkpoint.exists():
        mark_positions(model)
    if stage.aligns_vocabulary and not checkpoint.exists():
        align_vocabulary(model, auxiliary, tokenizer)
    parameters = trainable(model, auxiliary, stage)
    run = Run(
        parameters=parameters,
        optimizer=_optimizer(parameters, stage.weight_decay, stage.tower_rate),
        average=MovingAverage(parameters, options.average),
    )
    if checkpoint.exists():
        run.load(checkpoint)
        if options.rank == 0:
            log_resumed(checkpoint, f"step {run.step} of {stage.steps} of stage {stage.name} is done")
    for _ in _steps(model, auxiliary, tokenizer, stage, options, run):
        if options.rank == 0 and (run.step % options.checkpoint_every == 0 or run.step == stage.steps):
            run.save(checkpoint)
            if validate is not None:
                found = {"step": run.step, "seconds": round(run.seconds, 1), **validate(run)}
                write_log(options.out, stage.name, found)
        if options.world_size > 1 and run.step % options.checkpoint_every == 0:
            dist.barrier()
    run.hand_on(result if options.rank == 0 else None)
    return result


def _steps(
    model: InstructSeg,
    auxiliary: AuxiliaryHeads,
    tokenizer: TextTokenizer,
    stage: Stage,
    options: TrainOptions,
    run: Run,
) -> Iterator[None]:
    """Advance the run one optimiser step at a time."""
    recent: list[dict[str, float]] = []
    while run.step < stage.steps:
        begin = time.perf_counter()
        generator = torch.Generator().manual_seed(hash((options.seed, run.step, options.rank)) % 2**63)
        context = Context(model=model, auxiliary=auxiliary, tokenizer=tokenizer, stage=stage, generator=generator)
        batch = draw(
            context,
            scene_seeds(stage, run.step, seed=options.seed, rank=options.rank, processes=options.world_size),
            run.step,
            replace(options.scenes, n_instructions=max(1, stage.texts)),
        )
        batch = to_device(batch, options.device)
        device_type = torch.device(options.device).type
        half = torch.autocast(device_type, torch.bfloat16) if options.precision == "bfloat16" else nullcontext()
        with half:
            losses = LOSSES[stage.losses](context, batch)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss is not finite at step {run.step} of stage {stage.name}: {floats(losses)}; "
                "lower the learning rate"
            )
        run.optimizer.zero_grad(set_to_none=True)
        total.backward()
        run.used |= {name for name, parameter in run.parameters.items() if parameter.grad is not None}
        if options.world_size > 1:
            _average_gradients(run.parameters, options.world_size)
        norm = nn.utils.clip_grad_norm_(list(run.parameters.values()), options.clip_norm)
        for group in run.optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(stage, run.step)
        run.optimizer.step()
        run.step += 1
        run.average.update(run.parameters, run.step)
        run.seconds += time.perf_counter() - begin
        recent.append(floats(losses) | {"total": float(total.detach()), "norm": float(norm)})
        if run.step % options.log_every == 0 or run.step == stage.steps:
            if options.rank == 0:
                write_log(options.out, stage.name, run.row(learning_rate(stage, run.step - 1), recent))
            recent = []
        yield

"""The loop of one stage on one or several processes, by accelerate; exact resume as in `engine.train.trainer`.

A batch and the generator of its random choices are functions of (seed, stage, step, rank); a checkpoint holds
parameters, moving averages and the optimiser. The global random state is not touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from leanseg.engine.resuming import log_resumed
from leanseg.engine.train.batches import to_device
from leanseg.engine.train.progress import MovingAverage, Run, floats, learning_rate, load_weights, write_log
from leanseg.engine.train.vltp.learner import Learner
from leanseg.engine.train.vltp.pictures import Source, make_batch
from leanseg.engine.train.vltp.pool import Pool
from leanseg.errors import TrainingError

HEADS_RATE = 2.0
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Everything about a run that is not a stage's own."""

    out: Path
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 50


Losses = Callable[[nn.Module, int, torch.Generator], dict[str, Tensor]]
"""(wrapped learner, step, generator) -> the losses of one step."""


def drawn(learner: Learner, source: Source, accelerator: Accelerator) -> Losses:
    """Return the losses of stages that look at new pictures in each step."""

    def losses(wrapped: nn.Module, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rank, processes = accelerator.process_index, accelerator.num_processes
        batch = make_batch(source(learner.stage, step, rank, processes), learner.model.config)
        found: dict[str, Tensor] = wrapped(to_device(batch, str(accelerator.device)), generator)
        return found

    return losses


def pooled(learner: Learner, pool: Pool, accelerator: Accelerator, seed: int) -> Losses:
    """Return the losses of stages that look at a pool's pictures again and again."""

    def losses(wrapped: nn.Module, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        number = step * accelerator.num_processes + accelerator.process_index
        batch = pool.draw(learner.stage.frames, (seed, number), accelerator.device)
        found: dict[str, Tensor] = wrapped(to_device(batch, str(accelerator.device)), generator)
        return found

    return losses


def trainable(learner: Learner) -> dict[str, nn.Parameter]:
    """Freeze everything but the stage's parameters, adapters and the heads; return those by the model's names.

    Layers that have adapters do not move themselves.
    """
    stage, chosen = learner.stage, {}
    adapted = any(".lora_" in name for name, _ in learner.model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        held = adapted and ".language_model.layers." in name
        moves = ".lora_" in name or (name.startswith(stage.trains) and not held)
        parameter.requires_grad_(moves)
        if moves:
            chosen[name] = parameter
    if not chosen:
        raise TrainingError(f"stage {stage.name!r} trains {stage.trains}, but the model has no such parameter")
    for name, parameter in learner.auxiliary.named_parameters():
        parameter.requires_grad_(stage.auxiliary)
        if stage.auxiliary:
            chosen[f"auxiliary.{name}"] = parameter
    return chosen


def _stored_buffers(learner: Learner) -> dict[str, Tensor]:
    """Return what the stage's weights mean nothing without: the random frequencies of SAM's positions."""
    stored = learner.model.state_dict()
    return {
        name: stored[name]
        for name, _ in learner.model.named_buffers()
        if name in stored and name.startswith(learner.stage.trains)
    }


def _optimizer(parameters: dict[str, nn.Parameter], learner: Learner) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, and a rate of its own for the heads that exist in training only."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = HEADS_RATE if name.startswith("auxiliary.") else 1.0
        groups.setdefault((parameter.ndim >= 2, scale), []).append(parameter)
    listed = [
        {"params": chosen, "weight_decay": learner.stage.weight_decay if is_matrix else 0.0, "scale": scale}
        for (is_matrix, scale), chosen in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=1.0, betas=learner.stage.betas)


def train_stage(
    learner: Learner,
    prepare_losses: Callable[[], Losses],
    accelerator: Accelerator,
    options: LoopOptions,
    *,
    validate: Callable[[], dict[str, float]] | None = None,
) -> Path:
    """Train one stage, resuming from `<out>/<stage>.checkpoint` if it is there; return the file of averaged weights.

    Writes `<out>/<stage>.jsonl` and, at the end, `<out>/<stage>.safetensors`. `prepare_losses()` is called where there
    is something to train, `validate()` on the averaged model at the end, on rank 0.
    """
    stage = learner.stage
    options.out.mkdir(parents=True, exist_ok=True)
    result, checkpoint = options.out / f"{stage.name}.safetensors", options.out / f"{stage.name}.checkpoint"
    if result.exists():
        load_weights(learner.model, learner.auxiliary, result)
        if accelerator.is_main_process:
            log_resumed(result, f"stage {stage.name} is done")
        return result
    losses = prepare_losses()
    learner.to(accelerator.device).train()
    parameters = trainable(learner)
    optimizer, average = _optimizer(parameters, learner), MovingAverage(parameters, stage.average)
    run = Run(parameters=parameters, optimizer=optimizer, average=average)
    if checkpoint.exists():
        run.load(checkpoint)
        if accelerator.is_main_process:
            log_resumed(checkpoint, f"step {run.step} of {stage.steps} of stage {stage.name} is done")
    for _ in _steps(learner, losses, accelerator, options, run):
        if run.step % options.checkpoint_every == 0 or run.step == stage.steps:
            if accelerator.is_main_process:
                run.save(checkpoint)
            accelerator.wait_for_everyone()
    run.hand_on(result if accelerator.is_main_process else None, _stored_buffers(learner))
    learner.eval()
    found = validate() if validate is not None and accelerator.is_main_process else {}
    if found:
        write_log(options.out, stage.name, {"step": run.step, "seconds": round(run.seconds, 1), **found})
    accelerator.wait_for_everyone()
    return result


def _steps(
    learner: Learner, losses: Losses, accelerator: Accelerator, options: LoopOptions, run: Run
) -> Iterator[None]:
    """Advance the run one optimiser step at a time."""
    stage, recent = learner.stage, list[dict[str, float]]()
    wrapped = accelerator.prepare_model(learner)
    while run.step < stage.steps:
        begin = time.perf_counter()
        number = hash((options.seed, run.step, accelerator.process_index)) % 2**63
        found = losses(wrapped, run.step, torch.Generator().manual_seed(number))
        total = torch.stack([loss.float() for loss in found.values()]).sum()
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f"the loss is not finite at step {run.step} of stage {stage.name}: {floats(found)}; "
                "lower the learning rate"
            )
        run.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(total)
        run.used |= {name for name, parameter in run.parameters.items() if parameter.grad is not None}
        norm = nn.utils.clip_grad_norm_(list(run.parameters.values()), CLIP_NORM)
        for group in run.optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(stage, run.step)
        run.optimizer.step()
        run.step += 1
        run.average.update(run.parameters, run.step)
        run.seconds += time.perf_counter() - begin
        recent.append(floats(found) | {"total": float(total.detach()), "norm": float(norm)})
        if run.step % options.log_every == 0 or run.step == stage.steps:
            if accelerator.is_main_process:
                write_log(options.out, stage.name, run.row(learning_rate(stage, run.step - 1), recent))
            recent = []
        yield

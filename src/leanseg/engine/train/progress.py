"""A stage in progress, whatever the model: its moving average, its checkpoint, its learning rate and its log."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from leanseg.errors import TrainingError

logger = logging.getLogger(__name__)


@runtime_checkable
class Schedule(Protocol):
    """A stage's steps and how its learning rate runs over them."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay_share(self) -> float: ...


def learning_rate(stage: Schedule, step: int) -> float:
    """Linear warm-up, a plateau, then a cosine to 0 over the last `decay_share` of the steps."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    start = stage.steps * (1 - stage.decay_share)
    progress = max(0.0, (step - start) / max(1.0, stage.steps - start))
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class MovingAverage:
    """Exponential moving average of named parameters, with a warm-up so that early averages forget the start."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.shadow = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}

    def update(self, parameters: dict[str, nn.Parameter], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in parameters.items():
            self.shadow[name].lerp_(parameter.detach().float(), 1 - decay)


@dataclass(kw_only=True)
class Run:
    """A stage in progress: what a checkpoint must hold."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    average: MovingAverage
    step: int = 0
    seconds: float = 0.0
    used: set[str] = field(default_factory=set)
    """Names that a loss has reached since this process began."""

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "parameters": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "average": self.average.shadow,
            "optimizer": self.optimizer.state_dict(),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint, which replaces an older one at once."""
        temporary = path.with_suffix(".partial")
        torch.save(self.state(), temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location="cpu")
        if set(state["parameters"]) != set(self.parameters):
            raise TrainingError(f"{path} belongs to another model or stage; remove it or give another --out")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
                self.average.shadow[name].copy_(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    @torch.no_grad()
    def hand_on(self, result: Path | None, beside: Mapping[str, Tensor] | None = None) -> None:
        """Put the averaged weights into the model, and into a file without the heads that no loss has reached.

        `beside`: tensors that belong to these weights though nobody trains them.
        """
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average.shadow[name])
        if result is not None:
            kept = {
                name: tensor
                for name, tensor in self.average.shadow.items()
                if name in self.used or not name.startswith("auxiliary.")
            }
            kept |= beside or {}
            save_file({name: tensor.cpu().contiguous() for name, tensor in kept.items()}, result)

    def row(self, rate: float, recent: list[dict[str, float]]) -> dict[str, float]:
        """Return a line of the log: where the run is, and the mean of every loss over the recent steps."""
        names = dict.fromkeys(name for losses in recent for name in losses)
        means = {name: sum(losses.get(name, 0.0) for losses in recent) / len(recent) for name in names}
        return {"step": self.step, "seconds": round(self.seconds, 1), "learning_rate": rate, **means}


def floats(losses: dict[str, Tensor]) -> dict[str, float]:
    """Return losses as plain numbers."""
    return {name: float(loss.detach()) for name, loss in losses.items()}


def write_log(out: Path, stage: str, row: dict[str, float]) -> None:
    """Append a line to a stage's log."""
    rounded = {name: round(value, 6) for name, value in row.items()}
    with (out / f"{stage}.jsonl").open("a") as file:
        file.write(json.dumps(rounded) + "\n")
    logger.info("%s %s", stage, rounded)


def load_weights(model: nn.Module, auxiliary: nn.Module, path: Path) -> None:
    """Load what a stage saved into a model and its auxiliary heads; names that neither has are an error."""
    state = load_file(path)
    own = {name.removeprefix("auxiliary."): t for name, t in state.items() if name.startswith("auxiliary.")}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith("auxiliary.")}
    unexpected = model.load_state_dict(rest, strict=False).unexpected_keys
    if unexpected:
        raise TrainingError(
            f"{path} holds weights that this model lacks: {', '.join(sorted(unexpected)[:5])}; "
            "it belongs to another preset"
        )
    auxiliary.load_state_dict(own, strict=False)

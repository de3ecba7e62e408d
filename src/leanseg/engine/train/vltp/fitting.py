"""Whether a method can choose at given stages, told before a training, and whether trained weights fit them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from leanseg.errors import LeansegError, TrainingError
from leanseg.models.sam.model import Sam
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.encoders import encoder_method, encoder_weights, pruned_encoder
from leanseg.models.vltp.model import VLTP

logger = logging.getLogger(__name__)

NUMBERED_BY: dict[str, Callable[[list[int]], Any]] = {"svit": min, "dtop": sorted}
"""Methods whose weights are numbered by their stages' places: gates from the first one on, a head behind each."""


def fitted(config: VLTPConfig, *, may_change: bool) -> VLTPConfig:
    """Return a configuration whose method can choose at its stages: as given, or at the method's own if it may change.

    The encoder is built without memory for its weights (torch's meta device).
    """
    own = encoder_method(config.method).stages(config.sam.depth)
    try:
        _build(config)
    except LeansegError as error:
        if may_change:
            return replace(config, stages=tuple(own.items()))
        words = " ".join(f"--at {place}:{ratio:g}" for place, ratio in own.items())
        raise TrainingError(
            f"the method {config.method} cannot be trained at these stages: {error}; write {words}, for example"
        ) from error
    return config


def _build(config: VLTPConfig) -> None:
    stages = dict(config.stages)
    with torch.device("meta"):
        weights = encoder_weights(config.method, config.sam, stages)
        pruned_encoder(config.method, Sam(config.sam), stages, weights)


def load_folder(model: VLTP, folder: Path) -> None:
    """Load a model folder; what its method chooses by only if it is of the same method and of places that fit."""
    given, own = VLTP.from_pretrained(folder), "prune_decoder."
    state, fits = given.state_dict(), _numbered(given.config) == _numbered(model.config)
    model.load_state_dict({name: state[name] for name in state if fits or not name.startswith(own)}, strict=False)
    starts_anew = not fits and any(name.startswith(own) for name in model.state_dict())
    if starts_anew and (not dist.is_initialized() or dist.get_rank() == 0):
        logger.info(
            "the weights of %s at %s start anew: %s has those of %s at %s",
            model.config.method, model.config.stages, folder, given.config.method, given.config.stages,
        )  # fmt: skip


def _numbered(config: VLTPConfig) -> tuple[str, Any]:
    """Return what a method's own weights are of: its name, and the places that they are numbered by."""
    places = [place for place, _ in config.stages] or list(encoder_method(config.method).stages(config.sam.depth))
    return config.method, NUMBERED_BY.get(config.method, lambda _: None)(places)

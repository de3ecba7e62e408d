"""Whether a method can choose at given stages, told before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import torch

from leanseg.errors import LeansegError, TrainingError
from leanseg.models.sam.model import Sam
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.encoders import encoder_method, encoder_weights, pruned_encoder


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

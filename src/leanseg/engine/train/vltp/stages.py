"""The stages of VLTP's training as data: which parameters move, under which losses, for how long."""

from __future__ import annotations

from dataclasses import dataclass

SAM = ("sam.",)
WORDS = ("mllm.model.language_model.", "mllm.lm_head.", "seg_projector.")
GUIDE = ("mllm.", "seg_projector.", "sam.mask_decoder.")
PRUNING = {"both": ("prune_decoder.", "sam.mask_decoder."), "decoder": ("prune_decoder.",)}
"""What moves while stages are learnt: the prune decoder alone, or the mask decoder with it (the paper's Table 3)."""


@dataclass(frozen=True, kw_only=True)
class VLTPStage:
    """One stage: `steps` of `frames` pictures per process, `texts` instructions each; `trains` are name prefixes."""

    name: str
    losses: str
    steps: int
    frames: int
    texts: int
    learning_rate: float
    trains: tuple[str, ...]
    warmup: int = 50
    decay_share: float = 0.7
    """Share of the steps, at the end, over which the learning rate falls to 0 along a cosine."""
    prompts: int = 8
    """Points and boxes drawn on each picture; only for the prompted stage."""
    auxiliary: bool = True
    """Whether the heads that exist in training only add their losses, where the data says what things are."""
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    average: float = 0.995
    """Decay of the moving average of the weights, which are what a stage hands on."""
    pool: int = 0
    """Pictures whose tokens and guidance are kept, so that guide and first blocks run once; 0 = new ones each step."""
    validation_scenes: int = 48
    """Scenes of the look at what the stage hands on."""

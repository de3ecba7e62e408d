"""VLTP's training recipes as data: the stages of each preset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leanseg.engine.train.vltp.stages import GUIDE, PRUNING, SAM, WORDS, VLTPStage
from leanseg.errors import TrainingError, unknown_name

_NANO = (
    VLTPStage(
        name="sam", losses="prompts", steps=550, frames=4, texts=1, learning_rate=5e-4, decay_share=0.3, trains=SAM,
    ),
    VLTPStage(
        name="words", losses="words", steps=1400, frames=5, texts=12, learning_rate=1.5e-3, decay_share=0.4,
        trains=WORDS,
    ),
    VLTPStage(
        name="guide", losses="guide", steps=400, frames=4, texts=6, learning_rate=1e-3, decay_share=0.5, trains=GUIDE,
        warmup=30,
    ),
    VLTPStage(
        name="prune", losses="stages", steps=200, frames=8, texts=2, learning_rate=5e-4, trains=PRUNING["both"],
        pool=240, auxiliary=False,
    ),
)  # fmt: skip

# LISA's and VLTP's settings: linear layers' adapters in the language model, the rest as `trains` says; SAM is given.
# The published batch is 2 pictures on 3 GPUs, 10 times accumulated; here a step has all of them.
_LISA: dict[str, Any] = {
    "learning_rate": 3e-4,
    "warmup": 100,
    "decay_share": 1.0,
    "weight_decay": 0.0,
    "betas": (0.9, 0.95),
}

_FULL = (
    VLTPStage(
        name="guide", losses="guide", steps=5000, frames=20, texts=1, auxiliary=False,
        trains=("mllm.lm_head.", "mllm.model.language_model.embed_tokens.", "seg_projector.", "sam.mask_decoder."),
        **_LISA,
    ),
    VLTPStage(
        name="prune", losses="stages", steps=4500, frames=20, texts=1, auxiliary=False, trains=PRUNING["both"],
        pool=1000, **_LISA,
    ),
)  # fmt: skip

RECIPES: dict[str, tuple[VLTPStage, ...]] = {
    "nano": _NANO,
    "tiny": tuple(
        replace(stage, steps=3, frames=2, texts=min(stage.texts, 2), warmup=1, prompts=4, pool=min(stage.pool, 3),
                validation_scenes=2)
        for stage in _NANO
    ),
    **dict.fromkeys(("b", "l", "h"), _FULL),
}  # fmt: skip


def recipe(
    preset: str, stages: tuple[str, ...] | None = None, *, steps: int | None = None, prune: str = "both"
) -> tuple[VLTPStage, ...]:
    """Return the stages of a preset, all or those named, in the recipe's order.

    `steps` replaces each one's number; `prune`: what moves while stages are learnt, of `PRUNING`.
    """
    if preset not in RECIPES:
        raise TrainingError(unknown_name("recipe", preset, RECIPES))
    if prune not in PRUNING:
        raise TrainingError(unknown_name("choice of what to train beside stages", prune, PRUNING))
    known = {stage.name: stage for stage in RECIPES[preset]}
    for name in stages or ():
        if name not in known:
            raise TrainingError(unknown_name("training stage", name, known))
    chosen = [stage for name, stage in known.items() if stages is None or name in stages]
    changed = [replace(stage, trains=PRUNING[prune]) if stage.losses == "stages" else stage for stage in chosen]
    return tuple(replace(stage, steps=steps) if steps is not None else stage for stage in changed)

"""Training recipes as data: the stages of each preset."""

from __future__ import annotations

from dataclasses import replace

from leanseg.engine.train.losses import MaskLossOptions
from leanseg.engine.train.stages import PIXEL_BRANCH, QUERIES, RELEASED, TOWER, VIDEO, Stage
from leanseg.errors import TrainingError, unknown_name

# A quarter of the released weights: beside them the losses of tokens and texts would hardly be heard.
_LIGHT = MaskLossOptions(n_points=512, mask_weight=1.25, dice_weight=1.25, score_weight=0.5, every_query_weight=1.0)

_NANO = (
    Stage(
        name="pixel", losses="pixel", steps=2100, frames=8, texts=0, learning_rate=1e-3, decay_share=0.7,
        trains=(*PIXEL_BRANCH, "predictor."), mask=MaskLossOptions(n_points=768),
    ),
    Stage(
        name="tower", losses="tower", steps=2200, frames=16, texts=0, learning_rate=1e-3, decay_share=0.15,
        trains=TOWER,
    ),
    Stage(
        name="ground", losses="language", steps=800, frames=3, texts=8, learning_rate=7e-4, decay_share=0.0,
        trains=("mm_projector.", "language_model.", *QUERIES), mask=_LIGHT, aligns_vocabulary=True,
    ),
    Stage(
        name="place", losses="tower", steps=300, frames=16, texts=0, learning_rate=7e-4, decay_share=0.3,
        trains=TOWER, marks_positions=True, warmup=30,
    ),
    Stage(
        name="settle", losses="language", steps=400, frames=3, texts=8, learning_rate=7e-4, decay_share=0.0,
        trains=(*TOWER, "language_model.", *QUERIES), mask=_LIGHT, tower_rate=0.3,
    ),
    Stage(
        name="language", losses="language", steps=2700, frames=3, texts=8, learning_rate=6e-4, decay_share=0.7,
        trains=(*TOWER, "language_model.", *QUERIES), mask=_LIGHT, tower_rate=0.3,
    ),
    Stage(
        name="video", losses="video", steps=450, frames=2, texts=5, learning_rate=3e-4, warmup=50,
        trains=(*TOWER, "language_model.", *QUERIES, *VIDEO), clip_share=0.5, mask=_LIGHT, tower_rate=0.3,
    ),
)  # fmt: skip

# The release's adaptation (InstructSeg, arXiv 2412.14006). It adds the language model's cross-entropy on conversation
# and reasoning data; this recipe trains on masks alone.
_FULL = (
    Stage(
        name="adapt", losses="video", steps=100_000, frames=4, texts=1, learning_rate=4e-5, warmup=3000,
        weight_decay=0.0, trains=RELEASED, clip_share=0.5, auxiliary=False,
    ),
)  # fmt: skip

RECIPES: dict[str, tuple[Stage, ...]] = {
    "nano": _NANO,
    "full": _FULL,
    "tiny": tuple(
        replace(stage, steps=3, frames=2, texts=min(stage.texts, 2), warmup=1, mask=MaskLossOptions(n_points=64))
        for stage in _NANO
    ),
}


def recipe(preset: str, stages: tuple[str, ...] | None = None, *, steps: int | None = None) -> tuple[Stage, ...]:
    """Return the stages of a preset, all or those named, in the recipe's order; `steps` replaces each one's number."""
    if preset not in RECIPES:
        raise TrainingError(unknown_name("recipe", preset, RECIPES))
    known = {stage.name: stage for stage in RECIPES[preset]}
    for name in stages or ():
        if name not in known:
            raise TrainingError(unknown_name("training stage", name, known))
    chosen = [stage for name, stage in known.items() if stages is None or name in stages]
    return tuple(replace(stage, steps=steps) if steps is not None else stage for stage in chosen)

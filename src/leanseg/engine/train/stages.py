"""The stages of a training: which parameters move, on what batches, under which losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from leanseg.data.scenes import SceneOptions
from leanseg.engine.train.auxiliary import AuxiliaryHeads
from leanseg.engine.train.batches import Batch, scene_batch
from leanseg.engine.train.losses import MaskLossOptions, mask_loss, target_mass_loss
from leanseg.engine.train.packed import packed_language
from leanseg.errors import TrainingError
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.pixel_decoder import PixelFeatures
from leanseg.models.instructseg.prompt import Prompt, build_prompt
from leanseg.models.instructseg.tokenizer import TextTokenizer

PIXEL_BRANCH = ("vision_tower_mask.", "pixel_decoder.")
TOWER = ("vision_tower.", "mm_projector.")
QUERIES = (
    "seg_query", "text_vmtf_projector.", "origin_SEG_token_projector.", "SEG_token_projector.", "local_project.",
    "vmtf_layers.", "predictor.SEG_proj.",
)  # fmt: skip
"""What turns the language model's states into queries and scores; the mask decoder's own path is not among it."""
HEADS = (*QUERIES, "predictor.")
VIDEO = ("temporal_query", "ovp_layers.")
RELEASED = ("language_model.embed_tokens.", "pixel_decoder.", *HEADS, *VIDEO)
"""What the released recipe trains besides the LoRA adapters: not SigLIP, Swin, the projector, nor Phi's own weights."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: `steps` of `frames` frames per process, `texts` instructions a frame; `trains` are name prefixes."""

    name: str
    losses: str
    steps: int
    frames: int
    texts: int
    learning_rate: float
    trains: tuple[str, ...]
    warmup: int = 100
    decay_share: float = 1.0
    """Share of the steps, at the end, over which the learning rate falls to 0 along a cosine."""
    clip_share: float = 0.0
    """Share of batches that are clips with reference frames."""
    aligns_vocabulary: bool = False
    """Whether the language model starts from `alignment.align_vocabulary`."""
    marks_positions: bool = False
    """Whether the tower starts from `alignment.mark_positions`."""
    tower_rate: float = 1.0
    """Learning rate of SigLIP as a fraction of the stage's."""
    auxiliary: bool = True
    """Whether the training-only heads add their losses; the released recipe has none."""
    weight_decay: float = 0.05
    mask: MaskLossOptions = field(default_factory=MaskLossOptions)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a step needs besides its batch."""

    model: InstructSeg
    auxiliary: AuxiliaryHeads
    tokenizer: TextTokenizer
    stage: Stage
    generator: torch.Generator


def draw(context: Context, seeds: list[int], step: int, options: SceneOptions) -> Batch:
    """Make the batch of one step; clips and pictures alternate as the stage's share says."""
    stage = context.stage
    share = stage.clip_share
    clips = share > 0 and int((step + 1) * share) > int(step * share)
    points = context.model.config.mask.num_queries if stage.losses == "pixel" else 0
    return scene_batch(seeds, context.model.config, options, points=points, clips=clips)


def pixel_losses(context: Context, batch: Batch) -> dict[str, Tensor]:
    """Class-agnostic masks from points (as in SAM, arXiv 2304.02643): nothing here knows what an object is called."""
    model, stage = context.model, context.stage
    if batch.points is None or batch.point_targets is None:
        raise TrainingError("the batch has no point prompts; the pixel losses need them: draw it with points > 0")
    queries = context.auxiliary.points(batch.points)
    features = model.encode_pixels(batch.pixels)
    neutral = queries.new_zeros(queries.shape[0], 1, queries.shape[-1])
    predictions = model.decode(queries, neutral, features)
    single = [
        MaskPrediction(one.score_logits.reshape(-1, 1), one.mask_logits.flatten(0, 1).unsqueeze(1))
        for one in predictions
    ]
    losses = mask_loss(single, batch.point_targets.flatten(0, 1), stage.mask, context.generator)
    return {name: loss for name, loss in losses.items() if name != "score"}


def tower_losses(context: Context, batch: Batch) -> dict[str, Tensor]:
    """Dense labels on the projected visual tokens."""
    tokens = context.model.project(context.model.encode_vision(batch.siglip))
    losses = context.auxiliary.token_losses(tokens, batch.labels)
    if context.stage.marks_positions:
        losses["token_place"] = 2 * context.auxiliary.token_place_loss(tokens, batch.labels)
    return losses


def _pixel_features(model: InstructSeg, pixels: Tensor) -> PixelFeatures:
    """The pixel branch, without a graph where it is frozen."""
    trained = any(parameter.requires_grad for parameter in model.pixel_decoder.parameters())
    with torch.set_grad_enabled(trained):
        return model.encode_pixels(pixels)


def _prompts(context: Context, batch: Batch) -> list[list[Prompt]]:
    return [
        [build_prompt(context.tokenizer, task, text) for task, text in zip(tasks, texts, strict=True)]
        for tasks, texts in zip(batch.tasks, batch.texts, strict=True)
    ]


def language_losses(context: Context, batch: Batch) -> dict[str, Tensor]:
    """Instructions on pictures, packed, without temporal tokens; the pixel branch is frozen."""
    model, stage, heads = context.model, context.stage, context.auxiliary
    features = _pixel_features(model, batch.pixels)
    tokens = model.project(model.encode_vision(batch.siglip))
    states = packed_language(model, _prompts(context, batch), tokens)
    texts = states.queries.shape[1]
    score = model.score_embedding(states.refer, features.res5.repeat_interleave(texts, 0))
    predictions = model.decode(states.queries.flatten(0, 1), score, features)
    losses = mask_loss(predictions, batch.targets.flatten(0, 1), stage.mask, context.generator)
    labels = heads.token_losses(tokens, batch.labels)
    losses |= {name: 0.5 * loss for name, loss in labels.items()}
    losses["text"] = heads.text_loss(states.asked, batch.labels, batch.relevant)
    losses["relevance"] = 2 * heads.relevance_loss(states.asked, tokens, batch.relevant)
    losses["attention"] = 2 * _attention_loss(states.attention, batch.relevant)
    losses["place"] = 6 * heads.place_loss(states.queries, batch.places)
    losses["token_place"] = heads.token_place_loss(tokens, batch.labels)
    return losses


def _attention_loss(attention: list[Tensor], relevant: Tensor) -> Tensor:
    """Half of the heads of the last two layers are taught to look at the target's tokens."""
    total = torch.zeros((), device=relevant.device)
    for layer in attention[-2:]:
        heads = layer[:, : layer.shape[1] // 2].float().mean(dim=(1, 3))
        total = total + target_mass_loss(heads.flatten(0, 1), relevant.flatten(0, 1))
    return total / 2


def video_losses(context: Context, batch: Batch) -> dict[str, Tensor]:
    """Instructions as at inference: one sequence each, temporal tokens of reference frames or the picture itself."""
    model, stage, heads = context.model, context.stage, context.auxiliary
    features = _pixel_features(model, batch.pixels)
    frames = len(batch.texts)
    pixels = batch.siglip if batch.references is None else torch.cat([batch.siglip, batch.references.flatten(0, 1)])
    projected = model.project(model.encode_vision(pixels))
    tokens, around = (
        projected[:frames],
        projected[frames:].unflatten(0, (frames, -1)) if len(projected) > frames else None,
    )
    seen = tokens.unsqueeze(1) if around is None else around
    prompts = _prompts(context, batch)
    texts = len(prompts[0])
    flat = [prompt for row in prompts for prompt in row]
    temporal = model.temporal_tokens_batch(seen.repeat_interleave(texts, 0), [prompt.refer_ids for prompt in flat])
    sequences = [model.assemble(prompt, tokens[index // texts], temporal[index]) for index, prompt in enumerate(flat)]
    states = model.language(sequences)
    score = model.score_embedding(states.refer, features.res5.repeat_interleave(texts, 0))
    predictions = model.decode(states.queries, score, features)
    losses = mask_loss(predictions, batch.targets.flatten(0, 1), stage.mask, context.generator)
    asked = torch.stack([one[-1] for one in states.refer]).view(frames, texts, -1)
    if stage.auxiliary:
        losses |= {name: 0.5 * loss for name, loss in heads.token_losses(tokens, batch.labels).items()}
        losses["token_place"] = heads.token_place_loss(tokens, batch.labels)
        losses["place"] = 6 * heads.place_loss(states.queries.unflatten(0, (frames, texts)), batch.places)
        losses["text"] = heads.text_loss(asked, batch.labels, batch.relevant)
        losses["relevance"] = 2 * heads.relevance_loss(asked, tokens, batch.relevant)
    return losses


LOSSES: dict[str, Callable[[Context, Batch], dict[str, Tensor]]] = {
    "pixel": pixel_losses,
    "tower": tower_losses,
    "language": language_losses,
    "video": video_losses,
}

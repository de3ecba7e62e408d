"""A quick look at a model behind a stage of training, on validation scenes: how well it does what the stage taught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from leanseg.data.scenes import TASK_KINDS, SceneOptions, generate_scene
from leanseg.data.scenes.splits import SPLITS
from leanseg.engine.train.vltp.pictures import Picture, draw_prompts, make_batch, scene_picture
from leanseg.engine.train.vltp.pool import Pool, make_pool
from leanseg.metrics import GIoU
from leanseg.models.sam.pictures import full_masks
from leanseg.models.vltp.encoders import PrunedEncoder
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.staged_encoder import EncoderState, StagedEncoder

TEXTS = 2


def validation_pictures(n_scenes: int) -> list[Picture]:
    """Return validation scenes with instructions of the kinds that are trained."""
    first, options = SPLITS["validation"].first_seed, SceneOptions(kinds=TASK_KINDS, n_instructions=TEXTS)
    return [scene_picture(generate_scene(first + index, options)) for index in range(n_scenes)]


@torch.inference_mode()
def validate_prompts(model: VLTP, n_scenes: int) -> dict[str, float]:
    """Return gIoU of masks asked for by points and by boxes."""
    batch = make_batch(validation_pictures(n_scenes), model.config)
    size, seen = model.config.sam.image_size, {}
    embeddings = torch.cat([model.sam.image_encoder(pixels[None]) for pixels in batch.sam])
    drawn = draw_prompts(batch, size, 4, torch.Generator().manual_seed(0))
    for name, prompts in zip(("points", "boxes"), drawn, strict=True):
        sparse, dense = model.sam.prompt_encoder(points=prompts.points, boxes=prompts.boxes)
        image_pe = model.sam.prompt_encoder.image_pe()
        low, _ = model.sam.mask_decoder(embeddings[prompts.rows], image_pe, sparse, dense)
        masks = full_masks(low, valid_size=batch.sizes[0], output_size=batch.pictures[0].image.shape[:2], size=size)
        metric = GIoU()
        metric.update(torch.cat(prompts.targets).numpy() > 0.5, masks[:, 0].numpy() > 0)
        seen[name] = metric.compute()
    return {f"validation_{name}": value for name, value in seen.items()}


def validate_answers(model: VLTP, n_scenes: int) -> dict[str, float]:
    """Return gIoU of answers without stages."""
    pool = make_pool(model, validation_pictures(n_scenes))
    return {"validation_unpruned": giou(model, pool, model.encoder(()))}


def validate_stages(model: VLTP, n_scenes: int) -> dict[str, float]:
    """Return gIoU of answers with the configuration's stages and without."""
    pool = make_pool(model, validation_pictures(n_scenes))
    pruned, whole = giou(model, pool, model.encoder()), giou(model, pool, model.encoder(()))
    return {"validation_pruned": pruned, "validation_unpruned": whole}


@torch.inference_mode()
def giou(model: VLTP, pool: Pool, encoder: PrunedEncoder) -> float:
    """Return gIoU over a pool's pictures behind an encoder."""
    metric = GIoU()
    for index, picture in enumerate(pool.pictures):
        metric.update(picture.targets, answers(model, pool, encoder, index))
    return metric.compute()


@torch.inference_mode()
def answers(model: VLTP, pool: Pool, encoder: PrunedEncoder, index: int, guidance: Tensor | None = None) -> np.ndarray:
    """Return the masks bool (K, H, W) of a pool's picture; `guidance` (K, C) in place of the pool's own."""
    pooled = pool.take([index], model.device)
    asked = pooled.guidance if guidance is None else guidance
    at_stages = isinstance(encoder, StagedEncoder) and encoder.stages
    state = EncoderState(pooled.tokens) if at_stages else encoder.prefix(pooled.batch.sam.to(model.device))
    low, _ = model.masks(encoder.rest(state, asked).embeddings, asked)
    picture, size = pooled.batch.pictures[0], model.config.sam.image_size
    masks = full_masks(low, valid_size=pooled.batch.sizes[0], output_size=picture.image.shape[:2], size=size)
    return masks[:, 0].cpu().numpy() > 0


LOOKS: dict[str, Callable[[VLTP, int], dict[str, float]]] = {
    "prompts": validate_prompts,
    "words": lambda model, n_scenes: {},
    "guide": validate_answers,
    "stages": validate_stages,
}

"""Training batches of generated scenes: each is a function of its seeds alone, so that a run resumes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.data import scenes
from leanseg.data.scenes import ClipScene, Scene, SceneOptions, generate_scene
from leanseg.data.scenes.sprites import TINTS
from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.postprocess import reference_frames
from leanseg.models.instructseg.preprocess import mask_pixels, siglip_pixels

MAX_PLACES = 6
IGNORED = -100
"""Label of a token that is neither clearly an object's nor clearly the background's."""


@dataclass(frozen=True, kw_only=True)
class TokenLabels:
    """What the N visual tokens of B frames show; training only."""

    items: Tensor
    """(B,N) int64: item index, 0 = background is shifted in front (item i is i + 1), IGNORED where mixed."""
    tints: Tensor
    """(B,N) int64: 0 = none, tint t is t + 1, IGNORED outside objects."""
    boxes: Tensor
    """(B,N,3): centre of the token's object minus the token's own (y, x), log of its size; NaN outside objects."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B key frames with K instructions each."""

    siglip: Tensor
    """(B,3,s,s)."""
    pixels: Tensor
    """(B,3,S,S)."""
    labels: TokenLabels
    texts: tuple[tuple[str, ...], ...]
    tasks: tuple[tuple[str, ...], ...]
    targets: Tensor
    """(B,K,S,S) float 0/1 at the size of the mask branch's input."""
    relevant: Tensor
    """(B,K,N) bool: tokens of which the target covers at least a quarter, or the best covered one."""
    places: Tensor
    """(B,K,P,2): centroid (y, x) in [0,1] of what is visible of each object asked for, NaN where unused."""
    references: Tensor | None = None
    """(B,R,3,s,s) reference frames; None for images."""
    points: Tensor | None = None
    """(B,P,M,2) point prompts (y,x) in [0,1], NaN where unused; only for the pixel stage."""
    point_targets: Tensor | None = None
    """(B,P,S,S) their masks."""


def _masks_at(masks: np.ndarray, size: int) -> Tensor:
    """Bring (n,H,W) bool masks of a square canvas to the mask branch's (n,size,size)."""
    tensor = torch.from_numpy(masks).float()
    return tensor if masks.shape[-1] == size else (F.adaptive_avg_pool2d(tensor, size) >= 0.5).float()


def _token_labels(scene_objects: Sequence[object], cover: Tensor, grid: int) -> TokenLabels:
    """Label the tokens of one frame from (n,N) shares of each token that each object covers."""
    n_tokens = grid * grid
    total = cover.sum(0)
    best, owner = cover.max(0)
    items = torch.tensor([o.item_index + 1 for o in scene_objects])  # type: ignore[attr-defined]
    tints = torch.tensor([0 if o.tint is None else tuple(TINTS).index(o.tint) + 1 for o in scene_objects])  # type: ignore[attr-defined]
    centres = torch.tensor([[*o.center, float(np.log(o.size))] for o in scene_objects])  # type: ignore[attr-defined]
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    own = torch.stack([(rows.flatten() + 0.5) / grid, (columns.flatten() + 0.5) / grid, torch.zeros(n_tokens)], dim=1)
    is_object, is_background = best >= 0.3, total < 0.05
    ignored = torch.full((n_tokens,), IGNORED)
    item_labels = torch.where(is_object, items[owner], torch.where(is_background, torch.zeros_like(owner), ignored))
    tint_labels = torch.where(is_object, tints[owner], ignored)
    boxes = torch.where(is_object[:, None], centres[owner] - own, torch.full((n_tokens, 3), float("nan")))
    return TokenLabels(items=item_labels, tints=tint_labels, boxes=boxes)


def _relevant(cover: Tensor) -> Tensor:
    """(K,N) bool from the (K,N) share of each token that each target covers."""
    best = cover.max(1, keepdim=True).values
    return (cover >= 0.25) | ((cover == best) & (best > 0))


def _point_prompts(masks: Tensor, count: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` prompts: one to three objects each, a visible point in every one; 3 in 10 points are jittered."""
    visible = [index for index in range(masks.shape[0]) if masks[index].any()]
    points = torch.full((count, 3, 2), float("nan"))
    targets = torch.zeros(count, size, size)
    for row in range(count):
        wanted = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
        for slot, index in enumerate(rng.permutation(visible)[:wanted]):
            inside = masks[index].nonzero()
            point = (inside[int(rng.integers(len(inside)))].float() + 0.5) / size
            if rng.random() < 0.3:
                point = point + torch.from_numpy(rng.normal(0, 0.02, 2)).float()
            points[row, slot] = point.clamp(0, 1)
            targets[row] = torch.maximum(targets[row], masks[index])
    return points, targets


def scene_batch(
    seeds: Sequence[int], config: InstructSegConfig, options: SceneOptions, *, points: int = 0, clips: bool = False
) -> Batch:
    """Generate one scene (or clip, with a random key frame) per seed and label it densely.

    With `points` > 0 the batch carries that many point prompts per frame; `options.n_instructions` is K.
    """
    rows = [_one(seed, config, options, points, clips) for seed in seeds]

    def stacked(name: str) -> Tensor:
        return torch.stack([row[name] for row in rows])

    labels = TokenLabels(
        **{name: torch.stack([getattr(row["labels"], name) for row in rows]) for name in ("items", "tints", "boxes")}
    )
    return Batch(
        siglip=stacked("siglip"),
        pixels=stacked("pixels"),
        labels=labels,
        texts=tuple(row["texts"] for row in rows),
        tasks=tuple(row["tasks"] for row in rows),
        targets=stacked("targets"),
        relevant=stacked("relevant"),
        places=stacked("places"),
        references=stacked("references") if clips else None,
        points=stacked("points") if points else None,
        point_targets=stacked("point_targets") if points else None,
    )


def _one(seed: int, config: InstructSegConfig, options: SceneOptions, points: int, clips: bool) -> dict[str, Any]:
    rng = np.random.default_rng((seed, 77))
    grid = config.vision.image_size // config.vision.patch_size
    size, side = config.mask_image_size, config.vision.image_size
    scene: Scene | ClipScene
    if clips:
        redundancy = ("static", "slow", "slow", "fast")[int(rng.integers(4))]
        clip = scenes.generate_clip(seed, replace(options, redundancy=redundancy, kinds=(*options.kinds, "motion")))
        key = int(rng.integers(len(clip.frames)))
        scene, frames, all_masks = clip, clip.frames, clip.masks[key]
    else:
        picture = generate_scene(seed, options)
        scene, key, frames, all_masks = picture, 0, picture.image[None], picture.masks
    masks = _masks_at(all_masks, size)
    cover = F.adaptive_avg_pool2d(masks, grid).flatten(1)
    asked = scene.instructions
    targets = torch.stack([_union(masks, one.targets) for one in asked])
    row = {
        "siglip": siglip_pixels(frames[key], side),
        "pixels": mask_pixels(frames[key], size)[0],
        "labels": _token_labels(scene.objects, cover, grid),
        "texts": tuple(one.text for one in asked),
        "tasks": tuple(one.task for one in asked),
        "targets": targets,
        "relevant": _relevant(F.adaptive_avg_pool2d(targets, grid).flatten(1))
        if asked
        else torch.zeros(0, grid * grid, dtype=torch.bool),
    }
    row["places"] = torch.stack([_centroids(masks[list(one.targets)]) for one in asked])
    if clips:
        around = reference_frames(key, len(frames), config.reference_frames)
        row["references"] = torch.stack([siglip_pixels(frames[i], side) for i in around])
    if points:
        row["points"], row["point_targets"] = _point_prompts(masks, points, size, rng)
    return row


def _centroids(masks: Tensor) -> Tensor:
    """(MAX_PLACES,2) centroids of the visible (n,S,S) masks, NaN where there are fewer."""
    places = torch.full((MAX_PLACES, 2), float("nan"))
    axis = (torch.arange(masks.shape[-1]) + 0.5) / masks.shape[-1]
    area = masks.sum((1, 2))
    seen = [index for index in range(len(masks)) if area[index] > 0][:MAX_PLACES]
    for slot, index in enumerate(seen):
        places[slot, 0] = (masks[index].sum(1) * axis).sum() / area[index]
        places[slot, 1] = (masks[index].sum(0) * axis).sum() / area[index]
    return places


def _union(masks: Tensor, targets: Sequence[int]) -> Tensor:
    return masks[list(targets)].amax(0) if targets else torch.zeros_like(masks[0])


def to_device(batch: Any, device: str) -> Any:
    """Move every tensor of a (nested) frozen dataclass to the device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if hasattr(batch, "__dataclass_fields__"):
        return replace(batch, **{name: to_device(getattr(batch, name), device) for name in batch.__dataclass_fields__})
    return batch

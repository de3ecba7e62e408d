"""What a step of training sees: pictures with instructions, from generated scenes or from any data set of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leanseg.data.registry import open_dataset
from leanseg.data.sample import Dataset
from leanseg.data.scenes import TASK_KINDS, Scene, SceneOptions, generate_scene
from leanseg.engine.train.batches import IGNORED
from leanseg.engine.train.scene_seeds import scene_seeds
from leanseg.engine.train.vltp.stages import VLTPStage
from leanseg.models.sam.pictures import Size, fill_up, sam_pixels
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.pictures import clip_pixels

SCENES = "scenes:train"
MIXED_SHARE = 0.05  # of a token that objects may cover before it is no background


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: `image` uint8 (H, W, 3), `things` bool (n, H, W) one by one, K `texts` and `targets` bool (K, H, W).

    `items`: what each thing is, and `wanted`: the things of each text; empty where the data does not say.
    """

    image: NDArray[np.uint8]
    things: NDArray[np.bool_]
    texts: tuple[str, ...]
    targets: NDArray[np.bool_]
    items: tuple[int, ...] = ()
    wanted: tuple[tuple[int, ...], ...] = ()


Source = Callable[[VLTPStage, int, int, int], list[Picture]]
"""(stage, step, rank, processes) -> the pictures of one step of one process; the same arguments, the same pictures."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B pictures as SAM's and the guide's pixels; `sizes`: the part of SAM's input that is picture.

    `items` (B, N): what each of SAM's tokens shows, item i as i + 1, 0 = background, IGNORED where mixed or unknown.
    """

    pictures: tuple[Picture, ...]
    sam: Tensor
    sizes: tuple[Size, ...]
    clip: Tensor
    items: Tensor


def source_of(data: str, seed: int, root: Path | None = None) -> Source:
    """Return the pictures of generated scenes (`scenes:train`), or of a data set by name below its folder."""
    if data == SCENES:
        return scenes_source(seed)
    return dataset_source(open_dataset(data, root), seed)


def scenes_source(seed: int, options: SceneOptions | None = None) -> Source:
    """Return the pictures of generated scenes: every stage, step and process has its own."""
    chosen = options or SceneOptions(kinds=TASK_KINDS)

    def source(stage: VLTPStage, step: int, rank: int, processes: int) -> list[Picture]:
        asked = replace(chosen, n_instructions=max(1, stage.texts))
        seeds = scene_seeds(stage, step, seed=seed, rank=rank, processes=processes)
        return [scene_picture(generate_scene(each, asked)) for each in seeds]

    return source


def scene_picture(scene: Scene) -> Picture:
    """Return a generated scene as a picture; what is hidden is no thing."""
    return Picture(
        image=scene.image,
        things=scene.masks,
        texts=tuple(each.text for each in scene.instructions),
        targets=np.stack([scene.target(each) for each in scene.instructions]),
        items=tuple(each.item_index for each in scene.objects),
        wanted=tuple(each.targets for each in scene.instructions),
    )


def dataset_source(dataset: Dataset, seed: int) -> Source:
    """Return samples drawn uniformly with replacement (as in LISA), one instruction each; of a clip a random frame."""

    def source(stage: VLTPStage, step: int, rank: int, processes: int) -> list[Picture]:
        name = int.from_bytes(stage.name.encode(), "little")
        rng = np.random.default_rng((seed, name, step * processes + rank))
        return [_sample_picture(dataset, int(i), rng) for i in rng.integers(len(dataset), size=stage.frames)]

    return source


def _sample_picture(dataset: Dataset, index: int, rng: np.random.Generator) -> Picture:
    sample = dataset[index]
    frame = int(rng.integers(len(sample.clip)))
    target = sample.target[frame][None]
    return Picture(image=sample.clip[frame], things=target, texts=(sample.instruction,), targets=target)


def make_batch(pictures: Sequence[Picture], config: VLTPConfig) -> Batch:
    """Scale and normalise pictures for both eyes, and label SAM's tokens."""
    scaled = [sam_pixels(each.image, size=config.sam.image_size) for each in pictures]
    return Batch(
        pictures=tuple(pictures),
        sam=torch.stack([pixels for pixels, _ in scaled]),
        sizes=tuple(size for _, size in scaled),
        clip=torch.stack([clip_pixels(each.image, size=config.guide.vision.image_size) for each in pictures]),
        items=torch.stack([_token_items(p, size, config) for p, (_, size) in zip(pictures, scaled, strict=True)]),
    )


def _token_items(picture: Picture, size: Size, config: VLTPConfig) -> Tensor:
    n_tokens, side = config.sam.grid.n_tokens, config.sam.grid.height
    if not picture.items:
        return torch.full((n_tokens,), IGNORED)
    masks = F.interpolate(torch.from_numpy(picture.things).float()[None], size=size, mode="nearest")
    cover = F.adaptive_avg_pool2d(fill_up(masks, config.sam.image_size), side)[0].flatten(1)
    best, owner = cover.max(0)
    labels = torch.where(cover.sum(0) < MIXED_SHARE, 0, IGNORED)
    return torch.where(best >= 0.5, torch.tensor(picture.items)[owner] + 1, labels)


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """R prompts on a batch: `rows` = their picture, points (R, 3, 2) in SAM's pixels with labels, or boxes (R, 4)."""

    rows: Tensor
    targets: tuple[Tensor, ...]
    points: tuple[Tensor, Tensor] | None = None
    boxes: Tensor | None = None


def draw_prompts(batch: Batch, size: int, count: int, generator: torch.Generator) -> tuple[Prompts, Prompts]:
    """Draw `count` prompts a picture: half are points in one thing or several, half a box around one, both jittered.

    A picture without anything to point at gets none.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    half = max(1, count // 2)
    points, labels, boxes, rows = list[Tensor](), list[Tensor](), list[Tensor](), list[int]()
    wanted: tuple[list[Tensor], list[Tensor]] = ([], [])
    for row, picture in enumerate(batch.pictures):
        seen = [index for index in range(len(picture.things)) if picture.things[index].any()]
        if not seen:
            for targets in wanted:
                targets.append(torch.zeros(0, *picture.image.shape[:2]))
            continue
        rows += [row] * half
        scale = size / max(picture.image.shape[:2])
        chosen = [rng.permutation(seen)[: int(rng.choice((1, 1, 1, 2, 3)))] for _ in range(half)]
        drawn = [_points(picture, things, scale, rng) for things in chosen]
        points += [places for places, _ in drawn]
        labels += [each for _, each in drawn]
        wanted[0].append(torch.from_numpy(np.stack([picture.things[things].any(0) for things in chosen])).float())
        singles = rng.choice(seen, size=half)
        boxes += [_box(picture.things[index], scale, rng) for index in singles]
        wanted[1].append(torch.from_numpy(picture.things[singles]).float())
    if not rows:
        none = torch.zeros(0, dtype=torch.long)
        return Prompts(rows=none, targets=tuple(wanted[0])), Prompts(rows=none, targets=tuple(wanted[1]))
    of = torch.tensor(rows)
    return (
        Prompts(rows=of, targets=tuple(wanted[0]), points=(torch.stack(points), torch.stack(labels))),
        Prompts(rows=of, targets=tuple(wanted[1]), boxes=torch.stack(boxes)),
    )


def _points(
    picture: Picture, things: NDArray[np.int64], scale: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return three places (x, y), one or more in each thing, and their labels; -1 marks one that is none."""
    places, labels = np.zeros((3, 2)), np.full(3, -1)
    for slot, index in enumerate([*things, *([things[0]] if rng.random() < 0.3 else [])][:3]):
        inside = np.argwhere(picture.things[index])
        places[slot] = (inside[int(rng.integers(len(inside)))][::-1] + 0.5) * scale - 0.5
        labels[slot] = 1
    return torch.from_numpy(places).float(), torch.from_numpy(labels)


def _box(mask: NDArray[np.bool_], scale: float, rng: np.random.Generator) -> Tensor:
    """Return x0, y0, x1, y1 around a mask, each side moved by up to a tenth of the box (as in SAM)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * scale
    sides = np.tile(corners[2:] - corners[:2], 2)
    return torch.from_numpy(corners + rng.normal(0, 0.05, 4).clip(-0.1, 0.1) * sides).float()

"""From one seed to a picture with masks and instructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.backgrounds import background, sensor_noise
from leanseg.data.scenes.layout import choose_objects
from leanseg.data.scenes.phrasing import render
from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.referring import Expression, Referring
from leanseg.data.scenes.scene import Scene, SceneInstruction, SceneObject, SceneOptions
from leanseg.data.scenes.sprites import Pose, draw
from leanseg.errors import InputError

USABLE_PIXELS = 14
USABLE_SHARE = 0.35
_ATTEMPTS = 200


def generate_scene(seed: int, options: SceneOptions = SceneOptions()) -> Scene:  # noqa: B008 (frozen)
    """Return the scene of this seed; the same seed and options give the same bytes everywhere.

    A layout that offers no instruction of the wanted kinds is drawn again from the same stream.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; expected a number >= 0; choose another seed")
    stream = Draw(seed)
    for _ in range(_ATTEMPTS):
        objects = choose_objects(stream, options)
        side = options.canvas
        picture = background(stream, side, side)
        owner, areas = paint(picture, objects)
        masks = owner[None] == np.arange(len(objects), dtype=np.int8)[:, None, None]
        shown = mark_usable(objects, np.bincount(owner.ravel() + 1, minlength=len(objects) + 1)[1:], areas)
        instructions = instruct(stream, Referring(shown, options.relations).expressions(), options, "")
        if instructions:
            return Scene(finish(stream, picture), masks, shown, instructions, seed)
    raise InputError(
        f"no scene of kinds {', '.join(options.kinds)} was found in {_ATTEMPTS} layouts of seed {seed}; expected a "
        "layout that offers them; allow more objects or more kinds"
    )


def paint(picture: NDArray[np.float32], objects: list[SceneObject]) -> tuple[NDArray[np.int8], list[int]]:
    """Draw the objects onto the picture in place; return whose each pixel is (-1 = nobody's) and the whole areas."""
    height, width = picture.shape[:2]
    owner = np.full((height, width), -1, dtype=np.int8)
    areas = []
    for number, item in enumerate(objects):
        pose = Pose((item.center[0] * height, item.center[1] * width), item.size * height, item.angle, item.mirrored)
        patch = draw(item.item_index, item.tint, pose, (height, width))
        if patch is None:
            areas.append(0)
            continue
        rows = slice(patch.top, patch.top + patch.alpha.shape[0])
        columns = slice(patch.left, patch.left + patch.alpha.shape[1])
        region = picture[rows, columns]
        region *= 1 - patch.alpha
        region += patch.color
        inside = patch.alpha[..., 0] >= 0.5
        owner[rows, columns][inside] = number
        areas.append(int(np.count_nonzero(inside)))
    return owner, areas


def mark_usable(objects: list[SceneObject], visible: NDArray[np.int64], areas: list[int]) -> tuple[SceneObject, ...]:
    """Return the objects with `usable` set: at least 14 pixels and 35 % of the silhouette must be visible."""
    return tuple(
        replace(item, usable=bool(seen >= max(USABLE_PIXELS, USABLE_SHARE * area)))
        for item, seen, area in zip(objects, visible, areas, strict=True)
    )


def finish(stream: Draw, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture as bytes after a random gain (0.75 to 1.2) and noise (sigma 0 to 6)."""
    gain, sigma = stream.uniform(0.75, 1.2), stream.uniform(0, 6)
    picture *= np.float32(gain)
    picture += sensor_noise(stream, picture.shape[0], picture.shape[1], sigma)
    picture += np.float32(0.5)
    return np.clip(picture, 0, 255).astype(np.uint8)


def instruct(
    stream: Draw, expressions: list[Expression], options: SceneOptions, prefix: str
) -> tuple[SceneInstruction, ...]:
    """Return `n_instructions` sentences (none if no wanted kind is on offer): a kind at random, then one of it.

    Sentences differ while the scene has that many; after that they repeat. `prefix` goes before the task's name.
    """
    by_kind: dict[str, list[Expression]] = {}
    for expression in expressions:
        if expression.kind in options.kinds:
            by_kind.setdefault(expression.kind, []).append(expression)
    if not by_kind:
        return ()
    kinds = tuple(by_kind)
    chosen: dict[str, SceneInstruction] = {}
    spare: list[SceneInstruction] = []
    for _ in range(4 * options.n_instructions):
        if len(chosen) == options.n_instructions:
            break
        family = by_kind[stream.choice(kinds)]
        expression = stream.weighted(family, [entry.weight for entry in family])
        text = render(stream, expression.key, dict(expression.fields), options.phrasings)
        task = "reasoning" if expression.kind == "affordance" else "referring"
        instruction = SceneInstruction(text, expression.kind, expression.targets, prefix + task)
        if text in chosen:
            spare.append(instruction)
        else:
            chosen[text] = instruction
    found = (*chosen.values(), *spare)
    return tuple(found[k % len(found)] for k in range(options.n_instructions))

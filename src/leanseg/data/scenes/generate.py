"""From one seed to a picture with masks and instructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.absent import absent
from leanseg.data.scenes.backgrounds import background, sensor_noise
from leanseg.data.scenes.items import ITEMS
from leanseg.data.scenes.layout import choose_objects
from leanseg.data.scenes.phrasing import render
from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.referring import Expression, Referring
from leanseg.data.scenes.scene import EXTRA_KINDS, Scene, SceneInstruction, SceneObject, SceneOptions
from leanseg.data.scenes.sprites import Patch, Pose, draw
from leanseg.errors import InputError

USABLE_PIXELS = 14
USABLE_SHARE = 0.35
ATTEMPTS = 200


def generate_scene(seed: int, options: SceneOptions = SceneOptions()) -> Scene:  # noqa: B008 (frozen)
    """Return the scene of this seed; the same seed and options give the same bytes everywhere.

    A layout that offers no instruction of the wanted kinds is drawn again from the same stream.
    """
    check_seed(seed)
    stream = Draw(seed)
    for _ in range(ATTEMPTS):
        objects = choose_objects(stream, options)
        if not promising(objects, options):
            continue
        side = options.canvas
        picture = background(stream, side, side)
        owner, areas = paint(picture, objects)
        shown = mark_usable(objects, visible_pixels(owner, len(objects)), areas)
        referring = Referring(shown, options.relations)
        expressions = referring.expressions()
        if "no_target" in options.kinds:
            expressions += absent(stream, referring)
        instructions = instruct(stream, wanted(expressions, shown, options), options, "")
        if instructions:
            masks = owner[None] == np.arange(len(objects), dtype=np.int8)[:, None, None]
            return Scene(finish(stream, picture), masks, shown, instructions, seed)
    raise no_layout(seed, options)


def promising(objects: list[SceneObject], options: SceneOptions) -> bool:
    """Return whether a layout could offer a wanted kind, so that hopeless ones are not painted (rare kinds only)."""
    if len(options.kinds) > 1 or options.kinds[0] in EXTRA_KINDS:
        return True
    return bool(wanted(Referring(tuple(objects), options.relations).expressions(), tuple(objects), options))


def check_seed(seed: int) -> None:
    """Refuse a negative seed."""
    if seed < 0:
        raise InputError(f"seed is {seed}; expected a number >= 0; choose another seed")


def no_layout(seed: int, options: SceneOptions) -> InputError:
    """Return the error for options that no layout of this seed satisfies."""
    return InputError(
        f"no scene of kinds {', '.join(options.kinds)} was found in {ATTEMPTS} layouts of seed {seed}; expected a "
        "layout that offers them; allow more objects or more kinds"
    )


def visible_pixels(owner: NDArray[np.int8], count: int) -> NDArray[np.int64]:
    """Return how many pixels of each object can be seen."""
    return np.bincount(owner.ravel() + 1, minlength=count + 1)[1:]


def wanted(expressions: list[Expression], objects: tuple[SceneObject, ...], options: SceneOptions) -> list[Expression]:
    """Return the expressions of the wanted kinds; with held-out items, those that ask for a held-out drawing."""
    kept = [expression for expression in expressions if expression.kind in options.kinds]
    if options.items == "train":
        return kept
    return [entry for entry in kept if any(ITEMS[objects[k].item_index].held_out for k in entry.targets)]


def paint(picture: NDArray[np.float32], objects: list[SceneObject]) -> tuple[NDArray[np.int8], list[int]]:
    """Draw the objects onto the picture in place; return whose each pixel is (-1 = nobody's) and the whole areas."""
    height, width = picture.shape[:2]
    owner = np.full((height, width), -1, dtype=np.int8)
    areas = []
    for number, item in enumerate(objects):
        pose = Pose((item.center[0] * height, item.center[1] * width), item.size * height, item.angle, item.mirrored)
        patch = draw(item.item_index, item.tint, pose, (height, width))
        areas.append(0 if patch is None else own(owner, patch, number))
        if patch is not None:
            blend(picture, patch)
    return owner, areas


def blend(picture: NDArray[np.float32], patch: Patch) -> None:
    """Lay a patch over the picture in place."""
    height, width = patch.alpha.shape[:2]
    region = picture[patch.top : patch.top + height, patch.left : patch.left + width]
    region *= 1 - patch.alpha
    region += patch.color


def own(owner: NDArray[np.int8], patch: Patch, number: int) -> int:
    """Give the pixels that the patch covers by half or more to object `number`; return how many they are."""
    height, width = patch.alpha.shape[:2]
    inside = patch.alpha[..., 0] >= 0.5
    owner[patch.top : patch.top + height, patch.left : patch.left + width][inside] = number
    return int(np.count_nonzero(inside))


def mark_usable(objects: list[SceneObject], visible: NDArray[np.int64], areas: list[int]) -> tuple[SceneObject, ...]:
    """Return the objects with `usable` set: at least 14 pixels and 35 % of the silhouette must be visible."""
    return tuple(
        replace(item, usable=bool(seen >= max(USABLE_PIXELS, USABLE_SHARE * area)))
        for item, seen, area in zip(objects, visible, areas, strict=True)
    )


def finish(stream: Draw, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture as bytes after a random gain (0.75 to 1.2) and noise (sigma 0 to 6)."""
    gain, sigma = stream.uniform(0.75, 1.2), stream.uniform(0, 6)
    return expose(picture, gain, sensor_noise(stream, picture.shape[0], picture.shape[1], sigma))


def expose(picture: NDArray[np.float32], gain: float, noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return gain * picture + noise as bytes; the picture is used up."""
    picture *= np.float32(gain)
    picture += noise
    picture += np.float32(0.5)
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def instruct(
    stream: Draw, expressions: list[Expression], options: SceneOptions, prefix: str
) -> tuple[SceneInstruction, ...]:
    """Return `n_instructions` sentences (none if no expression is on offer): a kind at random, then one of it.

    Sentences differ while the scene has that many; after that they repeat. `prefix` goes before the task's name.
    """
    by_kind: dict[str, list[Expression]] = {}
    for expression in expressions:
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

"""From one seed to a clip: things that move over a still background, motion blur, masks for every frame.

Instructions about a name, a colour, a category or a purpose hold in every frame. Those about places and sizes are
given only if they have the same answer in every frame; those about motion describe the whole clip. A mask shows the
visible part of the silhouette at the middle of the exposure, without the blur.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.absent import absent
from leanseg.data.scenes.backgrounds import background, sensor_noise
from leanseg.data.scenes.generate import (
    ATTEMPTS,
    blend,
    check_seed,
    expose,
    instruct,
    mark_usable,
    no_layout,
    own,
    promising,
    visible_pixels,
    wanted,
)
from leanseg.data.scenes.layout import choose_objects
from leanseg.data.scenes.motion import Path, choose_path, motion_expressions
from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.referring import Expression, Referring
from leanseg.data.scenes.scene import ClipScene, SceneObject, SceneOptions
from leanseg.data.scenes.sprites import Patch, Pose, draw

SHUTTER = 0.5  # share of the frame time for which the shutter is open
_MOST_COPIES = 7
_LAYOUT_KINDS = ("attribute", "position", "relation", "ordinal")


def generate_clip(seed: int, options: SceneOptions = SceneOptions()) -> ClipScene:  # noqa: B008 (frozen)
    """Return the clip of this seed, `options.frames` long; the same seed and options give the same bytes."""
    check_seed(seed)
    stream = Draw(seed)
    for _ in range(ATTEMPTS):
        objects = choose_objects(stream, options)
        if not promising(objects, options):
            continue
        paths = tuple(choose_path(stream, item, options.redundancy, options.frames) for item in objects)
        scenery = background(stream, options.canvas, options.canvas)
        pictures, owners, areas = _paint_clip(scenery, objects, paths, options.frames)
        shown = _usable_in_clip(objects, owners, areas)
        expressions = _expressions(stream, shown, paths, options)
        instructions = instruct(stream, wanted(expressions, shown, options), options, "video_")
        if instructions:
            frames = _expose_clip(stream, pictures, static=options.redundancy == "static")
            numbers = np.arange(len(objects), dtype=np.int8)[None, :, None, None]
            tracks = tuple(tuple(path.center(t) for t in range(options.frames)) for path in paths)
            masks = owners[:, None] == numbers
            return ClipScene(frames, masks, shown, instructions, seed, options.redundancy, tracks)
    raise no_layout(seed, options)


def _paint_clip(
    scenery: NDArray[np.float32], objects: list[SceneObject], paths: tuple[Path, ...], frames: int
) -> tuple[NDArray[np.float32], NDArray[np.int8], list[list[int]]]:
    """Return the pictures (T, H, W, 3), whose each pixel is (T, H, W) and the whole areas of all objects per frame."""
    pictures = np.repeat(scenery[None], frames, axis=0)
    owners = np.full(pictures.shape[:3], -1, dtype=np.int8)
    areas: list[list[int]] = [[] for _ in range(frames)]
    canvas = (scenery.shape[0], scenery.shape[1])
    for number, (item, path) in enumerate(zip(objects, paths, strict=True)):
        layers: tuple[Patch | None, Patch | None] = (None, None)
        for time in range(frames):
            if time == 0 or not path.still:
                layers = _layers(item, path, time, canvas)
            sharp, blurred = layers
            areas[time].append(0 if sharp is None else own(owners[time], sharp, number))
            if blurred is not None:
                blend(pictures[time], blurred)
    return pictures, owners, areas


def _layers(item: SceneObject, path: Path, time: int, canvas: tuple[int, int]) -> tuple[Patch | None, Patch | None]:
    """Return the object at the middle of the exposure, sharp and as it is blurred by its travel, cut to the canvas."""
    side = canvas[0]
    travel = (path.velocity[0] * SHUTTER * side, path.velocity[1] * SHUTTER * side)
    copies = min(_MOST_COPIES, 1 + int(max(abs(travel[0]), abs(travel[1])) / 2))
    reach = math.ceil(max(abs(travel[0]), abs(travel[1])) / 2) + 1
    center = path.center(time)
    pose = Pose(
        (center[0] * side + reach, center[1] * side + reach),
        item.size * side,
        item.angle + path.spin * time,
        item.mirrored,
    )
    patch = draw(item.item_index, item.tint, pose, (canvas[0] + 2 * reach, canvas[1] + 2 * reach))
    if patch is None:
        return None, None
    patch = replace(patch, top=patch.top - reach, left=patch.left - reach)
    smeared = patch if copies == 1 else _smear(patch, travel, copies)
    return _cut(patch, canvas), _cut(smeared, canvas)


def _smear(patch: Patch, travel: tuple[float, float], copies: int) -> Patch:
    """Return the average of `copies` of the patch, spread evenly over the way travelled (whole pixels)."""
    steps = [(k / (copies - 1) - 0.5) for k in range(copies)]
    shifts = [(math.floor(travel[0] * step + 0.5), math.floor(travel[1] * step + 0.5)) for step in steps]
    top, left = min(y for y, _ in shifts), min(x for _, x in shifts)
    height = patch.alpha.shape[0] + max(y for y, _ in shifts) - top
    width = patch.alpha.shape[1] + max(x for _, x in shifts) - left
    color, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 1), np.float32)
    for y, x in shifts:
        rows = slice(y - top, y - top + patch.alpha.shape[0])
        columns = slice(x - left, x - left + patch.alpha.shape[1])
        color[rows, columns] += patch.color
        alpha[rows, columns] += patch.alpha
    share = np.float32(1 / copies)
    return Patch(patch.top + top, patch.left + left, color * share, np.minimum(alpha * share, 1))


def _cut(patch: Patch, canvas: tuple[int, int]) -> Patch | None:
    height, width = patch.alpha.shape[:2]
    rows = slice(max(0, -patch.top), min(height, canvas[0] - patch.top))
    columns = slice(max(0, -patch.left), min(width, canvas[1] - patch.left))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    top, left = patch.top + rows.start, patch.left + columns.start
    return Patch(top, left, patch.color[rows, columns], patch.alpha[rows, columns])


def _usable_in_clip(
    objects: list[SceneObject], owners: NDArray[np.int8], areas: list[list[int]]
) -> tuple[SceneObject, ...]:
    """Return the objects, usable if they are so in the first frame and in three quarters of all frames."""
    per_frame = [
        mark_usable(objects, visible_pixels(owner, len(objects)), whole)
        for owner, whole in zip(owners, areas, strict=True)
    ]
    return tuple(
        replace(
            item, usable=per_frame[0][k].usable and sum(frame[k].usable for frame in per_frame) >= 0.75 * len(areas)
        )
        for k, item in enumerate(objects)
    )


def _expressions(
    stream: Draw, objects: tuple[SceneObject, ...], paths: tuple[Path, ...], options: SceneOptions
) -> list[Expression]:
    """Return the expressions that hold in every frame, motion and absent things included where wanted."""
    first = Referring(objects, options.relations)
    lasting = first.expressions()
    if any(path.velocity != (0.0, 0.0) for path in paths):
        for time in range(1, options.frames):
            moved = tuple(replace(item, center=path.center(time)) for item, path in zip(objects, paths, strict=True))
            true_now = set(Referring(moved, options.relations).layout_expressions())
            lasting = [entry for entry in lasting if entry.kind not in _LAYOUT_KINDS or entry in true_now]
    if "motion" in options.kinds and options.frames > 1:
        lasting += motion_expressions(first, paths, options.frames)
    if "no_target" in options.kinds:
        lasting += absent(stream, first)
    return lasting


def _expose_clip(stream: Draw, pictures: NDArray[np.float32], *, static: bool) -> NDArray[np.uint8]:
    """Return the frames as bytes: one gain for the clip, fresh noise in every frame unless the clip is static."""
    frames, height, width = pictures.shape[:3]
    gain, sigma = stream.uniform(0.75, 1.2), stream.uniform(0, 4)
    if static:
        one = expose(pictures[0], gain, sensor_noise(stream, height, width, sigma))
        return np.repeat(one[None], frames, axis=0)
    return expose(pictures, gain, sensor_noise(stream, frames * height, width, sigma).reshape(pictures.shape))

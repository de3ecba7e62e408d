"""Which things a scene shows and where: names first, then places that keep their distance."""

from __future__ import annotations

import math

from leanseg.data.scenes.affordances import AFFORDANCES, affordance_sets
from leanseg.data.scenes.categories import CATEGORIES, members, unclear
from leanseg.data.scenes.items import ITEMS, N_TRAIN_ITEMS, SEPARATE
from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.scene import SceneObject, SceneOptions
from leanseg.data.scenes.sprites import TINTS

_MODES = ("repeated", "tinted", "affordance", "category")
_MODE_WEIGHTS = (0.45, 0.20, 0.20, 0.15)
_APART = 0.36  # least distance of two centres, in sums of their sides
_TILT = math.radians(35)


def choose_objects(draw: Draw, options: SceneOptions) -> list[SceneObject]:
    """Return the objects of a scene in drawing order: a later one hides what lies below it."""
    count = draw.integer(*options.objects)
    mode = draw.weighted(_MODES, _MODE_WEIGHTS) if options.layout == "mixed" else options.layout
    chosen = _choose_items(draw, mode, count, options)
    return _place(draw, draw.shuffled(chosen), options)


def _choose_items(draw: Draw, mode: str, count: int, options: SceneOptions) -> list[tuple[int, str | None]]:
    pool = _pool(options)
    avoid: frozenset[int] = frozenset()
    chosen: list[tuple[int, str | None]] = []
    if mode in ("repeated", "school"):
        if mode == "school":
            copies = count - draw.integer(0, min(2, count - 1))
        else:
            copies = min(count, draw.weighted((2, 3, 4), (0.45, 0.4, 0.15)))
        index = draw.choice(pool)
        chosen = [(index, None) for _ in range(copies)]
    elif mode == "tinted":
        copies = min(count, draw.integer(2, 3))
        hues = draw.sample(tuple(TINTS), copies)
        index = draw.choice(pool)
        if copies == 3 and draw.chance(0.25):
            hues[2] = hues[1]
        chosen = [(index, hue) for hue in hues]
    else:
        inside, avoid = _seed_set(draw, mode, pool)
        chosen = [(index, None) for index in draw.sample(inside, min(len(inside), count, draw.integer(1, 3)))]
        if mode == "affordance" and draw.chance(0.2) and len(chosen) < count:
            chosen.append(chosen[0])
    chosen = _separated(chosen)
    return _fill(draw, chosen, count, pool, avoid)


def _pool(options: SceneOptions) -> tuple[int, ...]:
    if options.items == "train":
        return tuple(range(N_TRAIN_ITEMS))
    return tuple(range(N_TRAIN_ITEMS, len(ITEMS)))


def _seed_set(draw: Draw, mode: str, pool: tuple[int, ...]) -> tuple[list[int], frozenset[int]]:
    """Return (members within the pool, items to avoid) of a random affordance or category."""
    while True:
        if mode == "affordance":
            inside, avoid = affordance_sets(draw.integer(0, len(AFFORDANCES) - 1))
        else:
            name = draw.choice(CATEGORIES).name
            inside, avoid = members(name), unclear(name)
        available = sorted(inside.intersection(pool))
        if available:
            return available, avoid


def _separated(chosen: list[tuple[int, str | None]]) -> list[tuple[int, str | None]]:
    kept: list[tuple[int, str | None]] = []
    for index, tint in chosen:
        if not _clashes(index, [other for other, _ in kept]):
            kept.append((index, tint))
    return kept


def _clashes(index: int, others: list[int]) -> bool:
    name = ITEMS[index].name
    names = {ITEMS[other].name for other in others} - {name}
    return any(name in group and group & names for group in SEPARATE)


def _fill(
    draw: Draw, chosen: list[tuple[int, str | None]], count: int, pool: tuple[int, ...], avoid: frozenset[int]
) -> list[tuple[int, str | None]]:
    """Add other names, each once, until there are `count` objects."""
    others = tuple(range(N_TRAIN_ITEMS))
    for _ in range(200):
        if len(chosen) >= count:
            break
        index = draw.choice(others)
        names = {ITEMS[other].name for other, _ in chosen}
        if index in avoid or ITEMS[index].name in names or _clashes(index, [other for other, _ in chosen]):
            continue
        chosen.append((index, None))
    return chosen


def _place(draw: Draw, chosen: list[tuple[int, str | None]], options: SceneOptions) -> list[SceneObject]:
    """Give each thing a size, a tilt and a place; what finds no room is made smaller, then left out."""
    placed: list[SceneObject] = []
    for index, tint in chosen:
        size = draw.log_uniform(*options.sizes)
        for attempt in range(40):
            if attempt in (12, 20, 28):
                size = max(options.sizes[0], size * 0.75)
            margin = min(0.5, 0.46 * size)
            center = (draw.uniform(margin, 1 - margin), draw.uniform(margin, 1 - margin))
            if all(_far(center, size, other) for other in placed):
                angle = draw.uniform(-_TILT, _TILT)
                placed.append(SceneObject(ITEMS[index].name, index, tint, center, size, angle, draw.chance(0.5)))
                break
    return placed


def _far(center: tuple[float, float], size: float, other: SceneObject) -> bool:
    away = (center[0] - other.center[0]) ** 2 + (center[1] - other.center[1]) ** 2
    return away >= (_APART * (size + other.size)) ** 2

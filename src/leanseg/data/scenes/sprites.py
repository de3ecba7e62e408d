"""Drawing sprites: scale pyramid, tints, and bilinear affine sampling that gives the same bytes on every machine.

Only additions and multiplications of float32 arrays are used (no library resampling, no vectorised trigonometry), so
neither the Pillow version nor the processor can show in the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.atlas import SPRITE_SIDE, sprites

TINTS: dict[str, tuple[int, int, int]] = {
    "red": (214, 34, 38),
    "orange": (247, 138, 20),
    "yellow": (250, 214, 36),
    "green": (46, 160, 54),
    "blue": (38, 92, 224),
    "purple": (132, 52, 196),
    "pink": (250, 128, 190),
}
_LEVELS = (96, 64, 48, 32, 24, 16)


@dataclass(frozen=True)
class Pose:
    """Where a sprite goes: centre (y, x) and longest side in pixels, angle in radians, mirrored left to right."""

    center: tuple[float, float]
    side: float
    angle: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True)
class Patch:
    """A drawn sprite: top-left pixel, premultiplied colour (h, w, 3) in [0, 255] and opacity (h, w, 1) in [0, 1]."""

    top: int
    left: int
    color: NDArray[np.float32]
    alpha: NDArray[np.float32]


@dataclass(frozen=True)
class _Level:
    side: int
    packed: NDArray[np.uint32]  # ((side + 3) ** 2,) premultiplied RGBA with a transparent rim
    half_width: float
    half_height: float


@cache
def filled_side(item_index: int) -> float:
    """Return the side of a square as large as the silhouette, in longest sides of the sprite."""
    return round(math.sqrt(int((sprites()[item_index][..., 3] >= 128).sum())) / SPRITE_SIDE, 6)


def draw(item_index: int, tint: str | None, pose: Pose, canvas: tuple[int, int]) -> Patch | None:
    """Return the sprite in its pose, cut to the canvas (height, width); None where nothing of it is inside."""
    level = _choose(_levels(item_index, tint), pose.side)
    cos, sin = round(math.cos(pose.angle) * 4096) / 4096, round(math.sin(pose.angle) * 4096) / 4096
    scale = pose.side / level.side
    reach_y = (abs(sin) * level.half_width + abs(cos) * level.half_height) * scale + 1
    reach_x = (abs(cos) * level.half_width + abs(sin) * level.half_height) * scale + 1
    top, bottom = max(0, math.floor(pose.center[0] - reach_y)), min(canvas[0], math.ceil(pose.center[0] + reach_y))
    left, right = max(0, math.floor(pose.center[1] - reach_x)), min(canvas[1], math.ceil(pose.center[1] + reach_x))
    if top >= bottom or left >= right:
        return None
    step, middle, side = 1 / scale, level.side / 2 + 0.5, level.side
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.center[0])) * np.float32(step)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.center[1])) * np.float32(step)
    flip = -1.0 if pose.mirrored else 1.0
    u = (x * np.float32(cos * flip))[None] + (y * np.float32(sin * flip) + np.float32(middle))[:, None]
    v = (x * np.float32(-sin))[None] + (y * np.float32(cos) + np.float32(middle))[:, None]
    pixels = _bilinear(level.packed, side + 3, np.clip(u, 0, side + 1), np.clip(v, 0, side + 1))
    return Patch(top, left, pixels[..., :3], pixels[..., 3:] * np.float32(1 / 255))


def _bilinear(
    packed: NDArray[np.uint32], stride: int, u: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float32]:
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    fu, fv = (u - iu.astype(np.float32))[..., None], (v - iv.astype(np.float32))[..., None]
    corner = iv * np.int32(stride) + iu

    def channels(offset: int) -> NDArray[np.float32]:
        taken = packed.take(corner + np.int32(offset))
        return taken.view(np.uint8).reshape(*corner.shape, 4).astype(np.float32)

    upper, lower = channels(0), channels(stride)
    upper += (channels(1) - upper) * fu
    lower += (channels(stride + 1) - lower) * fu
    lower -= upper
    lower *= fv
    upper += lower
    return upper


def _choose(levels: tuple[_Level, ...], side: float) -> _Level:
    fitting = [level for level in levels if level.side >= side]
    return fitting[-1] if fitting else levels[0]


@lru_cache(maxsize=1024)
def _levels(item_index: int, tint: str | None) -> tuple[_Level, ...]:
    sprite = sprites()[item_index]
    base = sprite.astype(np.float32) if tint is None else _tinted(sprite, TINTS[tint])
    rows, columns = np.nonzero(base[..., 3])
    half_height = max(SPRITE_SIDE / 2 - rows.min(), rows.max() + 1 - SPRITE_SIDE / 2)
    half_width = max(SPRITE_SIDE / 2 - columns.min(), columns.max() + 1 - SPRITE_SIDE / 2)
    pyramid: dict[int, NDArray[np.float32]] = {96: base}
    pyramid[64] = _two_thirds(_two_thirds(base, 0), 1)
    for side in (48, 32, 24, 16):
        pyramid[side] = _halve(pyramid[side * 2])
    return tuple(
        _Level(side, _pack(pyramid[side]), half_width * side / SPRITE_SIDE, half_height * side / SPRITE_SIDE)
        for side in _LEVELS
    )


def _pack(level: NDArray[np.float32]) -> NDArray[np.uint32]:
    rounded = (level + np.float32(0.5)).astype(np.uint8)
    padded = np.pad(rounded, ((1, 2), (1, 2), (0, 0)))
    return np.ascontiguousarray(padded).view(np.uint32).reshape(-1)


def _halve(level: NDArray[np.float32]) -> NDArray[np.float32]:
    total = level[0::2, 0::2] + level[1::2, 0::2] + level[0::2, 1::2] + level[1::2, 1::2]
    return np.asarray(total * np.float32(0.25), dtype=np.float32)


def _two_thirds(level: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the level shrunk from 3n to 2n along an axis by area."""
    first, second, third = (np.take(level, np.arange(k, level.shape[axis], 3), axis=axis) for k in range(3))
    pair = np.stack([first * 2 + second, second + third * 2], axis=axis + 1) * np.float32(1 / 3)
    shape = list(level.shape)
    shape[axis] = shape[axis] * 2 // 3
    return pair.reshape(shape)


def _tinted(sprite: NDArray[np.uint8], hue: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the sprite painted in one hue: brightness is kept and stretched, so that drawings stay readable."""
    pixels = sprite.astype(np.float32)
    alpha = np.maximum(pixels[..., 3], 1) * np.float32(1 / 255)
    plain = pixels[..., :3] / alpha[..., None]
    light = plain[..., 0] * np.float32(0.3) + plain[..., 1] * np.float32(0.59) + plain[..., 2] * np.float32(0.11)
    ordered = np.sort(light[pixels[..., 3] > 128])
    low, high = ordered[len(ordered) * 3 // 100], ordered[len(ordered) * 97 // 100]
    level = np.clip((light - low) / max(float(high - low), 40.0), 0, 1)[..., None]
    target = np.asarray(hue, dtype=np.float32)
    shade = target * (np.float32(0.38) + np.float32(0.8) * level)
    color = np.minimum(shade, 255) + (255 - np.minimum(shade, 255)) * np.float32(0.45) * level * level
    pixels[..., :3] = color * alpha[..., None]
    return np.clip(pixels, 0, 255)

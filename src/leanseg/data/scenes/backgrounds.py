"""Procedural backgrounds without anything nameable: flat, gradients, value noise, stripes, checks and dots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leanseg.data.scenes.randomness import Draw

KINDS = ("flat", "gradient", "radial", "noise", "stripes", "checks", "dots")
_WEIGHTS = (1.0, 1.5, 1.0, 4.0, 1.0, 0.8, 0.7)


def background(draw: Draw, height: int, width: int) -> NDArray[np.float32]:
    """Return a background (height, width, 3) in [0, 255]."""
    kind = draw.weighted(KINDS, _WEIGHTS)
    first, second = _color(draw), _color(draw)
    if kind == "flat":
        picture = np.empty((height, width, 3), dtype=np.float32)
        picture[:] = first
    else:
        blend = _blend(kind, draw, height, width)[..., None]
        picture = first + (second - first) * blend
    if kind == "noise" or draw.chance(0.5):
        strength = draw.uniform(15, 60) if kind == "noise" else draw.uniform(6, 28)
        for cells in (4, 9, 25):
            picture += _value_noise(draw, cells, height, width, 1) * np.float32(strength)
            if kind == "noise":
                picture += _value_noise(draw, cells, height, width, 3) * np.float32(0.35 * strength)
            strength *= draw.uniform(0.4, 0.9)
    return np.clip(picture, 0, 255, out=picture)


def sensor_noise(draw: Draw, height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """Return noise (height, width, 3) of standard deviation `sigma`, the sum of two uniform bytes (triangular)."""
    count = height * width * 3
    raw = draw.bytes(2 * count)
    total = raw[:count].astype(np.float32)
    total += raw[count:]
    total -= np.float32(255)
    total *= np.float32(sigma / 104.51)
    return total.reshape(height, width, 3)


def _color(draw: Draw) -> NDArray[np.float32]:
    """Return a colour that is mostly muted; one in six is dark."""
    level = draw.uniform(35, 95) if draw.chance(1 / 6) else draw.uniform(105, 235)
    spread = draw.uniform(0, 45)
    return np.asarray([level + draw.uniform(-spread, spread) for _ in range(3)], dtype=np.float32)


def _blend(kind: str, draw: Draw, height: int, width: int) -> NDArray[np.float32]:
    """Return how much of the second colour each pixel takes, (height, width) in [0, 1]."""
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(1 / height)
    x = np.arange(width, dtype=np.float32)[None] * np.float32(1 / width)
    if kind in ("gradient", "stripes"):
        slope_y, slope_x = draw.uniform(-1, 1), draw.uniform(-1, 1)
        ramp = y * np.float32(slope_y) + x * np.float32(slope_x)
        if kind == "stripes":
            ramp = ramp * np.float32(draw.uniform(4, 14))
            return (ramp - np.floor(ramp) > 0.5).astype(np.float32) * np.float32(draw.uniform(0.2, 0.6))
        low, high = min(slope_y, 0) + min(slope_x, 0), max(slope_y, 0) + max(slope_x, 0)
        return (ramp - np.float32(low)) * np.float32(1 / max(high - low, 1e-3))
    if kind == "radial":
        distance = (y - np.float32(draw.uniform())) ** 2 + (x - np.float32(draw.uniform())) ** 2
        return np.minimum(distance, 1)
    if kind in ("checks", "dots"):
        cells = draw.uniform(4, 12)
        row, column = y * np.float32(cells), x * np.float32(cells)
        strength = np.float32(draw.uniform(0.15, 0.5))
        if kind == "checks":
            odd = (row.astype(np.int32) + column.astype(np.int32)) & 1
            return odd.astype(np.float32) * strength
        distance = (row - np.floor(row) - 0.5) ** 2 + (column - np.floor(column) - 0.5) ** 2
        return (distance < draw.uniform(0.04, 0.12)).astype(np.float32) * strength
    return np.broadcast_to(_value_noise(draw, 4, height, width, 1)[..., 0] * np.float32(0.5) + 0.5, (height, width))


def _value_noise(draw: Draw, cells: int, height: int, width: int, channels: int) -> NDArray[np.float32]:
    """Return smooth noise in [-1, 1], (height, width, channels), from a lattice of `cells` squared random values."""
    lattice = draw.bytes((cells + 1) ** 2 * channels).astype(np.float32).reshape(cells + 1, cells + 1, channels)
    lattice = lattice * np.float32(2 / 255) - 1
    row, fy = _lattice_position(cells, height)
    column, fx = _lattice_position(cells, width)
    wide = lattice[:, column] + (lattice[:, column + 1] - lattice[:, column]) * fx[None, :, None]
    upper = wide[row]
    return np.asarray(upper + (wide[row + 1] - upper) * fy[:, None, None], dtype=np.float32)


def _lattice_position(cells: int, length: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    position = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / length)
    cell = position.astype(np.int32)
    fraction = position - cell.astype(np.float32)
    return cell, fraction * fraction * (3 - 2 * fraction)

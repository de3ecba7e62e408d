"""How things move through a clip, and what can be said about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from leanseg.data.scenes.randomness import Draw
from leanseg.data.scenes.referring import Expression, Referring
from leanseg.data.scenes.scene import SceneObject

_SPEEDS = {"static": (0.0, 0.0), "slow": (0.005, 0.02), "fast": (0.05, 0.12)}  # canvas sides per frame
_SPINS = {"static": 0.0, "slow": math.radians(2), "fast": math.radians(15)}  # at most, per frame
_STILL = 0.35  # share of things that do not move in a slow or fast clip
_ALONG_AXIS = 0.65
_SPEED_MARGIN = 1.5
_LEAST_TRAVEL = 0.03
_WAYS = (("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1))
_HEAD_WEIGHT = {"noun": 1.0, "category": 0.4, "object": 0.3}


@dataclass(frozen=True)
class Path:
    """A straight way at constant speed (canvas sides per frame) that the picture's rim reflects."""

    start: tuple[float, float]
    velocity: tuple[float, float]
    spin: float
    margin: float

    @property
    def still(self) -> bool:
        """Whether the thing neither travels nor turns."""
        return self.velocity == (0.0, 0.0) and self.spin == 0.0

    @property
    def speed(self) -> float:
        """Canvas sides per frame."""
        return math.sqrt(self.velocity[0] ** 2 + self.velocity[1] ** 2)

    def center(self, time: float) -> tuple[float, float]:
        """Return the centre (y, x) at a time in frames."""
        return self._reflected(0, time), self._reflected(1, time)

    def way(self, frames: int) -> str | None:
        """Return left, right, up or down if that is plainly where it goes in all frames, else None."""
        for name, axis, sign in _WAYS:
            along, across = sign * self.velocity[axis], abs(self.velocity[1 - axis])
            travel = along * (frames - 1)
            if along >= 2 * across and travel >= _LEAST_TRAVEL and self._inside(axis, frames):
                return name
        return None

    def _inside(self, axis: int, frames: int) -> bool:
        end = self.start[axis] + self.velocity[axis] * (frames - 1)
        return self.margin <= end <= 1 - self.margin

    def _reflected(self, axis: int, time: float) -> float:
        span = 1 - 2 * self.margin
        if span <= 0 or self.velocity[axis] == 0:
            return self.start[axis]
        phase = (self.start[axis] - self.margin + self.velocity[axis] * time) % (2 * span)
        return self.margin + (phase if phase <= span else 2 * span - phase)


def choose_path(draw: Draw, item: SceneObject, redundancy: str, frames: int) -> Path:
    """Return how one object moves; a way that would leave the picture is turned round where that helps."""
    margin = min(0.5, 0.46 * item.size)
    low, high = _SPEEDS[redundancy]
    if high == 0 or draw.chance(_STILL):
        return Path(item.center, (0.0, 0.0), 0.0, margin)
    speed, spin = draw.uniform(low, high), draw.uniform(-_SPINS[redundancy], _SPINS[redundancy])
    if draw.chance(_ALONG_AXIS):
        direction = draw.choice(((0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)))
    else:
        angle = draw.uniform(0, 2 * math.pi)
        direction = (round(math.sin(angle), 6), round(math.cos(angle), 6))
    velocity = (direction[0] * speed, direction[1] * speed)
    path = Path(item.center, velocity, spin, margin)
    turned = replace(path, velocity=(-velocity[0], -velocity[1]))
    return turned if path.way(frames) is None and turned.way(frames) is not None else path


def motion_expressions(referring: Referring, paths: tuple[Path, ...], frames: int) -> Iterator[Expression]:
    """Yield what tells one thing of several by how it moves."""
    for head in referring.heads(2):
        weight = _HEAD_WEIGHT[head.level]
        ways: dict[str, list[int]] = {}
        for index in head.indices:
            ways.setdefault(paths[index].way(frames) or "?", []).append(index)
        unsure = any(not paths[k].still for k in ways.get("?", ()))
        for way, indices in ways.items():
            if way != "?" and len(indices) == 1 and not unsure:
                yield Expression("motion", "moves", head.fields(way=way), (indices[0],), weight)
        still = [k for k in head.indices if paths[k].still]
        moving = [k for k in head.indices if paths[k].speed * (frames - 1) >= _LEAST_TRAVEL]
        if len(still) + len(moving) != len(head.indices):
            continue
        if len(moving) == 1:
            yield Expression("motion", "moving", head.fields(), (moving[0],), weight)
        if len(still) == 1:
            yield Expression("motion", "still", head.fields(), (still[0],), weight)
        ordered = sorted(moving, key=lambda k: -paths[k].speed)
        if len(moving) > 1 and paths[ordered[0]].speed >= _SPEED_MARGIN * paths[ordered[1]].speed:
            yield Expression("motion", "fastest", head.fields(), (ordered[0],), weight)

"""From a mask to polygons that paint exactly that mask again, holes included.

Two conventions exist. COCO's rasteriser counts a pixel whose centre lies inside, so its polygons run along the edges
between pixels. OpenCV-like drawing (ReasonSeg) also paints the outline itself, so its polygons run through the centres
of the outermost pixels. A hole is joined to the outline by a bridge that is walked to and fro: a parity fill does not
see it, and in the second convention it lies on pixels of the mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
Loop = list[tuple[Point, Point]]  # (corner (x, y), pixel (x, y) inside the mask at the edge that leaves the corner)

_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def edge_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return COCO polygons [x0, y0, x1, y1, ...] along pixel edges, one for each connected piece of the mask."""
    polygons = []
    for outer, holes in _pieces(mask):
        path = [corner for corner, _ in outer]
        for hole in holes:
            corners = [corner for corner, _ in hole]
            path = [*path, path[0], *corners, corners[0]]
        if holes:
            path.append(path[0])
        polygons.append([float(value) for corner in _straightened(path) for value in corner])
    return polygons


def center_polygons(mask: NDArray[np.bool_]) -> list[list[list[float]]]:
    """Return polygons [[x, y], ...] through the centres of the outermost pixels, one for each connected piece."""
    polygons = []
    for outer, holes in _pieces(mask):
        path = _pixels(outer)
        for hole in sorted((_pixels(one) for one in holes), key=min):
            first = hole.index(min(hole))  # the leftmost pixel: to its left lies mask, then the outline or another hole
            hole = hole[first:] + hole[:first]
            x, y = hole[0]
            at = next(k for k in _walk_left(mask, x, y, path))
            path = [*path[: at + 1], *hole, hole[0], *path[at:]]
        polygons.append([[float(x), float(y)] for x, y in _straightened(path)])
    return polygons


def _walk_left(mask: NDArray[np.bool_], x: int, y: int, path: list[Point]) -> list[int]:
    """Return where the path holds the first of its pixels met on the way left from (x, y) through the mask."""
    places = {pixel: k for k, pixel in enumerate(path)}
    while x >= 0 and mask[y, x]:
        if (x, y) in places:
            return [places[x, y]]
        x -= 1
    return [0]


def _pieces(mask: NDArray[np.bool_]) -> list[tuple[Loop, list[Loop]]]:
    """Return (outer loop, loops of its holes) for each 4-connected piece."""
    loops = _loops(mask)
    outers = [loop for loop in loops if _area(loop) > 0]
    holes: list[list[Loop]] = [[] for _ in outers]
    for loop in loops:
        if _area(loop) < 0:
            pixel = loop[0][1]
            inside = [k for k, outer in enumerate(outers) if _contains(outer, pixel)]
            holes[min(inside, key=lambda k: _area(outers[k]))].append(loop)
    return list(zip(outers, holes, strict=True))


def _loops(mask: NDArray[np.bool_]) -> list[Loop]:
    """Return the closed ways along pixel edges that keep the mask on their right hand (y points down)."""
    padded = np.pad(mask, 1)
    leaving: dict[Point, dict[Point, Point]] = {}
    for step, (dy, dx), (cx, cy) in (
        (_RIGHT, (-1, 0), (0, 0)), (_DOWN, (0, 1), (1, 0)), (_LEFT, (1, 0), (1, 1)), (_UP, (0, -1), (0, 1)),
    ):  # fmt: skip
        rim = padded & ~np.roll(padded, (-dy, -dx), axis=(0, 1))
        for y, x in zip(*(axis.tolist() for axis in np.nonzero(rim)), strict=True):
            leaving.setdefault((x - 1 + cx, y - 1 + cy), {})[step] = (x - 1, y - 1)
    loops = []
    while leaving:
        corner = next(iter(leaving))
        step = next(iter(leaving[corner]))
        loop: Loop = []
        while corner in leaving and step in leaving[corner]:
            loop.append((corner, leaving[corner].pop(step)))
            if not leaving[corner]:
                del leaving[corner]
            corner = (corner[0] + step[0], corner[1] + step[1])
            step = _turn(step, leaving.get(corner, {}))
        loops.append(loop)
    return loops


def _turn(step: Point, options: dict[Point, Point]) -> Point:
    """Return the next step: sharp right first, so that pixels that touch at a corner stay apart."""
    right, left = (-step[1], step[0]), (step[1], -step[0])
    return next((way for way in (right, step, left) if way in options), step)


def _area(loop: Loop) -> float:
    corners = [corner for corner, _ in loop]
    return 0.5 * sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1], strict=True))


def _contains(loop: Loop, pixel: Point) -> bool:
    """Return whether the pixel's centre lies inside the loop (parity of the edges crossed on the way right)."""
    x, y = pixel[0] + 0.5, pixel[1] + 0.5
    corners = [corner for corner, _ in loop]
    crossed = sum(
        a[0] > x and min(a[1], b[1]) < y < max(a[1], b[1])
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
    )
    return crossed % 2 == 1


def _pixels(loop: Loop) -> list[Point]:
    """Return the pixels along a loop, each once per visit."""
    pixels = [pixel for _, pixel in loop]
    kept = [pixel for k, pixel in enumerate(pixels) if k == 0 or pixel != pixels[k - 1]]
    return kept[:-1] if len(kept) > 1 and kept[0] == kept[-1] else kept


def _straightened(path: list[Point]) -> list[Point]:
    """Return the path without the points in the middle of straight runs."""
    kept: list[Point] = []
    for point in path:
        if len(kept) > 1:
            (x0, y0), (x1, y1), (x2, y2) = kept[-2], kept[-1], point
            ahead = (x1 - x0) * (x2 - x1) + (y1 - y0) * (y2 - y1) > 0
            if ahead and (x1 - x0) * (y2 - y1) == (y1 - y0) * (x2 - x1):
                kept.pop()
        kept.append(point)
    return kept

"""How long J, F and the unsupervised matching take, beside the way of the public evaluators on the same masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.engine.bench import published_metrics as published
from leanseg.engine.bench.metrics_tables import KIND, OURS
from leanseg.engine.bench.timing import one_thread, timed
from leanseg.engine.records import record
from leanseg.metrics.boundary import f_of, j_of, pair_counts
from leanseg.metrics.protocols.davis import Davis


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed: pairs of masks, and a clip of label maps with so many objects and proposals."""

    height: int = 480
    width: int = 854
    frames: int = 3
    objects: int = 10
    proposals: int = 20
    budget_s: float = 1.0


QUICK = Sizes(height=60, width=80, frames=2, objects=2, proposals=3, budget_s=0.005)


def measure_metrics(
    sizes: Sizes | None = None, *, command: str = "leanseg bench metrics", tick: Callable[[str], object] = str
) -> dict[str, Any]:
    """Return the record; `tick` hears the name of what is timed next. Everything runs on one thread."""
    made = Sizes() if sizes is None else sizes
    samples = []
    with one_thread(), published.one_opencv_thread():
        for task, ways in _tasks(made):
            right = np.asarray(ways[OURS]())
            for name, way in ways.items():
                tick(f"{task}: {name}")
                difference = float(np.abs(np.asarray(way()) - right).max())
                times = timed(way, budget_s=made.budget_s)
                samples.append({"task": task, "name": name, "largest_difference": difference, **times})
    sides = {"height": made.height, "width": made.width, "frames": made.frames}
    counts = {"objects": made.objects, "proposals": made.proposals}
    return record(KIND, command, threads=1, sizes=sides | counts, samples=samples)


Ways = dict[str, Callable[[], Any]]


def _tasks(sizes: Sizes) -> Iterator[tuple[str, Ways]]:
    size = f"{sizes.width} x {sizes.height}"
    for what, (gt, pred) in pairs(sizes.height, sizes.width).items():
        ways: Ways = {OURS: partial(_pair, gt, pred)}
        for name, dilate in published.dilations().items():
            ways[f"public way, {name}"] = partial(_public_pair, gt, pred, dilate)
        yield f"J and F of one pair, {what}, {size}", ways
    truth, guess = label_maps(sizes, sizes.objects, 0), label_maps(sizes, sizes.proposals, 5)
    ways = {OURS: partial(_assigned, truth, guess)}
    for name, dilate in list(published.dilations().items())[:1]:
        ways[f"public way, {name}"] = partial(_public_assigned, truth, guess, sizes, dilate)
    task = f"unsupervised DAVIS, {sizes.proposals} proposals x {sizes.objects} objects x {sizes.frames} frames, {size}"
    yield task, ways


def pairs(height: int, width: int) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return pairs of masks: one object and its shifted outline, many small ones, and one as large as the picture."""
    shift = max(1, height // 80)
    one = blob(height, width, 0.25, 0)
    random = np.random.Generator(np.random.PCG64(3))
    cells = random.random((2, height // 12, width // 12)) < 0.3
    many = np.pad(cells.repeat(12, axis=1).repeat(12, axis=2), ((0, 0), (0, height % 12), (0, width % 12)))
    large = blob(height, width, 0.48, 1)
    return {
        "one object": (one, np.roll(one, shift, axis=1)),
        "one as large as the picture": (large, np.roll(large, shift, axis=0)),
        "a thousand small ones": (many[0], many[1]),
    }


def blob(height: int, width: int, radius: float, seed: int, *, x: float = 0.5, y: float = 0.5) -> NDArray[np.bool_]:
    """Return an uneven disk of about `radius` times the height, always the same for a seed."""
    random = np.random.Generator(np.random.PCG64(seed))
    rows, columns = np.mgrid[:height, :width]
    angle = np.arctan2(rows - y * height, columns - x * width)
    waves = sum(random.normal() * 0.06 * np.cos(k * angle + 6 * random.random()) for k in range(2, 9))
    inside = np.hypot(rows - y * height, columns - x * width) < radius * height * (1 + waves)
    return np.asarray(inside)


def label_maps(sizes: Sizes, n: int, seed: int) -> NDArray[np.uint8]:
    """Return label maps (T, H, W) of n blobs that drift to the right; every label is in the first frame."""
    random = np.random.Generator(np.random.PCG64(seed))
    maps = np.zeros((sizes.frames, sizes.height, sizes.width), np.uint8)
    places = random.permutation(25)[:n]
    for label, place in enumerate(places, start=1):
        for t in range(sizes.frames):
            x, y = 0.1 + 0.2 * (place % 5) + 0.01 * t, 0.1 + 0.2 * (place // 5)
            maps[t][blob(sizes.height, sizes.width, 0.12, label, x=x, y=y)] = label
    return maps


def _pair(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> tuple[float, float]:
    counts = pair_counts(gt, pred)
    return float(j_of(counts)), float(f_of(counts))


def _public_pair(gt: NDArray[np.bool_], pred: NDArray[np.bool_], dilate: published.Dilate) -> tuple[float, float]:
    void = np.zeros_like(gt)
    return published.jaccard(gt, pred, void), published.boundary_f(gt, pred, void, dilate)


def _assigned(gt: NDArray[np.uint8], pred: NDArray[np.uint8]) -> list[float]:
    """Return the value of each assigned pair, in the order of the proposals."""
    found = Davis().measured("clip", gt, pred)
    return [float((np.mean(j_of(counts)) + np.mean(f_of(counts))) / 2) for _, counts, _ in found]


def _public_assigned(
    gt: NDArray[np.uint8], pred: NDArray[np.uint8], sizes: Sizes, dilate: published.Dilate
) -> list[float]:
    from leanseg.core.matching import assign

    first, second = (
        np.stack([labels == label for label in range(1, n + 1)])
        for labels, n in ((gt, sizes.objects), (pred, sizes.proposals))
    )
    values = published.match(first, second, np.zeros_like(first[0]), dilate)
    return [float(values[p, n]) for p, n in zip(*assign(values, maximise=True), strict=True)]

"""J, F and the unsupervised matching as public evaluators work them out, written anew from descriptions of them.

Whole masks of bytes, one pair after the other: boundaries by shifted copies, dilation by a disk for either mask of
every pair. The dilation is OpenCV's where it is installed, as in the public code, and numpy's by shifted copies too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.metrics.boundary import TOLERANCE

Mask = NDArray[np.bool_]
Dilate = Callable[[Mask, NDArray[np.uint8]], Mask]


def dilations() -> dict[str, Dilate]:
    """Return every way to dilate that is there, by name."""
    ways: dict[str, Dilate] = {"numpy": _by_shifts}
    with suppress(ImportError):
        cv2 = import_module("cv2")
        ways = {
            f"OpenCV {cv2.__version__}": lambda mask, disk: cv2.dilate(mask.astype(np.uint8), disk).astype(bool)
        } | ways
    return ways


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV, where it is installed, use one thread inside the block."""
    try:
        cv2 = import_module("cv2")
    except ImportError:
        yield
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def jaccard(gt: Mask, pred: Mask, void: Mask) -> float:
    """Return J of one pair."""
    inter, union = np.sum((gt & pred) & ~void), np.sum((gt | pred) & ~void)
    return 1.0 if np.isclose(union, 0) else float(inter / union)


def boundary_f(gt: Mask, pred: Mask, void: Mask, dilate: Dilate) -> float:
    """Return F of one pair."""
    radius = math.ceil(TOLERANCE * float(np.linalg.norm(gt.shape)))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    first, second = boundary_map(gt * ~void), boundary_map(pred * ~void)
    gt_matched, pred_matched = first * dilate(second, disk), second * dilate(first, disk)
    n_gt, n_pred = np.sum(first), np.sum(second)
    precision = 1.0 if n_pred == 0 else float(np.sum(pred_matched) / n_pred)
    recall = 1.0 if n_gt == 0 else float(np.sum(gt_matched) / n_gt)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def boundary_map(mask: Mask) -> Mask:
    """Return which pixels differ from the neighbour to the right, below, or below to the right."""
    right, below, both = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1], below[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edges: Mask = (mask ^ right) | (mask ^ below) | (mask ^ both)
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def match(gt: Mask, pred: Mask, void: Mask, dilate: Dilate) -> NDArray[np.float64]:
    """Return the mean of (J + F) / 2 over frames of every prediction (P, T, H, W) with every object (N, T, H, W)."""
    values = np.zeros((len(pred), len(gt)))
    for p, guess in enumerate(pred):
        for n, truth in enumerate(gt):
            j = np.mean([jaccard(*frame) for frame in zip(truth, guess, void, strict=True)])
            f = np.mean([boundary_f(*frame, dilate) for frame in zip(truth, guess, void, strict=True)])
            values[p, n] = (j + f) / 2
    return values


def _by_shifts(mask: Mask, disk: NDArray[np.uint8]) -> Mask:
    radius = len(disk) // 2
    padded = np.pad(mask, radius)
    height, width = mask.shape
    out: Any = np.zeros_like(mask)
    for dy, dx in np.argwhere(disk):
        out |= padded[dy : dy + height, dx : dx + width]
    return np.asarray(out)

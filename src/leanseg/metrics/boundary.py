"""F, the agreement of boundaries, and the whole numbers that J and F of a pair of masks are made of."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics import _bits
from leanseg.metrics._bits import Bits, Counts
from leanseg.metrics._masks import Mask, checked_masks

TOLERANCE = 0.008
# Words of 64 pixels looked at together: what is worked on stays in the processor's cache. Does not change a count.
_CHUNK_WORDS = 8192

COUNTS = ("intersection", "union", "gt_boundary", "pred_boundary", "gt_matched", "pred_matched")
"""The columns of `pair_counts`, all in pixels."""


def boundary_f(
    gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None = None, tolerance: float = TOLERANCE
) -> Any:
    """Return F = 2 P R / (P + R) of two boundaries, which match where they are within a few pixels of each other.

    P is the share of the boundary of `pred` that has some of the boundary of `gt` within r pixels (Euclidean), R the
    share of that of `gt` near that of `pred`; r = ceil(tolerance * diagonal), or `tolerance` itself from 1 on. A pixel
    is boundary where it differs from the one to its right, below or below to the right, so that a mask has none along
    the right and lower border of the picture. Pixels of `void` are outside both masks. Two masks without boundary have
    F = 1 (also a full and an empty one: J is 0 there), one with and one without have F = 0.

    Masks (..., H, W), any whole number but 0 is inside. Returns a float for one pair of masks, else float64 (...).
    Same as F of the DAVIS 2017 evaluation, digit by digit. Cost: O(r H W / 64) at most (docs/metrics.md).

    >>> boundary_f([[0, 1, 1, 0]], [[0, 0, 1, 0]], tolerance=1)
    1.0
    """
    measure = f_of(pair_counts(gt, pred, void, tolerance))
    return float(measure) if measure.ndim == 0 else measure


def boundary_map(mask: npt.ArrayLike) -> Mask:
    """Return which pixels of a mask (..., H, W) are its boundary, as `boundary_f` sees it.

    >>> boundary_map([[0, 0, 0], [0, 1, 0], [0, 0, 0]]).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    truth, _, _ = checked_masks(mask, mask, None, "void", binary=False)
    return _bits.unpack(_bits.boundary(_bits.pack(truth), truth.shape[-1]), truth.shape[-1])


def boundary_radius(height: int, width: int, tolerance: float = TOLERANCE) -> int:
    """Return how far apart two boundaries may be in a picture of this size and still match, in pixels.

    >>> boundary_radius(480, 854), boundary_radius(60, 80), boundary_radius(60, 80, tolerance=3)
    (8, 1, 3)
    """
    if not 0.0 <= tolerance < math.inf or (tolerance >= 1.0 and tolerance != int(tolerance)):
        raise InputError(
            f"tolerance is {tolerance}; expected a fraction of the diagonal below 1, as 0.008 is, or whole pixels"
        )
    return int(tolerance) if tolerance >= 1.0 else math.ceil(tolerance * math.sqrt(height * height + width * width))


def pair_counts(
    gt: npt.ArrayLike, pred: npt.ArrayLike, void: npt.ArrayLike | None = None, tolerance: float = TOLERANCE
) -> Counts:
    """Return the six counts of `COUNTS` for each pair of masks (..., H, W), as int64 (..., 6): J and F come from them.

    >>> pair_counts([[0, 1, 1, 0]], [[0, 0, 1, 0]], tolerance=1).tolist()
    [1, 2, 2, 2, 2, 2]
    """
    truth, guess, ignored = checked_masks(gt, pred, void, "void", binary=False)
    height, width = truth.shape[-2:]
    radius = boundary_radius(height, width, tolerance)
    if ignored is not None:
        truth, guess = truth & ~ignored, guess & ~ignored
    flat = truth.reshape(-1, height, width), guess.reshape(-1, height, width)
    counts = np.empty((len(flat[0]), len(COUNTS)), np.int64)
    for part in _chunks(len(counts), height, width):
        first, second = _bits.pack(flat[0][part]), _bits.pack(flat[1][part])
        counts[part] = _compare(first, second, width, radius)
    return counts.reshape(*truth.shape[:-2], len(COUNTS))


class Outlines(NamedTuple):
    """What comparing one mask with many needs of each: all of it is worked out once per mask."""

    bits: Bits
    area: Counts
    edges: Bits
    length: Counts
    near: Bits


def outlines(masks: Mask, radius: int) -> Outlines:
    """Return the outlines of masks (K, H, W)."""
    bits = _bits.pack(masks)
    edges = _bits.boundary(bits, masks.shape[-1])
    rows = _extent(edges.any(axis=(0, 2)), radius)
    near = np.zeros_like(edges)
    near[:, rows] = _bits.dilate(edges[:, rows], radius)
    return Outlines(bits, _bits.count(bits), edges, _bits.count(edges), near)


def cross_counts(gt: Outlines, pred: Outlines) -> Counts:
    """Return the counts of `COUNTS` for every prediction with every ground truth of one frame: (P, N, 6)."""
    counts = np.empty((len(pred.area), len(gt.area), len(COUNTS)), np.int64)
    for p in range(len(pred.area)):
        rows = _extent(pred.bits[p].any(axis=1), 0)
        counts[p, :, 0] = _bits.count(gt.bits[:, rows] & pred.bits[p, rows])
        rows = _extent(pred.edges[p].any(axis=1), 0)
        counts[p, :, 5] = _bits.count(gt.near[:, rows] & pred.edges[p, rows])
        rows = _extent(pred.near[p].any(axis=1), 0)
        counts[p, :, 4] = _bits.count(gt.edges[:, rows] & pred.near[p, rows])
    counts[:, :, 1] = gt.area + pred.area[:, None] - counts[:, :, 0]
    counts[:, :, 2], counts[:, :, 3] = gt.length, pred.length[:, None]
    return counts


def j_of(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return J of `pair_counts` (..., 6); 1 where the union is empty."""
    inter, union = counts[..., 0], counts[..., 1]
    return np.asarray(np.where(union == 0, 1.0, inter / np.maximum(union, 1)))


def f_of(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return F of `pair_counts` (..., 6)."""
    n_gt, n_pred = counts[..., 2], counts[..., 3]
    # Nothing predicted is never wrong, nothing there is never missed; of the other one nothing matches then: F = 0.
    precision = np.where(n_pred == 0, 1.0, counts[..., 5] / np.maximum(n_pred, 1))
    recall = np.where(n_gt == 0, 1.0, counts[..., 4] / np.maximum(n_gt, 1))
    total = precision + recall
    return np.asarray(np.where(total == 0, 0.0, 2.0 * precision * recall / np.where(total == 0, 1.0, total)))


def _compare(gt: Bits, pred: Bits, width: int, radius: int) -> Counts:
    inter, union = _bits.count(gt & pred), _bits.count(gt | pred)
    gt_edges, pred_edges = _bits.boundary(gt, width), _bits.boundary(pred, width)
    lengths = _bits.count(gt_edges), _bits.count(pred_edges)
    # Boundaries are only counted where there are some, and these rows and words see all that is near them.
    both = gt_edges | pred_edges
    rows, words = _extent(both.any(axis=(0, 2)), 0), _extent(both.any(axis=(0, 1)), 0)
    gt_edges, pred_edges = gt_edges[:, rows, words], pred_edges[:, rows, words]
    matched = (
        _bits.count(gt_edges & _bits.dilate(pred_edges, radius)),
        _bits.count(pred_edges & _bits.dilate(gt_edges, radius)),
    )
    return np.stack([inter, union, *lengths, *matched], axis=-1)


def _extent(present: Any, margin: int) -> slice:
    """Return the slice from the first to the last that is present, and `margin` more on both sides."""
    found = np.flatnonzero(present)
    return slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin) if len(found) else slice(0, 0)


def _chunks(n: int, height: int, width: int) -> Iterator[slice]:
    step = max(1, _CHUNK_WORDS // (height * -(-width // _bits.WORD)))
    return (slice(begin, begin + step) for begin in range(0, n, step))

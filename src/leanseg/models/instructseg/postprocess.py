"""Mask logits become the answer at the picture's size; objects merge into labels; reference frames are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leanseg.errors import InputError
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.shapes import Bool, Float

STRIDE = 4  # input pixels per mask logit
MAX_OBJECTS = 255  # a label image has one byte per pixel, 0 is background
ROUNDING = 1 + 1e-5  # how far a float32 mean of sigmoids may lie above the sigmoid of the largest logit

Size = tuple[int, int]


@dataclass(frozen=True)
class BestMask:
    """The answer: query `query`, whose `score` = `class_score` * `mask_score` is highest; logits at the output size."""

    logits: Float[Tensor, "h w"]
    query: int
    class_score: float
    mask_score: float

    @property
    def score(self) -> float:
        return self.class_score * self.mask_score

    @property
    def mask(self) -> Bool[Tensor, "h w"]:
        return self.logits > 0

    @property
    def probability(self) -> Float[Tensor, "h w"]:
        return self.logits.sigmoid()


def output_logits(
    mask_logits: Float[Tensor, "h w"],
    *,
    valid_size: Size,
    output_size: Size,
    padded_size: Size | None = None,
) -> Float[Tensor, "ho wo"]:
    """Bring one mask's logits to the output size in float32: enlarge to the padded input, cut the picture, resize.

    `valid_size` is the part of the input that is picture; `padded_size` None means four times the logits' size, which
    is the input's. All sizes are (height, width); both resizes are bilinear (align_corners False).
    """
    padded = padded_size or (STRIDE * mask_logits.shape[-2], STRIDE * mask_logits.shape[-1])
    height, width = valid_size
    if not (0 < height <= padded[0] and 0 < width <= padded[1]):
        raise InputError(
            f"the picture's part is {height} x {width} of an input of {padded[0]} x {padded[1]}; "
            "expected at least 1 x 1 and no more than the input; pass what mask_pixels returned"
        )
    enlarged = F.interpolate(mask_logits.float()[None, None], size=padded, mode="bilinear", align_corners=False)
    cut = enlarged[..., :height, :width]
    return F.interpolate(cut, size=output_size, mode="bilinear", align_corners=False)[0, 0]


def mask_quality(logits: Float[Tensor, "h w"]) -> float:
    """Return the mean probability inside the mask (logits above 0), and 0 for an empty mask."""
    inside = (logits > 0).float()
    return float((logits.sigmoid() * inside).sum() / (inside.sum() + 1e-6))


def best_mask(
    prediction: MaskPrediction,
    row: int,
    *,
    valid_size: Size,
    output_size: Size,
    padded_size: Size | None = None,
) -> BestMask:
    """Return the query of instruction `row` with the highest class score * mask quality, the lowest index on a tie.

    The quality is that of the mask at the output size, but few masks get there: a mean of sigmoids inside a mask is
    at most the sigmoid of the largest logit, and resizing makes no logit larger. So queries are tried in order of this
    upper bound, one at a time, until no bound reaches the best score. The result is that of trying all of them.
    Sizes as in `output_logits`.
    """
    class_scores = prediction.score_logits[row].float().sigmoid()
    peak = prediction.mask_logits[row].float().amax(dim=(-2, -1))
    bounds = class_scores * peak.sigmoid() * (peak > 0) * ROUNDING
    order = bounds.sort(descending=True, stable=True).indices.tolist()
    bound_of, class_score_of = bounds.tolist(), class_scores.tolist()
    best: BestMask | None = None
    for query in order:
        if best is not None:
            if bound_of[query] < best.score:
                break
            if bound_of[query] == best.score and query > best.query:
                continue
        logits = output_logits(
            prediction.mask_logits[row, query], valid_size=valid_size, output_size=output_size, padded_size=padded_size
        )
        candidate = BestMask(logits, query, class_score_of[query], mask_quality(logits))
        if best is None or (candidate.score, -candidate.query) > (best.score, -best.query):
            best = candidate
    if best is None:
        raise InputError("there is no query to choose a mask from; expected at least one")
    return best


def full_postprocess(
    prediction: MaskPrediction,
    row: int,
    *,
    valid_size: Size,
    output_size: Size,
    padded_size: Size | None = None,
) -> list[BestMask]:
    """Return all queries of instruction `row` at the output size, in query order: what `best_mask` chooses from."""
    masks = [
        output_logits(logits, valid_size=valid_size, output_size=output_size, padded_size=padded_size)
        for logits in prediction.mask_logits[row]
    ]
    class_scores = prediction.score_logits[row].float().sigmoid().tolist()
    return [
        BestMask(logits, query, score, mask_quality(logits))
        for query, (logits, score) in enumerate(zip(masks, class_scores, strict=True))
    ]


def davis_merge(maps: NDArray[np.generic], *, soft: bool = True) -> NDArray[np.uint8]:
    """Merge the maps (N, H, W) of N objects into one label image (H, W); 0 is background. Used for Ref-DAVIS.

    Soft maps are probabilities: the label is the argmax over [prod_i (1 - p_i), p_1, ..., p_N], the first on a tie.
    Otherwise maps are binary, and a later object covers an earlier one.

    >>> davis_merge(np.array([[[0.9, 0.4]], [[0.3, 0.7]]])).tolist()
    [[1, 2]]
    """
    _check_maps(maps)
    if soft:
        probabilities = maps.astype(np.promote_types(maps.dtype, np.float32))
        background = np.prod(1 - probabilities, axis=0, keepdims=True)
        return np.concatenate([background, probabilities]).argmax(axis=0).astype(np.uint8)
    labels = np.zeros(maps.shape[1:], dtype=np.uint8)
    for label, mask in enumerate(maps, start=1):
        labels[mask.astype(bool)] = label
    return labels


def _check_maps(maps: NDArray[np.generic]) -> None:
    if maps.ndim != 3 or not 1 <= len(maps) <= MAX_OBJECTS:
        raise InputError(
            f"maps to merge have shape {tuple(maps.shape)}; "
            f"expected (objects, height, width) with 1 to {MAX_OBJECTS} objects"
        )


def reference_frames(index: int, n_frames: int, count: int = 4) -> list[int]:
    """Return the `count` frames around key frame `index`, half before and half after, moved inward at the clip's ends.

    Differs from the released code, which fails on a clip of at most `count` frames, as the window reaches outside: here
    each index is clamped into the clip, so there are always `count`, some of them more than once.

    >>> reference_frames(5, 12), reference_frames(0, 12), reference_frames(11, 12), reference_frames(0, 2)
    ([3, 4, 6, 7], [1, 2, 3, 4], [7, 8, 9, 10], [1, 1, 1, 1])
    """
    if not 0 <= index < n_frames:
        raise InputError(f"key frame {index} is not in a clip of {n_frames} frames; expected 0 to {n_frames - 1}")
    if count < 0:
        raise InputError(f"{count} reference frames were asked for; expected 0 or more")
    before = count // 2
    if index < before:
        start = 0
    elif index >= n_frames - (count - before):
        start = n_frames - 1 - count
    else:
        start = index - before
    around = [frame for frame in range(start, start + count + 1) if frame != index]
    return [min(max(frame, 0), n_frames - 1) for frame in around[:count]]

"""Mask, score and matching losses of InstructSeg's training (instruction = one target mask, so matching is an argmin).

Source: InstructSeg (arXiv 2412.14006), which follows Mask2Former (arXiv 2112.01527): point-sampled binary cross-entropy
and dice with importance sampling, costs 5 and 5, score weight 2, the same losses on every decoder prediction (deep
supervision). Differs from the reference: the Hungarian assignment is an argmin, since an instruction has exactly one
target (the union of what it asks for); an instruction with an empty target trains the scores only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.models.instructseg.mask_decoder import MaskPrediction


@dataclass(frozen=True, kw_only=True)
class MaskLossOptions:
    """Weights and point sampling of the mask loss; the defaults are the released recipe's."""

    mask_weight: float = 5.0
    dice_weight: float = 5.0
    score_weight: float = 2.0
    n_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    every_query_weight: float = 0.0
    """Weight of the mask loss of the queries that were not matched; 0 in the released recipe."""


def sample_at(maps: Tensor, points: Tensor) -> Tensor:
    """Return the bilinear samples of `maps` (M,h,w) at `points` (M,P,2), (x,y) in [0,1]: (M,P)."""
    grid = (points * 2 - 1).unsqueeze(1)
    return F.grid_sample(maps.unsqueeze(1), grid, align_corners=False, padding_mode="zeros")[:, 0, 0]


def uncertain_points(logits: Tensor, options: MaskLossOptions, generator: torch.Generator) -> Tensor:
    """Return (M,P,2) points of (M,h,w) logits: a share `importance` where these are undecided, the rest anywhere.

    Undecided are the points of smallest |logit| among `oversample` times as many.
    """
    count = logits.shape[0]
    drawn = int(options.n_points * options.oversample)
    kept = int(options.n_points * options.importance)
    points = torch.rand(count, drawn, 2, generator=generator).to(logits.device)
    uncertainty = -sample_at(logits, points).abs()
    best = uncertainty.topk(kept, dim=1).indices
    chosen = points.gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
    anywhere = torch.rand(count, options.n_points - kept, 2, generator=generator).to(logits.device)
    return torch.cat([chosen, anywhere], dim=1)


def point_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean binary cross-entropy and the dice loss of each row of point samples (M,P): (M,), (M,)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * targets).sum(1) + 1) / (probability.sum(1) + targets.sum(1) + 1)
    return cross_entropy, dice


def prediction_loss(
    prediction: MaskPrediction, targets: Tensor, options: MaskLossOptions, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the losses of one decoder prediction.

    `prediction` holds B instructions with Q queries; `targets` is (B,H,W), 0/1 floats, possibly empty.
    """
    batch, queries = prediction.score_logits.shape
    device = targets.device
    has_target = targets.flatten(1).any(1)
    masks = prediction.mask_logits.float()
    shared = torch.rand(batch, options.n_points, 2, generator=generator).to(device)
    with torch.set_grad_enabled(options.every_query_weight > 0):
        at_points = sample_at(masks.flatten(0, 1), shared.repeat_interleave(queries, 0))
        wanted = sample_at(targets, shared).repeat_interleave(queries, 0)
        cross_entropy, dice = point_losses(at_points, wanted)
        cost = (options.mask_weight * cross_entropy + options.dice_weight * dice).view(batch, queries)
    matched = cost.argmin(1)
    rows = torch.arange(batch, device=device)
    losses = _mask_losses(masks[rows, matched][has_target], targets[has_target], options, generator)
    if options.every_query_weight > 0 and bool(has_target.any()):
        losses["every"] = options.every_query_weight * cost[has_target].mean()
    labels = torch.zeros(batch, queries, device=device)
    labels[rows, matched] = has_target.float()
    positives = labels.sum().clamp(min=1)
    weight = (labels.numel() - positives) / positives
    scores = F.binary_cross_entropy_with_logits(prediction.score_logits.float(), labels, pos_weight=weight)
    return {**losses, "score": options.score_weight * scores}


def _mask_losses(
    masks: Tensor, targets: Tensor, options: MaskLossOptions, generator: torch.Generator
) -> dict[str, Tensor]:
    if masks.shape[0] == 0:
        zero = masks.sum() * 0
        return {"mask": zero, "dice": zero}
    with torch.no_grad():
        points = uncertain_points(masks, options, generator)
        wanted = sample_at(targets, points)
    cross_entropy, dice = point_losses(sample_at(masks, points), wanted)
    return {"mask": options.mask_weight * cross_entropy.mean(), "dice": options.dice_weight * dice.mean()}


def mask_loss(
    predictions: Sequence[MaskPrediction], targets: Tensor, options: MaskLossOptions, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the losses of all decoder predictions: the last one under its name, the earlier ones summed as `deep`."""
    last = prediction_loss(predictions[-1], targets, options, generator)
    deep = [sum(prediction_loss(one, targets, options, generator).values()) for one in predictions[:-1]]
    return {**last, "deep": torch.stack([torch.as_tensor(one) for one in deep]).sum()} if deep else last


def target_mass_loss(attention: Tensor, relevant: Tensor) -> Tensor:
    """Return -log of the share of attention that falls on relevant tokens, averaged over rows that have any.

    `attention` (R,N) is non-negative (its rows need not sum to 1), `relevant` (R,N) bool. A loss of our own: it
    teaches the mask tokens where to look and vanishes at inference.
    """
    rows = relevant.any(1)
    share = (attention * relevant).sum(1) / (attention.sum(1) + 1e-6)
    loss = -(share + 1e-4).log()
    return (loss * rows).sum() / rows.sum().clamp(min=1)

"""VLTP's losses on masks and on what the stages keep, and the labels of the latter.

Source: VLTP (arXiv:2409.08464), Eqs. 12 and 13, with LISA's (arXiv:2308.00692) cross-entropy and dice as the public
code has them. That code lacks the loss on the stages; here it has the same form and weights, as a mean over stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.errors import InputError
from leanseg.models.sam.pictures import fill_up, scaled_size
from leanseg.shapes import Bool, Float

DICE_SCALE, DICE_EPSILON = 1000, 1e-6
COUNT_EPSILON = 1e-8  # keeps a batch without a mask at zero


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors of cross-entropy and dice on the masks (L_X) and on the stages (L_P)."""

    mask_bce: float = 2.0
    mask_dice: float = 0.5
    prune_bce: float = 2.0
    prune_dice: float = 0.5


def bce(logits: Float[Tensor, " m *p"], targets: Float[Tensor, " m *p"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of M masks: the mean over each one's pixels, summed, by M + 1e-8."""
    each = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").flatten(1).mean(1)
    return each.sum() / (logits.shape[0] + COUNT_EPSILON)


def dice(logits: Float[Tensor, " m *p"], targets: Float[Tensor, " m *p"]) -> Float[Tensor, ""]:
    """Return 1 - (2 sum(pt)/1000 + 1e-6) / (sum(p)/1000 + sum(t)/1000 + 1e-6) of M masks, summed, by M + 1e-8.

    p is the logits' sigmoid; the scale and the constant are the public code's.
    """
    given, wanted = logits.float().sigmoid().flatten(1), targets.float().flatten(1)
    shared = 2 * (given / DICE_SCALE * wanted).sum(1) + DICE_EPSILON
    both = (given / DICE_SCALE).sum(1) + (wanted / DICE_SCALE).sum(1) + DICE_EPSILON
    return (1 - shared / both).sum() / (logits.shape[0] + COUNT_EPSILON)


def mask_losses(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return `bce` and `dice` over all masks of pictures of different sizes: logits and 0/1 masks (n_i, H_i, W_i)."""
    shapes = [(tuple(given.shape), tuple(wanted.shape)) for given, wanted in zip(logits, targets, strict=False)]
    if len(logits) != len(targets) or not logits or any(given != wanted for given, wanted in shapes):
        raise InputError(
            f"{len(logits)} pictures' logits came with {len(targets)} pictures' masks of shapes {shapes}; expected a "
            "mask per logit map, of its size; resize the logits before"
        )
    n_masks = sum(len(wanted) for wanted in targets) + COUNT_EPSILON
    pairs = list(zip(logits, targets, strict=True))
    return {
        name: torch.stack([loss(given, wanted) * len(wanted) for given, wanted in pairs]).sum() / n_masks
        for name, loss in (("bce", bce), ("dice", dice))
    }


def prune_losses(logits: Sequence[Tensor], labels: Float[Tensor, "r n"]) -> dict[str, Tensor]:
    """Return `bce` and `dice` between every stage's logits (R, N) and the same labels, as means over the stages."""
    strange = [tuple(stage.shape) for stage in logits if stage.shape != labels.shape]
    if strange or not logits:
        raise InputError(
            f"the stages' logits have shapes {strange or 'of no stage'}, the labels {tuple(labels.shape)}; expected a "
            "stage at least, and one logit per label"
        )
    return {
        name: torch.stack([loss(stage, labels) for stage in logits]).mean()
        for name, loss in (("bce", bce), ("dice", dice))
    }


def total_loss(
    masks: dict[str, Tensor], prune: dict[str, Tensor] | None = None, weights: LossWeights | None = None
) -> Tensor:
    """Return L_X + L_P (Eq. 12), weighted; L_X alone without stages."""
    chosen = weights or LossWeights()
    loss = chosen.mask_bce * masks["bce"] + chosen.mask_dice * masks["dice"]
    if prune is not None:
        loss = loss + chosen.prune_bce * prune["bce"] + chosen.prune_dice * prune["dice"]
    return loss


def patch_labels(masks: Bool[Tensor, "r h w"], *, size: int = 1024, patch: int = 16) -> Float[Tensor, "r n"]:
    """Return 1 for each patch of SAM's input in which any pixel of the mask lies (Eq. 13), row by row.

    The mask is scaled as the picture is, nearest, and filled up. A mask that is empty, or that scaling loses, has no 1.

    >>> patch_labels(torch.tensor([[[False, True]]]), size=4, patch=2)
    tensor([[0., 1., 0., 0.]])
    """
    return F.max_pool2d(_filled_up(masks, size, patch), patch).flatten(1)


def patch_coverage(masks: Bool[Tensor, "r h w"], *, size: int = 1024, patch: int = 16) -> Float[Tensor, "r n"]:
    """Return the share of each patch that lies inside the mask, scaled as for `patch_labels`; 0 and 1 are exact."""
    return F.avg_pool2d(_filled_up(masks, size, patch), patch).flatten(1)


def _filled_up(masks: Tensor, size: int, patch: int) -> Tensor:
    if size % patch:
        raise InputError(f"the input is {size} pixels wide; expected a multiple of the patch size {patch}")
    scaled = F.interpolate(masks.float()[:, None], size=scaled_size(*masks.shape[1:], size=size), mode="nearest")
    return fill_up(scaled, size)

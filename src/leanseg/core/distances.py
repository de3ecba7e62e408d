"""Squared Euclidean distances that are zero where two points are equal, in float64."""

import math

import torch

from leanseg.shapes import Float, Int, Tensor

# Below this share of |a|^2 + |b|^2 the difference |a|^2 + |b|^2 - 2ab is rounding noise of float64 (about
# sqrt(D) * 1e-16 of it), so that it counts as zero: equal points are at distance 0 exactly.
NOISE = 1e-13


def squared(
    products: Float[Tensor, "*pairs"], norms_a: Float[Tensor, "..."], norms_b: Float[Tensor, "..."]
) -> Float[Tensor, "*pairs"]:
    """Return |a - b|^2 from the inner products and the squared norms, which must broadcast to the products' shape."""
    both = norms_a + norms_b
    distances = both.sub(products, alpha=2.0)
    return distances.masked_fill_(distances < both.mul_(NOISE), 0.0)


def centred(points: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], float]:
    """Return float64 points around their mean, scaled to a largest entry of about 1, and that scale.

    Neither changes which point is farthest; both keep the inner products from cancelling or overflowing. The scale is a
    power of two, so that scaling rounds nothing.
    """
    detached = points.detach()
    scale = 2.0 ** min(max(math.frexp(float(detached.abs().amax()))[1], -1022), 1022)
    unit = detached.to(torch.float64) / scale
    return unit.sub_(unit.mean(dim=0)), scale


def nearest_kept_index(points: Float[Tensor, "n d"], kept: Int[Tensor, " k"]) -> Int[Tensor, " n"]:
    """Return for each point the slot 0..K-1 of the nearest of the points `kept`; the lowest slot wins ties.

    A kept point is its own nearest one, also where an equal point has a lower slot.
    """
    around, _ = centred(points)
    norms = around.square().sum(1)
    distances = squared(around @ around[kept].T, norms[:, None], norms[kept])
    slots = distances.argmin(dim=1)
    slots[kept] = torch.arange(len(kept), device=slots.device)
    return slots


def nearest_kept(points: Float[Tensor, "n d"], kept: Float[Tensor, "k d"]) -> Float[Tensor, " n"]:
    """Return the Euclidean distance of each point to the nearest of `kept`, in float64."""
    both, scale = centred(torch.cat([points, kept]))
    around, centres = both[: len(points)], both[len(points) :]
    products = around @ centres.T
    distances = squared(products, around.square().sum(1, keepdim=True), centres.square().sum(1))
    return distances.amin(dim=1).sqrt() * scale

"""Cosine similarity in a precision at which rounding does not decide which tokens are alike."""

import torch

from leanseg.shapes import Float, Tensor

EPSILON = 1e-12

# Similarities that agree to so many decimals are a tie: equal tokens have equal similarities on paper, and the rounding
# of a matrix product (about 1e-16 in float64) must not choose among them.
DECIMALS = 10


def precise(values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return values in float64, or in float32 on a device without float64."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def unit(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return the rows at length 1; rows of zeros stay zero."""
    wide = precise(rows.detach())
    # Scaled to a largest entry of 1 first, so that squares neither overflow nor vanish.
    wide = wide / wide.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(wide.dtype).tiny)
    return wide / wide.norm(dim=1, keepdim=True).clamp_min(EPSILON)


def cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return the inner products of unit rows, rounded so that what ties on paper ties here.

    >>> cosines(unit(torch.tensor([[2.0, 0.0], [0.0, 0.0]])), unit(torch.tensor([[3.0, 4.0]]))).tolist()
    [[0.6], [0.0]]
    """
    return (a @ b.T).mul_(10.0**DECIMALS).round_().div_(10.0**DECIMALS)

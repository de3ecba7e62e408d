"""Farthest-first where points differ in importance, or where some of them are owed a share of the picks."""

import math
from collections.abc import Callable

import torch

from leanseg.core.distances import centred, squared
from leanseg.core.kcenter.reference import TIE
from leanseg.shapes import Bool, Float, Int, Tensor

# As in the plain engine: all inner products at once where the picks are many and the points not too many.
_ROWS_BELOW = 16
_LARGEST_GRAM = 8192


def farthest_weighted(
    points: Float[Tensor, "b n d"],
    k: int,
    starts: Int[Tensor, " b"],
    *,
    weights: Float[Tensor, "b n"] | None = None,
    owed: Bool[Tensor, " n"] | None = None,
    share: float = 0.0,
) -> Int[Tensor, "b k"]:
    """Return the order of `k` picks, each the point whose `weights` times its distance to all picks is largest.

    `owed` marks points among which at least `ceil(share * t)` of the first t picks lie, for every t, as long as there
    are so many: where they fall behind, the next pick is the farthest of them. Starts count, and must then be owed
    themselves. `weights` must not be negative; None = all equal. Then, and without a share, this is
    `leanseg.core.kcenter.select`, and ties are broken as there: to the lowest index among squared values that agree to
    one part in 10^10. The first K' picks are those of a run with K'.
    Float64 inside, each row as if it were alone. Cost as there: O(N^2 D) or O(K N D), whichever is less work.
    """
    device = points.device
    if device.type == "mps":  # has no float64
        points, starts = points.cpu(), starts.cpu()
    count = points.shape[1]
    rows = weights if weights is not None else torch.ones((len(points), count), dtype=torch.float64)
    members = owed if owed is not None else torch.zeros(count, dtype=torch.bool)
    quotas = _quotas(k, share, int(members.sum()))
    members = members.to(points.device)
    orders = []
    for row, weight, start in zip(points, rows.to(points.device, torch.float64), starts, strict=True):
        around, _ = centred(row)
        orders.append(_pick(_distances_to(around, k), start, weight.square(), members, quotas))
    return torch.stack(orders).to(device)


def _quotas(k: int, share: float, members: int) -> list[int]:
    """Return how many of the first 1..k picks are owed; a hair less before rounding up, so that 0.2 * 5 owes one."""
    return [min(math.ceil(share * picks - 1e-9), members) for picks in range(1, k + 1)]


def _distances_to(points: Float[Tensor, "n d"], k: int) -> Callable[[Tensor], Tensor]:
    """Return the function from a pick to the squared distances of all points to it."""
    norms = points.square().sum(dim=1)
    if len(points) <= _LARGEST_GRAM and k * _ROWS_BELOW >= len(points):
        products = points @ points.T
        norms = products.diagonal().clone()
        distances = squared(products, norms[:, None], norms[None, :])
        return lambda pick: distances[pick]
    return lambda pick: squared(points @ points[pick], norms, norms[pick])


def _pick(
    distances_to: Callable[[Tensor], Tensor],
    start: Int[Tensor, ""],
    weights: Float[Tensor, " n"],
    members: Bool[Tensor, " n"],
    quotas: list[int],
) -> Int[Tensor, " k"]:
    """The greedy loop on squared distances and squared weights; -1 where a point may not be picked."""
    nearest = torch.full_like(weights, torch.inf)
    taken = torch.zeros_like(members)
    picks = [start]
    for quota in quotas[1:]:
        nearest = torch.minimum(nearest, distances_to(picks[-1]))
        taken = taken.scatter(0, picks[-1][None], True)
        # Few enough members among the picks: then none but a member may follow.
        behind = (taken & members).sum() < quota
        value = torch.where(taken | (behind & ~members), -1.0, nearest * weights)
        top = value.amax()
        # argmax takes the first of equals.
        picks.append((value >= top - TIE * top.abs()).to(torch.uint8).argmax())
    return torch.stack(picks)

"""Greedy k-center in plain torch: the engine that every other one must agree with."""

from collections.abc import Callable

import torch

from leanseg.core.distances import centred, squared
from leanseg.shapes import Float, Int, Tensor

# Squared distances closer than this, relative to the largest, are a tie: regular grids tie exactly on paper, and
# rounding must not decide there. Float64 noise is two orders below it, distances of real features far above.
TIE = 1e-10

# All inner products at once cost N^2 D, one row of them per pick K N D at about a sixteenth of the speed.
_ROWS_BELOW = 16
_LARGEST_GRAM = 8192


def farthest_first(
    points: Float[Tensor, "b n d"], k: int, starts: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return pick order and radius after each pick; see `leanseg.core.kcenter.select`."""
    device = points.device
    if device.type == "mps":  # has no float64
        points, starts = points.cpu(), starts.cpu()
    # Row by row, so that a row's numbers cannot depend on the batch it stands in.
    prepared = [centred(row) for row in points]
    around = torch.stack([row for row, _ in prepared])
    scale = torch.tensor([scale for _, scale in prepared], dtype=torch.float64, device=points.device)
    n_points = points.shape[1]
    if n_points <= _LARGEST_GRAM and k * _ROWS_BELOW >= n_points:
        distances = torch.stack([_all_distances(row) for row in around])
        rows = torch.arange(len(around), device=around.device)
        order, radius = _pick(lambda picked: distances[rows, picked], starts, n_points, k)
    else:
        norms = torch.stack([row.square().sum(dim=1) for row in around])
        order, radius = _pick(lambda picked: _distances_to(around, norms, picked), starts, n_points, k)
    return order.to(device), (radius * scale[:, None]).to(device if device.type != "mps" else "cpu")


def most_isolated(points: Float[Tensor, "b n d"]) -> Int[Tensor, " b"]:
    """Return the point of each row whose nearest other point is farthest; see `leanseg.core.kcenter.isolated`."""
    rows = points.cpu() if points.device.type == "mps" else points  # mps has no float64
    return torch.stack([_most_isolated(centred(row)[0]) for row in rows]).to(points.device)


def _most_isolated(points: Float[Tensor, "n d"]) -> Int[Tensor, ""]:
    norms = points.square().sum(dim=1)
    nearest = []
    for first in range(0, len(points), _LARGEST_GRAM // 8):
        some = points[first : first + _LARGEST_GRAM // 8]
        distances = squared(some @ points.T, norms[first : first + len(some), None], norms)
        # A point alone has no other; its distance is infinite and it is the answer.
        distances.diagonal(first).fill_(torch.inf)
        nearest.append(distances.amin(dim=1))
    near = torch.cat(nearest)
    return (near >= near.amax() * (1.0 - TIE)).to(torch.uint8).argmax()


def _all_distances(points: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    products = points @ points.T
    norms = products.diagonal().clone()
    return squared(products, norms[:, None], norms[None, :])


def _distances_to(
    around: Float[Tensor, "b n d"], norms: Float[Tensor, "b n"], picked: Int[Tensor, " b"]
) -> Float[Tensor, "b n"]:
    products = torch.stack([points @ points[pick] for points, pick in zip(around, picked, strict=True)])
    return squared(products, norms, norms.gather(1, picked[:, None]))


def _pick(
    distances_to: Callable[[Tensor], Tensor], starts: Int[Tensor, " b"], n_points: int, k: int
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """The greedy loop: a running minimum of squared distances, with -1 where a point is picked. No host round trips."""
    nearest = torch.full((len(starts), n_points), torch.inf, dtype=torch.float64, device=starts.device)
    picked = starts
    picks, tops = [], []
    for _ in range(k):
        torch.minimum(nearest, distances_to(picked), out=nearest)
        nearest.scatter_(1, picked[:, None], -1.0)
        top = nearest.amax(dim=1, keepdim=True)
        picks.append(picked)
        tops.append(top)
        # argmax takes the first of equals; a picked point (-1) never ties, as the best is not negative before the end.
        picked = (nearest >= top - TIE * top.abs()).to(torch.uint8).argmax(dim=1)
    return torch.stack(picks, dim=1), torch.cat(tops, dim=1).clamp_min(0.0).sqrt()

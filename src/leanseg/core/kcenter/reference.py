"""Greedy k-center in plain torch: the engine that every other one must agree with, and the one that runs anywhere."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from leanseg.core.distances import NOISE, centred, squared
from leanseg.shapes import Float, Int, Tensor

# Squared distances closer than this, relative to the largest, are a tie: regular grids tie exactly on paper, and
# rounding must not decide there. Float64 noise is two orders below it, distances of real features far above.
TIE = 1e-10

NOT_FINITE = "points holds values that are NaN or infinite; look for an overflow upstream"

# All inner products at once cost N^2 D, one row of them per pick K N D at about a sixteenth of the speed.
_ROWS_BELOW = 16
_LARGEST_GRAM = 8192
_GRAM_ROWS = 1024

# Below this share of |a|^2 + |b|^2, inner products have lost the digits that ties and radii need: differences instead.
_CLOSE = 1e-3
_DIFFERENCES = 2**22


def farthest_first(
    points: Float[Tensor, "b n d"], k: int, starts: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return pick order and radius after each pick; see `leanseg.core.kcenter.select`."""
    # Row by row, so that a row's numbers cannot depend on the batch it stands in.
    picks = [_farthest_first(row, k, start) for row, start in zip(points, starts, strict=True)]
    order, radius = (torch.stack(parts) for parts in zip(*picks, strict=True))
    return order, radius


def most_isolated(points: Float[Tensor, "b n d"]) -> Int[Tensor, " b"]:
    """Return the point of each row whose nearest other point is farthest; see `leanseg.core.kcenter.isolated`."""
    return torch.stack([_most_isolated(row) for row in points])


@dataclass(frozen=True, eq=False)
class _Row:
    """Points scaled by a power of two, as they are and around their mean, and the squared norms of the latter."""

    points: Float[Tensor, "n d"]
    around: Float[Tensor, "n d"]
    norms: Float[Tensor, " n"]
    scale: float

    @staticmethod
    def of(points: Float[Tensor, "n d"]) -> "_Row":
        around, scale = centred(points)
        return _Row(points.detach().to(torch.float64) / scale, around, around.square().sum(dim=1), scale)


def _farthest_first(
    points: Float[Tensor, "n d"], k: int, start: Int[Tensor, ""]
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    row = _Row.of(points)
    n_points = len(points)
    if n_points <= _LARGEST_GRAM and k * _ROWS_BELOW >= n_points:
        distances = torch.cat([_distances(row, some) for some in _blocks(n_points, points.device)])
        order, radius = _pick(lambda picked: distances[picked], start, n_points, k)
    else:
        order, radius = _pick(lambda picked: _distances(row, picked[None])[0], start, n_points, k)
    return order, radius * row.scale


def _most_isolated(points: Float[Tensor, "n d"]) -> Int[Tensor, ""]:
    row = _Row.of(points)
    nearest = []
    for some in _blocks(len(points), points.device):
        # A point alone has no other; its distance is infinite and it is the answer.
        distances = _distances(row, some).scatter_(1, some[:, None], torch.inf)
        nearest.append(distances.amin(dim=1))
    near = torch.cat(nearest)
    return (near >= near.amax() * (1.0 - TIE)).to(torch.uint8).argmax()


def _blocks(n_points: int, device: torch.device) -> tuple[Int[Tensor, " r"], ...]:
    return torch.arange(n_points, device=device).split(_GRAM_ROWS)


def _distances(row: _Row, some: Int[Tensor, " r"]) -> Float[Tensor, "r n"]:
    """Return the squared distances of some points to all: by inner products, and by differences where those cancel."""
    products = row.around[some] @ row.around.T
    distances = squared(products, row.norms[some, None], row.norms)
    both = row.norms[some, None] + row.norms
    close = ((both - 2.0 * products).abs() > 0.1 * NOISE * both) & (distances < _CLOSE * both)
    firsts, seconds = close.nonzero(as_tuple=True)
    step = max(1, _DIFFERENCES // row.points.shape[1])
    for begin in range(0, len(firsts), step):
        a, b = firsts[begin : begin + step], seconds[begin : begin + step]
        exact = (row.points[some[a]] - row.points[b]).square().sum(dim=1)
        distances[a, b] = exact.masked_fill_(exact < NOISE * both[a, b], 0.0)
    return distances


def _pick(
    distances_to: Callable[[Tensor], Tensor], start: Int[Tensor, ""], n_points: int, k: int
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """The greedy loop: a running minimum of squared distances, with -1 where a point is picked."""
    nearest = torch.full((n_points,), torch.inf, dtype=torch.float64, device=start.device)
    picked = start
    picks, tops = [], []
    for _ in range(k):
        torch.minimum(nearest, distances_to(picked), out=nearest)
        nearest[picked] = -1.0
        top = nearest.amax()
        picks.append(picked)
        tops.append(top)
        # argmax takes the first of equals; a picked point (-1) never ties, as the best is not negative before the end.
        picked = (nearest >= top - TIE * top.abs()).to(torch.uint8).argmax()
    return torch.stack(picks), torch.stack(tops).clamp_min(0.0).sqrt()

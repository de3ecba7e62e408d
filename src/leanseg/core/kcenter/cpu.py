"""Rows of a batch for the compiled engine: one after the other, each as if it were alone."""

import math

import torch

from leanseg.core.kcenter import compiled, compiled_start
from leanseg.core.kcenter.reference import NOT_FINITE
from leanseg.errors import TokensError
from leanseg.shapes import Float, Int, Tensor


def farthest_first(
    points: Float[Tensor, "b n d"], extra: Float[Tensor, "b n e"], k: int, starts: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return pick order and radius after each pick; see `leanseg.core.kcenter.select`."""
    order = torch.empty((len(points), k), dtype=torch.int64)
    radius = torch.empty((len(points), k), dtype=torch.float64)
    for row, more, start, picks, radii in zip(_plain(points), extra.contiguous(), starts, order, radius, strict=True):
        compiled.farthest_first(row.numpy(), more.numpy(), _scale(row, more), int(start), picks.numpy(), radii.numpy())
    return order, radius


def most_isolated(points: Float[Tensor, "b n d"]) -> Int[Tensor, " b"]:
    """Return the point of each row whose nearest other point is farthest; see `leanseg.core.kcenter.isolated`."""
    nothing = torch.empty((points.shape[1], 0), dtype=torch.float64)
    picks = [compiled_start.most_isolated(row.numpy(), nothing.numpy(), _scale(row)) for row in _plain(points)]
    return torch.tensor(picks, dtype=torch.int64)


def around_mean(points: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n"]]:
    """Return the mean and the distance of each point to it; see `leanseg.core.kcenter.around_mean`."""
    means = torch.empty((len(points), points.shape[2]), dtype=torch.float64)
    distances = torch.empty(points.shape[:2], dtype=torch.float64)
    for row, mean, found in zip(_plain(points), means, distances, strict=True):
        scale = _scale(row)
        compiled_start.around_mean(row.numpy(), scale, mean.numpy(), found.numpy())
        found.sqrt_().div_(scale)
    return means, distances


def _plain(points: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Return the points as numpy can read them; half precision fits into float32 unchanged."""
    wide = points if points.dtype in (torch.float32, torch.float64) else points.to(torch.float32)
    return wide.contiguous()


def _scale(*parts: Tensor) -> float:
    """Return the power of two that brings the largest entry to about 1, so that scaling rounds nothing."""
    peak = 0.0
    for part in parts:
        if part.numel():
            low, high = float(part.amin()), float(part.amax())  # NaN where anything is
            if not (math.isfinite(low) and math.isfinite(high)):
                raise TokensError(NOT_FINITE)
            peak = max(peak, -low, high)
    return 2.0 ** -min(max(math.frexp(peak)[1], -1022), 1022)

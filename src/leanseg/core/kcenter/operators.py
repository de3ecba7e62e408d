"""Greedy k-center as operators of torch, so that compiling, exporting and counting see one call; and who answers it."""

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from leanseg.core.kcenter import reference
from leanseg.core.kcenter.reference import NOT_FINITE
from leanseg.errors import BudgetError, TokensError
from leanseg.shapes import Tensor


@torch.library.custom_op("leanseg::farthest_first", mutates_args=())
def farthest_first(points: Tensor, extra: Tensor, k: int, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Run the fastest engine that is at hand where the points lie; all return the same."""
    gpu = engine("gpu") if points.device.type == "cuda" else None
    if gpu is not None and gpu.fits(points, extra):
        # Nothing is read back from the device: what cannot be selected from gives NaN radii there.
        return gpu.farthest_first(points, extra, k, starts)
    n_points = points.shape[1]
    if bool(((starts < 0) | (starts >= n_points)).any()):
        raise BudgetError(f"start is {starts.tolist()}; every index must lie in 0..{n_points - 1}")
    cpu = engine("cpu") if points.device.type == "cpu" else None
    if cpu is not None:
        return cpu.farthest_first(points, extra, k, starts)
    _check_finite(points)
    both = torch.cat([points.to(torch.float64), extra], dim=2) if extra.shape[2] else points
    return reference.farthest_first(both, k, starts)


@farthest_first.register_fake
def _(points: Tensor, extra: Tensor, k: int, starts: Tensor) -> tuple[Tensor, Tensor]:
    shape = (points.shape[0], k)
    return points.new_empty(shape, dtype=torch.int64), points.new_empty(shape, dtype=torch.float64)


@register_flop_formula(torch.ops.leanseg.farthest_first)
def _(points: Any, extra: Any, k: int, *others: Any, **more: Any) -> int:
    """An upper bound: a difference, a square and a sum for every entry of every point and pick."""
    batch, n_points, width = points
    return 3 * batch * n_points * (width + extra[2]) * k


@torch.library.custom_op("leanseg::most_isolated", mutates_args=())
def most_isolated(points: Tensor) -> Tensor:
    """Run the fastest engine that is at hand where the points lie; all return the same."""
    cpu = engine("cpu") if points.device.type == "cpu" else None
    if cpu is not None:
        return cpu.most_isolated(points)
    _check_finite(points)
    return reference.most_isolated(points)


@most_isolated.register_fake
def _(points: Tensor) -> Tensor:
    return points.new_empty((points.shape[0],), dtype=torch.int64)


@cache
def engine(name: str) -> Any:
    """Return the module of an engine, or None where the package that compiles it is not installed."""
    try:
        return import_module(f"leanseg.core.kcenter.{name}")
    except ImportError:
        return None


def _check_finite(points: Tensor) -> None:
    if not bool(torch.isfinite(points).all()):
        raise TokensError(NOT_FINITE)

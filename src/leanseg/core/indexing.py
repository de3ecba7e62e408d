"""Index tensors (B, K): their checks, and how they are widened for torch's gather and scatter."""

import torch

from leanseg.errors import SelectionError
from leanseg.shapes import Int, Shaped, Tensor


def check_index_tensor(name: str, value: object, shape: tuple[int, int] | None) -> None:
    """Raise `SelectionError` unless `value` is an int64 tensor with two axes, of `shape` where one is given."""
    if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.ndim != 2:
        given = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise SelectionError(f"{name} is {given}; expected an int64 tensor with two axes")
    if shape is not None and tuple(value.shape) != shape:
        raise SelectionError(f"{name} has shape {tuple(value.shape)}; expected {shape}")


def widened(index: Int[Tensor, "b r"], values: Shaped[Tensor, "..."]) -> Int[Tensor, "b r *rest"]:
    """Repeat a row index over the trailing axes of `values`, as torch's gather and scatter want it."""
    return index.reshape(*index.shape, *(1,) * (values.ndim - 2)).expand(*index.shape, *values.shape[2:])


def extremes(value: Int[Tensor, "b r"]) -> str:
    """Return the smallest and the largest value in words."""
    return f"values from {int(value.min())} to {int(value.max())}"

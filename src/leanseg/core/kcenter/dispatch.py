"""The door to greedy k-center: it checks the input and hands it to an engine."""

import torch

from leanseg.core.kcenter.reference import farthest_first, most_isolated
from leanseg.errors import BudgetError, TokensError
from leanseg.shapes import Float, Int, Shaped, Tensor


def select(
    points: Shaped[Tensor, "..."], k: int, start: int | Shaped[Tensor, "..."] = 0
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Pick `k` of N points, each time the one farthest from all picked before.

    `points` (B, N, D); `start` is the first pick, one for all rows or one per row (B,). Returns the pick order
    (B, K) int64 and the covering radius after each pick (B, K) float64: the largest Euclidean distance of any point to
    its nearest pick, in the units of `points`.

    Ties go to the lowest index; squared distances that agree to one part in 10^10 are a tie. A point is never picked
    twice. The radius is at most twice the smallest that K centres can reach (Gonzalez 1985), and the first K' picks are
    those of a run with K'. Float64 inside, whatever the dtype; each row as if it were alone.
    Cost: O(N^2 D) or O(K N D) time, whichever is less work; O(N^2) or O(N D) memory.

    >>> order, radius = select(torch.tensor([[[0.0], [1.0], [4.0], [9.0]]]), 3)
    >>> order.tolist(), radius.tolist()
    ([[0, 3, 2]], [[9.0, 4.0, 1.0]])
    """
    _check_points(points)
    batch, n_points, _ = points.shape
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n_points:
        raise BudgetError(f"k is {k!r}; it must be a whole number in 1..{n_points}, the number of points")
    return farthest_first(points, k, _starts(start, batch, n_points, points.device))


def isolated(points: Shaped[Tensor, "..."]) -> Int[Tensor, " b"]:
    """Return for each row (B,) the point whose nearest other point is farthest: where DivPrune begins.

    `points` (B, N, D). Ties as in `select`: the lowest index among squared distances that agree to one part in 10^10.
    Equal points are at distance 0 of each other; a point alone is the answer. Each row as if it were alone.

    >>> isolated(torch.tensor([[[0.0], [1.0], [5.0], [8.0]]])).tolist()
    [2]
    """
    _check_points(points)
    return most_isolated(points)


def _check_points(points: object) -> None:
    if not isinstance(points, Tensor) or points.ndim != 3 or points.numel() == 0 or not points.is_floating_point():
        given = f"{points.dtype} {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
        raise TokensError(f"points is {given}; expected a non-empty floating-point tensor (B, N, D)")
    if not bool(torch.isfinite(points).all()):
        raise TokensError("points holds values that are NaN or infinite; look for an overflow upstream")


def _starts(start: object, batch: int, n_points: int, device: torch.device) -> Int[Tensor, " b"]:
    if isinstance(start, Tensor):
        starts = start.to(device)
        if starts.dtype != torch.int64 or tuple(starts.shape) != (batch,):
            raise BudgetError(
                f"start is {starts.dtype} {tuple(starts.shape)}; expected one int64 index per row: ({batch},)"
            )
    elif isinstance(start, int) and not isinstance(start, bool):
        starts = torch.full((batch,), start, device=device)
    else:
        raise BudgetError(f"start is {start!r}; expected an index, or a tensor with one index per row")
    if bool(((starts < 0) | (starts >= n_points)).any()):
        raise BudgetError(f"start is {starts.tolist()}; every index must lie in 0..{n_points - 1}")
    return starts

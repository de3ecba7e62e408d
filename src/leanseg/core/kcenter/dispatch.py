"""The door to greedy k-center: it checks what it is given and hands it to the operators."""

import torch

from leanseg.core.kcenter import operators
from leanseg.errors import BudgetError, TokensError
from leanseg.shapes import Float, Int, Shaped, Tensor


def select(
    points: Shaped[Tensor, "..."],
    k: int,
    start: int | Shaped[Tensor, "..."] = 0,
    *,
    extra: Shaped[Tensor, "..."] | None = None,
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Pick `k` of N points, each time the one farthest from all picked before.

    `points` (B, N, D); `start` is the first pick, one for all rows or one per row (B,); `extra` (B, N, E) are further
    columns, read in float64 whatever the dtype of the points (weighted coordinates beside half-precision features).
    Returns the pick order (B, K) int64 and the covering radius after each pick (B, K) float64: the largest Euclidean
    distance of any point to its nearest pick, in the units of `points`.

    Ties go to the lowest index; squared distances that agree to one part in 10^10 are a tie. A point is never picked
    twice. The radius is at most twice the smallest that K centres can reach (Gonzalez 1985), and the first K' picks are
    those of a run with K'. Decided in float64, whatever the dtype; each row as if it were alone.
    On a CUDA device with Triton nothing is read back: rows with values that are not finite, or with a start that is no
    index, raise no error there; their radii are NaN and their order means nothing.
    Cost: O(K N D) at most, a quarter of it as a rule (`docs/speed.md`); O(N D) memory. Without numba, and on other
    devices: O(N^2 D) or O(K N D) time, whichever is less work; O(N^2) or O(N D) memory.

    >>> order, radius = select(torch.tensor([[[0.0], [1.0], [4.0], [9.0]]]), 3)
    >>> order.tolist(), radius.tolist()
    ([[0, 3, 2]], [[9.0, 4.0, 1.0]])
    """
    rows = _checked(points)
    batch, n_points, _ = rows.shape
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n_points:
        raise BudgetError(f"k is {k!r}; it must be a whole number in 1..{n_points}, the number of points")
    if extra is None:
        columns = torch.empty((batch, n_points, 0), dtype=torch.float64, device=rows.device)
    elif isinstance(extra, Tensor) and extra.dtype == torch.float64 and extra.shape[:-1] == rows.shape[:-1]:
        columns = extra.detach().to(rows.device)
    else:
        given = f"{extra.dtype} {tuple(extra.shape)}" if isinstance(extra, Tensor) else type(extra).__name__
        raise TokensError(f"extra is {given}; expected float64 columns for every point: ({batch}, {n_points}, E)")
    starts = _starts(start, batch, n_points, rows.device)
    order, radius = torch.ops.leanseg.farthest_first(rows, columns, k, starts)
    return order.to(points.device), radius if points.device.type == "mps" else radius.to(points.device)


def isolated(points: Shaped[Tensor, "..."]) -> Int[Tensor, " b"]:
    """Return for each row (B,) the point whose nearest other point is farthest: where DivPrune begins.

    `points` (B, N, D). Ties as in `select`: the lowest index among squared distances that agree to one part in 10^10.
    Equal points are at distance 0 of each other; a point alone is the answer. Each row as if it were alone.
    Cost: a fraction of the N^2 / 2 distances, as a rule some hundredths.

    >>> isolated(torch.tensor([[[0.0], [1.0], [5.0], [8.0]]])).tolist()
    [2]
    """
    return torch.ops.leanseg.most_isolated(_checked(points)).to(points.device)


def around_mean(points: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n"]]:
    """Return the mean of each row's points (B, D) and the distance of each point to it (B, N), in float64.

    >>> around_mean(torch.tensor([[[0.0], [1.0], [5.0]]]))[1].tolist()
    [[2.0, 1.0, 3.0]]
    """
    rows = _checked(points)
    cpu = operators.engine("cpu") if rows.device.type == "cpu" else None
    if cpu is not None:
        return cpu.around_mean(rows)
    means, distances = [], []
    for row in rows:
        scale = torch.exp2(-torch.frexp(row.abs().amax().to(torch.float64))[1].clamp(-1022, 1022))
        unit = row.to(torch.float64) * scale
        mean = unit.mean(dim=0)
        means.append(mean / scale)
        distances.append((unit - mean).norm(dim=1) / scale)
    return torch.stack(means), torch.stack(distances)


def _checked(points: object) -> Tensor:
    if not isinstance(points, Tensor) or points.ndim != 3 or points.numel() == 0 or not points.is_floating_point():
        given = f"{points.dtype} {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
        raise TokensError(f"points is {given}; expected a non-empty floating-point tensor (B, N, D)")
    rows = points.detach()
    return rows.cpu() if rows.device.type == "mps" else rows  # mps has no float64


def _starts(start: object, batch: int, n_points: int, device: torch.device) -> Int[Tensor, " b"]:
    if isinstance(start, Tensor):
        if start.dtype != torch.int64 or tuple(start.shape) != (batch,):
            raise BudgetError(
                f"start is {start.dtype} {tuple(start.shape)}; expected one int64 index per row: ({batch},)"
            )
        return start.to(device)
    if isinstance(start, bool) or not isinstance(start, int):
        raise BudgetError(f"start is {start!r}; expected an index, or a tensor with one index per row")
    if not 0 <= start < n_points:
        raise BudgetError(f"start is {start}; every index must lie in 0..{n_points - 1}")
    return torch.full((batch,), start, dtype=torch.int64, device=device)

"""How published code selects, written anew from descriptions of it: the same picks, the way they are usually computed.

One row (N, D) each, float32. They are here to be timed against; nothing else should call them.
"""

from __future__ import annotations

import torch

from leanseg.shapes import Float, Int, Tensor


def all_differences(points: Float[Tensor, "n d"], k: int, start: int = 0) -> Int[Tensor, " k"]:
    """Farthest-first with explicit differences to each new pick."""
    nearest = torch.full((len(points),), torch.inf)
    picks = [start]
    for _ in range(k - 1):
        torch.minimum(nearest, (points - points[picks[-1]]).square().sum(dim=1), out=nearest)
        picks.append(int(nearest.argmax()))
    return torch.tensor(picks)


def matrix_reread(points: Float[Tensor, "n d"], k: int, start: int = 0) -> Int[Tensor, " k"]:
    """Farthest-first on a full matrix of distances, of which each pick reads the rows of all earlier picks again."""
    return _reread(_squares(points), [start], k)


def gram_running_minimum(points: Float[Tensor, "n d"], k: int, start: int = 0) -> Int[Tensor, " k"]:
    """Farthest-first on a full matrix of distances with a running minimum: one row is read per pick."""
    squares = _squares(points)
    nearest = squares[start].clone()
    nearest[start] = -1.0
    picks = [start]
    for _ in range(k - 1):
        pick = int(nearest.argmax())
        picks.append(pick)
        torch.minimum(nearest, squares[pick], out=nearest)
        nearest[pick] = -1.0
    return torch.tensor(picks)


def product_per_pick(points: Float[Tensor, "n d"], k: int, start: int = 0) -> Int[Tensor, " k"]:
    """Farthest-first with one matrix-vector product per pick and a running minimum."""
    around = points - points.mean(dim=0)
    norms = around.square().sum(dim=1)
    nearest = torch.full((len(points),), torch.inf)
    picks = [start]
    for _ in range(k - 1):
        pick = picks[-1]
        row = torch.mv(around, around[pick]).mul_(-2.0).add_(norms).add_(norms[pick])
        torch.minimum(nearest, row, out=nearest)
        nearest[pick] = -1.0
        picks.append(int(nearest.argmax()))
    return torch.tensor(picks)


def divprune(features: Float[Tensor, "n d"], k: int) -> Int[Tensor, " k"]:
    """DivPrune's picks: cosine distances of all pairs, the most isolated token first, selected rows read again."""
    unit = features / features.norm(dim=1, keepdim=True)
    distances = 1.0 - unit @ unit.T
    # Each token's nearest other one is its second smallest distance: the smallest is its own.
    first = int(torch.topk(distances, 2, dim=0, largest=False).values[1].argmax())
    return _reread(distances, [first], k)


def vispruner(features: Float[Tensor, "n d"], attention: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """VisPruner's kept tokens, half by attention: each round of removing eight multiplies what is left once more.

    The published code fails where an odd number is left; there the rule of the project is taken (the first half is the
    larger one).
    """
    n_important = k // 2
    order = attention.argsort(descending=True)
    important, residual = order[:n_important], order[n_important:]
    unit = features / features.norm(dim=1, keepdim=True)
    wanted = k - n_important
    while len(residual) > wanted:
        first, second = residual[0::2], residual[1::2]
        removed = min(8, len(residual) - wanted, len(first))
        likeness = (unit[first] @ unit[second].T).amax(dim=1)
        ranked = first[likeness.argsort(descending=True)]
        residual = torch.cat([ranked[removed:], second])
    return torch.cat([important, residual]).sort().values


def received_attention(q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"]) -> Float[Tensor, "b n"]:
    """The attention that each token receives, from the whole map of all pairs."""
    return (q @ k.mT).mul(q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=(1, 2))


def _squares(points: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    around = points - points.mean(dim=0)
    products = around @ around.T
    norms = products.diagonal().clone()
    return products.mul_(-2.0).add_(norms).add_(norms[:, None])


def _reread(distances: Float[Tensor, "n n"], picks: list[int], k: int) -> Int[Tensor, " k"]:
    while len(picks) < k:
        picks.append(int(distances[picks].amin(dim=0).argmax()))
    return torch.tensor(picks)

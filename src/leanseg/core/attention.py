"""How much attention each token receives, from a layer's queries and keys, without the map of all pairs."""

import torch

from leanseg.errors import TokensError
from leanseg.shapes import Bool, Float, Tensor

QUERIES_AT_ONCE = 256


def received_attention(
    q: Float[Tensor, "b heads m d"],
    k: Float[Tensor, "b kv n d"],
    *,
    scale: float | None = None,
    chunk: int = QUERIES_AT_ONCE,
    queries: Bool[Tensor, "b m"] | None = None,
    allowed: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b n"]:
    """Return the attention that each key receives: the mean over heads and queries of softmax(scale q k^T).

    `scale` is 1 / sqrt(d) by default. `queries` restricts the mean to some queries (one at least in each row); the
    softmax always runs over all keys, or over the `allowed` ones (padding receives 0). Fewer key heads than query heads
    are shared by consecutive query heads. Each row sums to 1.

    float32 inside and out. Rows one after another and `chunk` queries at a time: memory O(heads * chunk * N), and a row
    alone gives what it gives in a batch. Cost O(B heads M N d).

    >>> received_attention(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4)).tolist()[0][0]
    0.20000000298023224
    """
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads % kv_heads:
        raise TokensError(f"{heads} query heads cannot share {kv_heads} key heads; expected a multiple")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise TokensError(f"chunk is {chunk!r}; it must be a whole number of queries, at least 1")
    if queries is not None and not bool(queries.any(dim=1).all()):
        raise TokensError("queries is empty in some row; expected at least one query whose attention counts")
    if allowed is not None and not bool(allowed.any(dim=1).all()):
        raise TokensError("allowed is empty in some row; expected at least one key that can be attended to")
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    rows = []
    for row in range(q.shape[0]):
        asked = q[row] if queries is None else q[row][:, queries[row]]
        hidden = None if allowed is None else ~allowed[row]
        rows.append(_row(asked.detach(), k[row].detach(), factor, chunk, hidden))
    return torch.stack(rows)


def _row(
    q: Float[Tensor, "heads m d"],
    k: Float[Tensor, "kv n d"],
    factor: float,
    chunk: int,
    hidden: Bool[Tensor, " n"] | None,
) -> Float[Tensor, " n"]:
    heads, n_queries, _ = q.shape
    keys = k.float().repeat_interleave(heads // k.shape[0], dim=0).transpose(1, 2)
    received = torch.zeros(k.shape[1], device=k.device)
    for first in range(0, n_queries, chunk):
        logits = torch.matmul(q[:, first : first + chunk].float() * factor, keys)
        if hidden is not None:
            logits = logits.masked_fill(hidden, float("-inf"))
        received += logits.softmax(dim=-1).sum(dim=(0, 1))
    return received / (heads * n_queries)

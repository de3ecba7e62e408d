"""SAM's blocks on some of the tokens only: who attends to whom, and the work that is really skipped.

Kept tokens are rows (A, D) of one table, whatever picture or window they belong to; linear layers run on these rows
alone. Attention runs window by window on what a window has kept; windows that kept nothing are not visited. A block
that sees the whole picture is one with a single window. Places decide the relative positions; windows stay SAM's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.core import Grid
from leanseg.models.sam.image_encoder import Block, RelativeAttention
from leanseg.shapes import Bool, Float, Int

# What frozen tokens are to the others: absent, zeros like the filling of a window, or their last features.
POLICIES = ("drop", "zero_kv", "stale_kv")
NOBODY = -1


@dataclass(frozen=True)
class WindowGroup:
    """W windows of n queries and m keys each: rows of the tables, and places y * width + x inside a window.

    `is_key` is False where a window has fewer keys than the group; None = all have as many. Queries that a window lacks
    are the table's row of zeros, whose answer nobody reads.
    """

    queries: Int[Tensor, "w n"]
    query_places: Int[Tensor, "w n"]
    keys: Int[Tensor, "w m"]
    key_places: Int[Tensor, "w m"]
    is_key: Bool[Tensor, "w m"] | None


@dataclass(frozen=True)
class WindowLayout:
    """All windows of one size that kept something. `frozen`: tokens, counted over the batch, that are keys as well."""

    height: int
    width: int
    groups: tuple[WindowGroup, ...]
    frozen: Int[Tensor, " f"]

    @classmethod
    def of(
        cls, kept: Bool[Tensor, "b n"], grid: Grid, window: int, *, policy: str = "drop", by_count: bool
    ) -> WindowLayout:
        """Lay out the windows of side `window`, 0 = the whole picture. `by_count`: one group per occupancy, no filling.

        Pictures may keep different numbers, and none. Rows of the key table: the A kept tokens, then one of zeros, then
        `frozen`.
        """
        height, width = (window, window) if window else (grid.height, grid.width)
        n_kept = int(kept.sum())
        numbers = torch.arange(kept.numel(), device=kept.device).view(kept.shape)
        rows = torch.full_like(numbers, n_kept if policy == "zero_kv" else NOBODY)
        rows[kept] = numbers.flatten()[:n_kept]
        frozen = numbers.new_empty(0)
        if policy == "stale_kv":
            frozen = _frozen_beside_kept(kept, numbers, grid, height, width)
            rows.view(-1)[frozen] = n_kept + 1 + numbers.flatten()[: len(frozen)]
        cut = _cut(rows, grid, height, width, filling=n_kept)
        cut = cut[((cut >= 0) & (cut < n_kept)).any(dim=1)]
        return cls(height, width, tuple(_groups(cut, n_kept, by_count)), frozen)


def _cut(rows: Int[Tensor, "b n"], grid: Grid, height: int, width: int, *, filling: int) -> Int[Tensor, "v p"]:
    """Cut a map of numbers into windows, filled up with `filling`."""
    whole = rows.unflatten(1, (grid.height, grid.width))
    padded = F.pad(whole, (0, -grid.width % width, 0, -grid.height % height), value=filling)
    split = padded.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return split.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _frozen_beside_kept(
    kept: Bool[Tensor, "b n"], numbers: Int[Tensor, "b n"], grid: Grid, height: int, width: int
) -> Int[Tensor, " f"]:
    """Return the frozen tokens of all windows that kept some token."""
    windows = _cut(numbers, grid, height, width, filling=NOBODY)
    is_kept = kept.flatten()[windows.clamp(min=0)] & (windows >= 0)
    frozen = ~is_kept & (windows >= 0) & is_kept.any(dim=1, keepdim=True)
    return windows[frozen].sort().values


def _groups(cut: Int[Tensor, "v p"], n_kept: int, by_count: bool) -> Iterator[WindowGroup]:
    is_query, is_key = (cut >= 0) & (cut < n_kept), cut >= 0
    counts = torch.stack([is_query.sum(dim=1), is_key.sum(dim=1)], dim=1)
    if not by_count:
        largest = counts.amax(dim=0).tolist()
        yield _group(cut, is_query, is_key, *largest, filling=n_kept)
        return
    kinds, members = counts.unique(dim=0, return_inverse=True)
    for index, (n_queries, n_keys) in enumerate(kinds.tolist()):
        chosen = members == index
        yield _group(cut[chosen], is_query[chosen], is_key[chosen], n_queries, n_keys, filling=n_kept)


def _group(cut: Tensor, is_query: Tensor, is_key: Tensor, n_queries: int, n_keys: int, *, filling: int) -> WindowGroup:
    """Pack windows to their first `n_queries` queries and `n_keys` keys, in the order of their places."""

    def packed(there: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        places = there.int().argsort(dim=1, descending=True, stable=True)[:, :count]
        is_there = there.gather(1, places)
        return cut.gather(1, places).masked_fill(~is_there, filling), places, is_there

    queries, query_places, _ = packed(is_query, n_queries)
    keys, key_places, are_keys = packed(is_key, n_keys)
    return WindowGroup(queries, query_places, keys, key_places, None if bool(are_keys.all()) else are_keys)


def run_block(
    block: Block, kept: Float[Tensor, "a d"], layout: WindowLayout, frozen: Float[Tensor, "f d"]
) -> Float[Tensor, "a d"]:
    """Run a block on the kept tokens; `frozen` are the features of the layout's frozen keys."""
    kept = kept + _attend(block.attn, block.norm1(kept), layout, block.norm1(frozen))
    return kept + block.mlp(block.norm2(kept))


def run_blocks(
    blocks: Sequence[Block] | torch.nn.ModuleList, tokens: Float[Tensor, "b h w d"], kept: Bool[Tensor, "b n"]
) -> Float[Tensor, "b h w d"]:
    """Run blocks on the kept tokens, however many of each picture; the others stay as they are and nobody sees them.

    Where all are kept, the blocks run as they are, bit for bit.
    """
    if bool(kept.all()):
        for block in blocks:
            tokens = block(tokens)
        return tokens
    chain = tuple(cast(Sequence[Block], blocks))
    if not chain or not bool(kept.any()):
        return tokens
    grid, flat, places = Grid(*tokens.shape[1:3]), tokens.flatten(0, 2), kept.flatten().nonzero()[:, 0]
    layouts = {
        window: WindowLayout.of(kept, grid, window, by_count=tokens.device.type == "cpu")
        for window in {block.window for block in chain}
    }
    rows, nothing = flat[places], flat[:0]
    for block in chain:
        rows = run_block(block, rows, layouts[block.window], nothing)
    return flat.index_copy(0, places, rows).view(tokens.shape)


def _attend(attention: RelativeAttention, kept: Tensor, layout: WindowLayout, frozen: Tensor) -> Tensor:
    """Attention of the kept tokens, normed; zeros in the table become the biases, as SAM's filling does."""
    n_kept, dim = kept.shape
    linear = attention.qkv
    projected = linear(kept)
    table = torch.cat([projected, linear.bias[None].to(projected.dtype)])
    query, key_value = table[:, :dim], table[:, dim:]
    if len(frozen):
        key_value = torch.cat([key_value, F.linear(frozen, linear.weight[dim:], linear.bias[dim:])])
    query, key, value = (part.unflatten(1, (attention.heads, -1)) for part in (query, *key_value.split(dim, dim=1)))
    tables = attention.tables(layout.height, layout.width)
    answer = kept.new_zeros((n_kept + 1, dim), dtype=query.dtype)
    for group in layout.groups:
        q, k, v = query[group.queries], key[group.keys], value[group.keys]
        bias = _bias(q, group, tables)
        seen = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias, scale=attention.scale
        )
        answer[group.queries] = seen.transpose(1, 2).flatten(2)
    return attention.proj(answer[:n_kept])


def _bias(q: Float[Tensor, "w n h c"], group: WindowGroup, tables: tuple[Tensor, Tensor]) -> Float[Tensor, "w h n m"]:
    """Return q . R_h[rows apart] + q . R_w[columns apart] for each query and key of a group, -inf where no key is."""
    width = tables[1].shape[0]
    lines = (
        (tables[0], group.query_places // width, group.key_places // width),
        (tables[1], group.query_places % width, group.key_places % width),
    )
    parts = []
    for table, query_line, key_line in lines:
        to_lines = torch.einsum("wnhc,wnkc->whnk", q, table[query_line])
        parts.append(to_lines.gather(3, key_line[:, None, None, :].expand(*to_lines.shape[:3], -1)))
    # In place: of all tensors here, these are the large ones.
    bias = parts[0].add_(parts[1])
    return bias if group.is_key is None else bias.masked_fill_(~group.is_key[:, None, None, :], -torch.inf)

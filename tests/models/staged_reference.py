"""The pruned encoder written the slow way: every block runs on the whole map under a mask of who may be seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.models.sam.image_encoder import Block, from_windows, relative_table, to_windows


def masked_block(block: Block, tokens: Tensor, active: Tensor, policy: str) -> Tensor:
    """Run a block on tokens (B, h, w, D) where `active` (B, h, w) go on, and the others stay as they are."""
    height, width = tokens.shape[1:3]
    side = block.window or max(height, width)
    normed = block.norm1(tokens)
    if policy == "zero_kv":
        normed = normed * active[..., None]
    seen = active | (policy != "drop")
    if block.window:
        windows = to_windows(normed, side)
        # What is filled up is seen always.
        hidden = to_windows((~seen)[..., None].float(), side)[..., 0].bool()
    else:
        windows, hidden = normed, ~seen
    attended = _attention(block.attn, windows, ~hidden)
    if block.window:
        attended = from_windows(attended, side, height, width)
    changed = tokens + attended
    changed = changed + block.mlp(block.norm2(changed))
    return torch.where(active[..., None], changed, tokens)


def _attention(attention: torch.nn.Module, windows: Tensor, seen: Tensor) -> Tensor:
    batch, height, width, dim = windows.shape
    answers = torch.zeros_like(windows)
    for row in range(batch):
        if not seen[row].any():
            continue
        q, k, v = (
            F.linear(windows[row].reshape(-1, dim), weight, bias)
            for weight, bias in zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
        )
        by_row, by_column = relative_table(attention.rel_pos_h, height), relative_table(attention.rel_pos_w, width)
        places = torch.arange(height * width)
        y, x = places // width, places % width
        heads = []
        for head in range(attention.heads):
            part = slice(head * dim // attention.heads, (head + 1) * dim // attention.heads)
            scores = q[:, part] @ k[:, part].T / (dim // attention.heads) ** 0.5
            for i in range(height * width):
                scores[i] += by_row[y[i], y] @ q[i, part] + by_column[x[i], x] @ q[i, part]
            scores[:, ~seen[row].flatten()] = -torch.inf
            heads.append(scores.softmax(dim=1) @ v[:, part])
        answers[row] = attention.proj(torch.cat(heads, dim=1)).view(height, width, dim)
    return answers


def masked_encoder(blocks: list[Block], tokens: Tensor, masks: dict[int, Tensor], policy: str) -> Tensor:
    """Run all blocks; `masks`: after how many blocks -> who goes on from there."""
    active = torch.ones(tokens.shape[:3], dtype=torch.bool)
    for index, block in enumerate(blocks):
        active = masks.get(index, active)
        tokens = masked_block(block, tokens, active, policy)
    return tokens

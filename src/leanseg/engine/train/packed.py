r"""Many instructions about one picture in one pass of the language model, without temporal tokens (training only).

The sequence is `text1, "\\n", image tokens` once, then one block per instruction (`text2, instruction, answer, mask
tokens`) that attends to the shared prefix and causally to itself; positions restart after the prefix in every block. So
each block gives what the same instruction gives alone without temporal tokens (tested), at a fraction of the cost: the
visual prefix is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leanseg.errors import TrainingError
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import IMAGE_ID, REFER_ID, SEG_ID, TEMPORAL_ID, Prompt

_PAD, _QUERY = -1, -2


@dataclass(frozen=True, kw_only=True)
class PackedStates:
    """What the language model says of B frames with K instructions each."""

    queries: Tensor
    """(B,K,Q,C): mask queries after `seg_query_projector`."""
    refer: list[Tensor]
    """B*K tensors (R,D): states of the instruction's tokens, the last is [SEG]'s."""
    asked: Tensor
    """(B,K,D): the state of the instruction's [SEG]."""
    attention: list[Tensor]
    """Per layer (B,H,K,Q,N): attention of mask tokens to image tokens."""


def _block(prompt: Prompt, n_queries: int) -> tuple[list[int], list[int]]:
    """Return a block's token ids (mask tokens as _QUERY) and the rows of its instruction."""
    ids = prompt.ids.tolist()
    block: list[int] = []
    refer_rows: list[int] = []
    for token in ids[ids.index(IMAGE_ID) + 1 :]:
        if token == REFER_ID:
            refer_rows = list(range(len(block), len(block) + len(prompt.refer_ids)))
            block += prompt.refer_ids.tolist()
        elif token == SEG_ID:
            return block + [_QUERY] * n_queries, refer_rows
        else:
            block.append(token)
    raise TrainingError(f"the prompt {prompt.text!r} has no <seg> after <image>; use the released or paper template")


def packed_language(model: InstructSeg, prompts: Sequence[Sequence[Prompt]], image_tokens: Tensor) -> PackedStates:
    """Run the language model on B frames' projected tokens (B,N,D) with K prompts each; see the module's text."""
    batch, n_tokens, _ = image_tokens.shape
    device, embed = image_tokens.device, model.language_model.embed_tokens
    n_queries = model.seg_query.shape[0]
    first = prompts[0][0].ids.tolist()
    text1 = torch.tensor(first[: first.index(TEMPORAL_ID)], device=device)
    between = torch.tensor(first[first.index(TEMPORAL_ID) + 1 : first.index(IMAGE_ID)], device=device)
    shared = [embed(text1).expand(batch, -1, -1), embed(between).expand(batch, -1, -1), image_tokens]
    image_start = len(text1) + len(between)
    prefix = image_start + n_tokens

    blocks = [[_block(prompt, n_queries) for prompt in row] for row in prompts]
    count, length = len(prompts[0]), max(len(ids) for row in blocks for ids, _ in row)
    ids = torch.tensor([[ids + [_PAD] * (length - len(ids)) for ids, _ in row] for row in blocks], device=device)
    rows = embed(ids.clamp(min=0))
    is_query = ids == _QUERY
    slots = (is_query.cumsum(-1) - 1).clamp(min=0)
    rows = torch.where(is_query.unsqueeze(-1), model.seg_query[slots].to(rows.dtype), rows)
    embeds = torch.cat([part.to(rows.dtype) for part in shared] + [rows.flatten(1, 2)], dim=1)

    output = model.language_model(
        inputs_embeds=embeds,
        attention_mask=block_mask(ids != _PAD, prefix).to(embeds.dtype),
        position_ids=block_positions(batch, prefix, count, length, device),
        use_cache=False,
        output_attentions=True,
    )
    states = output.last_hidden_state[:, prefix:].unflatten(1, (count, length))
    queries = model.seg_query_projector(states[is_query].view(batch, count, n_queries, -1))
    refer = [states[b, k, torch.tensor(blocks[b][k][1], device=device)] for b in range(batch) for k in range(count)]
    asked = torch.stack([one[-1] for one in refer]).view(batch, count, -1)
    attention = [_query_attention(one, is_query, prefix, image_start, n_queries) for one in output.attentions]
    return PackedStates(queries=queries, refer=refer, asked=asked, attention=attention)


def _query_attention(attention: Tensor, is_query: Tensor, prefix: int, image_start: int, n_queries: int) -> Tensor:
    batch, count, length = is_query.shape
    seen = attention[:, :, prefix:, image_start:prefix].unflatten(2, (count, length)).permute(0, 2, 3, 1, 4)
    return seen[is_query].view(batch, count, n_queries, *seen.shape[3:]).permute(0, 3, 1, 2, 4)


def block_positions(batch: int, prefix: int, count: int, length: int, device: torch.device) -> Tensor:
    """Return positions (B, S) that start anew behind the prefix in each of K blocks."""
    block = torch.arange(prefix, prefix + length, device=device).repeat(count)
    return torch.cat([torch.arange(prefix, device=device), block]).expand(batch, -1)


def block_mask(used: Tensor, prefix: int) -> Tensor:
    """Additive (B,1,S,S) mask from the used positions (B,K,L) of the blocks: each sees the prefix and itself, causally.

    The prefix is causal as well.
    """
    batch, count, length = used.shape
    total = prefix + count * length
    block = torch.cat([torch.full((prefix,), -1), torch.arange(count).repeat_interleave(length)]).to(used.device)
    order = torch.arange(total, device=used.device)
    causal = order[:, None] >= order[None, :]
    same = (block[None, :] == -1) | (block[:, None] == block[None, :])
    visible = (causal & same).expand(batch, -1, -1).clone()
    visible[:, :, prefix:] &= used.flatten(1)[:, None, :]
    visible |= torch.eye(total, dtype=torch.bool, device=used.device)
    return torch.zeros(visible.shape, device=used.device).masked_fill(~visible, -1e4).unsqueeze(1)

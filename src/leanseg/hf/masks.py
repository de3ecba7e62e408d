"""Attention masks of a shortened sequence: any form that transformers passes, and log sizes added to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from leanseg.errors import AttachError
from leanseg.shapes import Bool, Float, Int, Shaped, Tensor


def shortened(mask: Any, kept: Int[Tensor, "b after"], length: int, explicit: bool) -> Any:
    """Return the mask for the positions `kept` (-1 = new padding) of a sequence of `length`.

    2-D and 4-D masks, dictionaries of them and None come back in their own form; with `explicit`, None becomes a 2-D
    mask, because positions with gaps would otherwise pass for packed sequences.
    """
    if isinstance(mask, Mapping):
        return {name: shortened(each, kept, length, explicit=False) for name, each in mask.items()}
    if mask is None:
        return (kept >= 0).long() if explicit else None
    if mask.ndim == 2:
        return torch.where(kept >= 0, mask.gather(1, kept.clamp(min=0)), torch.zeros((), dtype=mask.dtype).to(mask))
    _check_square(mask, length)
    batch, after = kept.shape
    index, heads = kept.clamp(min=0), mask.shape[1]
    rows = mask.expand(batch, -1, -1, -1).gather(2, index[:, None, :, None].expand(-1, heads, -1, length))
    cells = rows.gather(3, index[:, None, None, :].expand(-1, heads, after, -1))
    padding = (kept < 0)[:, None]
    own = torch.eye(after, dtype=torch.bool, device=mask.device) & padding[..., None]
    # Padding sees itself only, so that no row of a softmax is empty.
    hidden = (padding[..., None] | padding[..., None, :]) & ~own
    if mask.is_floating_point():
        return cells.masked_fill(hidden, torch.finfo(mask.dtype).min).masked_fill(own, 0.0)
    return (cells.bool() & ~hidden) | own


def _check_square(mask: Tensor, length: int) -> None:
    if mask.ndim != 4 or tuple(mask.shape[2:]) != (length, length):
        raise AttachError(
            f"the attention mask has shape {tuple(mask.shape)}; expected (B, {length}) or (B, 1, {length}, {length}). "
            "A cache of fixed size (static, compiled) cannot be pruned: use a dynamic one"
        )


def causal(real: Bool[Tensor, "b keys"], n_queries: int) -> Bool[Tensor, "b 1 queries keys"]:
    """Return who sees whom when the last `n_queries` of the keys are the queries; padding sees itself only."""
    n_keys = real.shape[1]
    places = torch.arange(n_keys, device=real.device)
    queries = places[n_keys - n_queries :, None]
    own = places == queries
    return (((places <= queries) & real[:, None, :]) | own)[:, None]


def with_bias(
    mask: Shaped[Tensor, "b heads queries keys"], bias: Float[Tensor, "b biased"], dtype: torch.dtype
) -> Float[Tensor, "b heads queries keys"]:
    """Add log sizes to the first keys of a 4-D mask, for every query; the result is additive."""
    lowest = torch.finfo(dtype).min
    if mask.is_floating_point():
        additive, hidden = mask.to(dtype), mask <= torch.finfo(mask.dtype).min / 2
    else:
        additive, hidden = torch.zeros(mask.shape, dtype=dtype, device=mask.device), ~mask.bool()
    wide = nn.functional.pad(bias, (0, mask.shape[-1] - bias.shape[1]))[:, None, None, :].to(dtype)
    return torch.where(hidden, torch.full_like(additive, lowest), additive + wide)


def check_can_be_biased(config: Any) -> None:
    """Raise unless the language model adds a 4-D mask to its attention logits in every layer."""
    implementation = getattr(config, "_attn_implementation", None) or "eager"
    if implementation not in ("sdpa", "eager"):
        raise AttachError(
            f"mass_preserving adds log sizes to the attention logits, which {implementation!r} does not allow; use "
            "model.set_attn_implementation('sdpa') or 'eager'"
        )
    types = set(getattr(config, "layer_types", None) or ())
    windowed = "sliding_attention" in types if types else getattr(config, "sliding_window", None) is not None
    if windowed or types - {"full_attention"}:
        raise AttachError(
            f"mass_preserving needs full attention in every layer of the language model; {config.model_type!r} has "
            f"{', '.join(sorted(types)) or 'a sliding window'}, whose masks differ from layer to layer"
        )

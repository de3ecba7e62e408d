"""ToMe inside a vision encoder: every layer merges some tokens between its attention and its MLP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from leanseg.core import Selection
from leanseg.core.merging import Merged, match
from leanseg.errors import AttachError, BudgetError
from leanseg.shapes import Float, Tensor

# Attention functions that add a bias to the logits; the others take no bias, or ignore it.
_BIASED = ("sdpa", "eager")


def encode_with_merging(
    layers: nn.ModuleList | Sequence[Any],
    hidden: Float[Tensor, "b n d"],
    schedule: Sequence[int],
    *,
    class_token: bool = False,
    proportional: bool = True,
) -> tuple[Float[Tensor, "b k d"], Selection]:
    """Run encoder layers of SigLIP's or CLIP's kind, and merge `schedule[i]` tokens away in layer i (arXiv 2210.09461).

    Returns the features (B, K, D) behind the last layer given, and the selection without them: `indices` are the tokens
    that others were merged into, ascending, `owner` the slot of every token. N - sum(schedule) = K tokens are left;
    `leanseg.core.merging.exact_schedule` and `merge_schedule` make schedules. Pass the layers in use only.

    After the attention's residual, tokens are matched by the keys of this very layer, averaged over heads, and averaged
    by how many each stands for. From then on a key that stands for s tokens gets log s added to its logits (Eq. 1:
    `proportional`), so that it counts as s equal ones. `class_token` protects token 0, which stays slot 0.
    Where nothing is merged, the numbers are those of the plain layers, bit for bit.

    Differs from the reference: tokens come out in raster order; matching as in `leanseg.core.merging.match`.
    """
    if len(schedule) != len(layers):
        raise BudgetError(f"the schedule has {len(schedule)} entries for {len(layers)} layers; expected one per layer")
    merged = Merged.start(hidden)
    for number, (layer, r) in enumerate(zip(layers, schedule, strict=True)):
        n_tokens = merged.position.shape[1]
        most = (n_tokens - int(class_token)) // 2
        if not 0 <= r <= most:
            raise BudgetError(
                f"layer {number} is to merge {r} of {n_tokens} tokens away; expected 0..{most}, half of what it has"
            )
        sizes = merged.sizes if proportional and n_tokens < hidden.shape[1] else None
        attended, keys = attend(layer.self_attn, layer.layer_norm1(merged.features), sizes)
        merged = merged.with_features(merged.features + attended)
        if r > 0:
            merged = merged.then(match(keys, r, class_token=class_token))
        changed = layer.mlp(layer.layer_norm2(merged.features))
        merged = merged.with_features(merged.features + changed)
    if merged.position.shape[1] == hidden.shape[1]:
        return merged.features, Selection.identity(hidden.shape[0], hidden.shape[1], hidden.device)
    selection = merged.selection()
    return selection.apply(hidden), replace(selection, features=None)


def attend(
    attention: Any, normed: Float[Tensor, "b n d"], sizes: Float[Tensor, "b n"] | None
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n dk"]]:
    """Return what a layer's attention makes of `normed`, and its keys averaged over heads, float32 at least.

    `sizes`: softmax(q k^T / sqrt(d) + log sizes), by the model's own attention function; None is the plain softmax.
    """
    bias = None
    if sizes is not None:
        used = getattr(getattr(attention, "config", None), "_attn_implementation", "sdpa")
        if used not in _BIASED:
            raise AttachError(
                f"the encoder uses {used!r} attention, which cannot weigh merged tokens; load the model with "
                "attn_implementation='sdpa', or merge with proportional=False"
            )
        bias = sizes.log().to(normed.dtype)[:, None, None, :]
    seen: list[Tensor] = []
    hook = attention.k_proj.register_forward_hook(lambda module, given, made: seen.append(made))
    try:
        attended = attention(hidden_states=normed, attention_mask=bias)[0]
    finally:
        hook.remove()
    heads = seen[0].unflatten(-1, (attention.num_heads, -1))
    return attended, heads.detach().to(torch.promote_types(heads.dtype, torch.float32)).mean(dim=2)

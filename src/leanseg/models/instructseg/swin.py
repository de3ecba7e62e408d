"""The pixel branch's backbone: Hugging Face's Swin Transformer under the names and shapes of the released weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import SwinBackbone, SwinConfig
from transformers.models.swin.modeling_swin import SwinRelativePositionBias

from leanseg.errors import WeightsError
from leanseg.shapes import Float

STAGES = ("stage1", "stage2", "stage3", "stage4")

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_OUR_BLOCK = r"backbone.swin.encoder.layers.\1.blocks.\2."
_OUR_TABLE = r"attention.relative_position_bias.relative_position_bias_table"
# Renamed one to one: regular expression of the released name, and our name. Split or numbered anew: the patterns below.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"patch_embed\.proj\.(weight|bias)", r"backbone.swin.embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(weight|bias)", r"backbone.swin.embeddings.norm.\1"),
    (_BLOCK + r"norm1\.(weight|bias)", _OUR_BLOCK + r"layernorm_before.\3"),
    (_BLOCK + r"norm2\.(weight|bias)", _OUR_BLOCK + r"layernorm_after.\3"),
    (_BLOCK + r"attn\.proj\.(weight|bias)", _OUR_BLOCK + r"attention.o_proj.\3"),
    (_BLOCK + r"attn\.relative_position_bias_table", _OUR_BLOCK + _OUR_TABLE),
    (_BLOCK + r"mlp\.fc([12])\.(weight|bias)", _OUR_BLOCK + r"mlp.fc\3.\4"),
    (
        r"layers\.(\d+)\.downsample\.(reduction|norm)\.(weight|bias)",
        r"backbone.swin.encoder.layers.\1.downsample.\2.\3",
    ),
)
_QKV = re.compile(_BLOCK + r"attn\.qkv\.(weight|bias)")
_PROJECTION = re.compile(r"backbone\.swin\.encoder\." + _BLOCK + r"attention\.([qkv])_proj\.(weight|bias)")
_STAGE_NORM = re.compile(r"norm([0-3])\.(weight|bias)")
_OUR_STAGE_NORM = re.compile(r"backbone\.hidden_states_norms\.stage([1-4])\.(weight|bias)")
_TABLE_SUFFIX = "attn.relative_position_bias_table"
_INDEX_SUFFIX = "attn.relative_position_index"


class SwinFeatures(NamedTuple):
    """Feature maps of one batch at strides 4, 8, 16 and 32, each normalised; (B, embed_dim * 2**i, H, W)."""

    res2: Tensor
    res3: Tensor
    res4: Tensor
    res5: Tensor


class Swin(nn.Module):
    """Turn normalised pixels into four feature maps.

    Shapes: pixels (B, 3, H, W) -> map i of 0..3 is (B, embed_dim * 2**i, H / 2**(i + 2), W / 2**(i + 2)),
    rounded up. Inside, maps are padded to multiples of the window. Paper: arXiv:2103.14030.

    Differs from transformers' `SwinBackbone`: no final layer norm (the released weights have none, nothing reads it),
    and no stochastic depth unless asked for.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        n_heads: Sequence[int],
        window_size: int,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(n_heads) != 4:
            raise WeightsError(
                f"Swin got depths {list(depths)} and heads {list(n_heads)}; expected four numbers each, one per stage"
            )
        config = SwinConfig(
            embed_dim=embed_dim,
            depths=list(depths),
            num_heads=list(n_heads),
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            patch_size=patch_size,
            drop_path_rate=drop_path,
            out_features=list(STAGES),
        )
        self.backbone = SwinBackbone(config)
        self.backbone.swin.layernorm = nn.Identity()
        self.channels: tuple[int, int, int, int] = (embed_dim, embed_dim * 2, embed_dim * 4, embed_dim * 8)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> SwinFeatures:
        return SwinFeatures(*self.backbone(pixels).feature_maps)

    def restore_buffers(self, device: torch.device) -> None:
        """Recreate the buffers that no state dict holds, for a model built on the meta device and then filled."""
        for module in self.modules():
            if isinstance(module, SwinRelativePositionBias):
                index = relative_position_index(window_size=module.window_size[0], device=device)
                module.relative_position_index = index.flatten()


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released Swin state dict (no prefix) to that of `Swin`: qkv is split, position indices are dropped."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_INDEX_SUFFIX):
            continue
        if match := _QKV.fullmatch(name):
            layer, block, kind = match.groups()
            for letter, part in zip("qkv", tensor.chunk(3, dim=0), strict=True):
                result[f"backbone.swin.encoder.layers.{layer}.blocks.{block}.attention.{letter}_proj.{kind}"] = part
        elif match := _STAGE_NORM.fullmatch(name):
            result[f"backbone.hidden_states_norms.stage{int(match[1]) + 1}.{match[2]}"] = tensor
        else:
            result[_rename(name)] = tensor
    return result


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of `Swin` to the released names: the inverse of `from_released`, with position indices."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if match := _PROJECTION.fullmatch(name):
            layer, block, letter, kind = match.groups()
            if letter == "q":
                parts = [state[name.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"]
                result[f"layers.{layer}.blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts, dim=0)
            continue
        released = _rename_back(name)
        result[released] = tensor
        if released.endswith(_TABLE_SUFFIX):
            window_size = (math.isqrt(tensor.shape[0]) + 1) // 2
            index = relative_position_index(window_size=window_size, device=tensor.device)
            result[released.removesuffix(_TABLE_SUFFIX) + _INDEX_SUFFIX] = index
    return result


def relative_position_index(*, window_size: int, device: torch.device | None = None) -> Tensor:
    """Return which row of the bias table each pair of tokens reads; (window_size**2, window_size**2) int64."""
    steps = torch.arange(window_size, device=device)
    y, x = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
    dy = y[:, None] - y[None, :] + window_size - 1
    dx = x[:, None] - x[None, :] + window_size - 1
    return dy * (2 * window_size - 1) + dx


def _rename(name: str) -> str:
    for released, ours in _RENAMES:
        if match := re.fullmatch(released, name):
            return match.expand(ours)
    raise WeightsError(
        f"{name!r} is no name of a released Swin state dict; pass the tensors of the Swin alone, without a prefix"
    )


def _rename_back(name: str) -> str:
    if stage := _OUR_STAGE_NORM.fullmatch(name):
        return f"norm{int(stage[1]) - 1}.{stage[2]}"
    plain = (
        name.removeprefix("backbone.swin.")
        .replace("encoder.layers.", "layers.")
        .replace("embeddings.patch_embeddings.projection.", "patch_embed.proj.")
        .replace("embeddings.norm.", "patch_embed.norm.")
        .replace(".layernorm_before.", ".norm1.")
        .replace(".layernorm_after.", ".norm2.")
        .replace(".attention.o_proj.", ".attn.proj.")
        .replace(".attention.relative_position_bias.", ".attn.")
    )
    try:
        returns = _rename(plain)
    except WeightsError:
        returns = ""
    if returns != name:
        raise WeightsError(f"{name!r} is no name of a Swin state dict; pass `Swin(...).state_dict()`")
    return plain

"""Eyes that start from another small model's: InstructSeg's tower, trained on the same scenes, in place of MAE's and
CLIP's weights, from which the full-size models start.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leanseg.errors import TrainingError
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.sam.pictures import MEAN, STD
from leanseg.models.vltp import pictures as clip
from leanseg.models.vltp.model import VLTP

_CLIP_MEAN, _CLIP_STD = (tuple(255 * value for value in values) for values in (clip.MEAN, clip.STD))


@torch.no_grad()
def start_from_tower(model: VLTP, source: InstructSeg) -> None:
    """Copy a SigLIP tower into SAM's encoder and into the guide's eye, as far as their shapes allow.

    SAM: the tower's layers become the first block and those that see the whole picture; all others start as nothing.
    Patches and positions are resized. The guide's tower takes all layers as they are.
    """
    tower: Any = source.vision_tower
    ours = (model.sam.config.width, model.sam.config.heads, model.sam.config.mlp_ratio * model.sam.config.width)
    theirs = tower.config
    if ours != (theirs.hidden_size, theirs.num_attention_heads, theirs.intermediate_size):
        raise TrainingError(
            f"SAM's width, heads and hidden size are {ours}, the tower's {theirs.hidden_size}, "
            f"{theirs.num_attention_heads} and {theirs.intermediate_size}; expected the same to start from it"
        )
    _start_sam(model.sam.image_encoder, tower)
    _start_clip(model, tower)


def _start_sam(encoder: Any, tower: Any) -> None:
    config = encoder.config
    kernel, bias = _renormalised(tower.embeddings.patch_embedding, MEAN, STD)
    side = config.patch_size
    shrunk = F.interpolate(kernel, size=(side, side), mode="bilinear", antialias=True)
    encoder.patch_embed.proj.weight.copy_(shrunk * (kernel.shape[-1] / side) ** 2)
    encoder.patch_embed.proj.bias.copy_(bias)
    places = tower.embeddings.position_embedding.weight
    old = round(len(places) ** 0.5)
    stretched = F.interpolate(
        places.T.unflatten(1, (old, old))[None], size=(config.grid.height, config.grid.width), mode="bicubic"
    )
    encoder.pos_embed.copy_(stretched.permute(0, 2, 3, 1))
    taken = sorted({0, *config.global_blocks})[: len(tower.encoder.layers)]
    for index, block in enumerate(encoder.blocks):
        if index in taken:
            _copy_layer(block, tower.encoder.layers[taken.index(index)])
        else:
            for layer in (block.attn.proj, block.mlp.lin2):
                layer.weight.zero_()
                layer.bias.zero_()


def _copy_layer(block: Any, layer: Any) -> None:
    attention = layer.self_attn
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    block.attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
    block.attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
    for ours, theirs in (
        (block.attn.proj, attention.out_proj),
        (block.norm1, layer.layer_norm1),
        (block.norm2, layer.layer_norm2),
        (block.mlp.lin1, layer.mlp.fc1),
        (block.mlp.lin2, layer.mlp.fc2),
    ):
        ours.load_state_dict(theirs.state_dict())


def _start_clip(model: VLTP, tower: Any) -> None:
    ours: Any = model.mllm.model.vision_tower
    fits = ours.config.patch_size == tower.config.patch_size and ours.config.image_size == tower.config.image_size
    if not fits or len(ours.encoder.layers) != len(tower.encoder.layers):
        raise TrainingError(
            f"the guide's eye has {len(ours.encoder.layers)} layers on {ours.config.image_size} pixels, the tower "
            f"{len(tower.encoder.layers)} on {tower.config.image_size}; expected the same, in patches of one size"
        )
    kernel, bias = _renormalised(tower.embeddings.patch_embedding, _CLIP_MEAN, _CLIP_STD)
    ours.embeddings.patch_embedding.weight.copy_(kernel)
    places = tower.embeddings.position_embedding.weight + bias
    ours.embeddings.position_embedding.weight.copy_(torch.cat([torch.zeros_like(places[:1]), places]))
    # CLIP has a norm before its layers that SigLIP lacks: it starts at the usual spread, so that it changes little.
    ours.pre_layrnorm.weight.fill_(float(places.std(dim=1).mean()))
    for layer, theirs in zip(ours.encoder.layers, tower.encoder.layers, strict=True):
        layer.load_state_dict(theirs.state_dict())


def _renormalised(convolution: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return kernel and bias that do on pixels normalised by mean and std (of 0..255) what they did on -1..1."""
    weight = convolution.weight
    scale, shift = weight.new_tensor(std) / 127.5, weight.new_tensor(mean) / 127.5 - 1
    return weight * scale[:, None, None], convolution.bias + torch.einsum("ochw,c->o", weight, shift)

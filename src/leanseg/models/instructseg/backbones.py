"""Hugging Face's modules of InstructSeg's sizes, and how the vision tower is run up to the layer that is read."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PhiConfig, PhiModel, SiglipVisionConfig, SiglipVisionModel

from leanseg.models.instructseg.config import LanguageConfig, SwinConfig, VisionConfig
from leanseg.models.instructseg.swin import Swin
from leanseg.shapes import Float


def vision_tower(config: VisionConfig) -> SiglipVisionModel:
    """Build SigLIP's vision model with every layer of the checkpoint, also those that are never run."""
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_channels=config.num_channels,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
            attention_dropout=config.attention_dropout,
            vision_use_head=config.use_head,
            attn_implementation="sdpa",
        )
    )


def run_vision_tower(
    tower: SiglipVisionModel, pixels: Float[Tensor, "b 3 s s"], n_layers: int
) -> Float[Tensor, "b n d"]:
    """Return the hidden state after `n_layers` encoder layers, before the final norm; later layers are not run."""
    hidden: Tensor = tower.embeddings(pixels)
    for layer in tower.encoder.layers[:n_layers]:
        hidden = layer(hidden, None)
    return hidden


def language_model(config: LanguageConfig) -> PhiModel:
    """Build Phi-2 without a language head.

    The special token ids in the release's config.json are PhiConfig's defaults, not the tokenizer's; none is used.
    """
    return PhiModel(
        PhiConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
            max_position_embeddings=config.max_position_embeddings,
            resid_pdrop=config.resid_pdrop,
            embd_pdrop=config.embd_pdrop,
            attention_dropout=config.attention_dropout,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": config.rope_theta,
                "partial_rotary_factor": config.partial_rotary_factor,
            },
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="sdpa",
        )
    )


def projector(vision_width: int, width: int) -> nn.Sequential:
    """Build the two-layer projector from SigLIP to the language model, with the exact (erf) GELU."""
    return nn.Sequential(nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width))


def swin(config: SwinConfig) -> Swin:
    """Build the pixel branch's backbone."""
    return Swin(
        embed_dim=config.embed_dim,
        depths=config.depths,
        n_heads=config.num_heads,
        window_size=config.window_size,
        mlp_ratio=config.mlp_ratio,
    )

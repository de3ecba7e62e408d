"""The sizes that have a name: `full` is the release, `nano` this package's small trained model, `tiny` is for tests."""

from __future__ import annotations

from leanseg.models.instructseg.config import (
    InstructSegConfig,
    LanguageConfig,
    MaskConfig,
    ResamplerConfig,
    SwinConfig,
    VisionConfig,
)

FULL = InstructSegConfig()

NANO = InstructSegConfig(
    vision=VisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=6,
        image_size=192,
        patch_size=12,
        select_layer=-1,
        use_head=False,
    ),
    language=LanguageConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        vocab_size=1811,
        lm_head_size=1811,
        partial_rotary_factor=0.5,
        max_position_embeddings=1024,
        resid_pdrop=0.0,
    ),
    swin=SwinConfig(embed_dim=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=6),
    mask=MaskConfig(
        num_queries=8,
        hidden_dim=96,
        num_heads=4,
        decoder_layers=3,
        feedforward=256,
        mask_dim=96,
        encoder_layers=2,
        encoder_feedforward=256,
    ),
    ovp=ResamplerConfig(width=192, depth=1, heads=4, head_dim=32, num_queries=8),
    vmtf=ResamplerConfig(width=256, depth=1, heads=4, head_dim=32, num_queries=1),
    mask_image_size=192,
)

TINY = InstructSegConfig(
    vision=VisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=30,
        patch_size=7,
    ),
    language=LanguageConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=300,
        lm_head_size=320,
        partial_rotary_factor=0.5,
        max_position_embeddings=512,
    ),
    swin=SwinConfig(embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4),
    mask=MaskConfig(
        num_queries=5,
        hidden_dim=32,
        num_heads=4,
        decoder_layers=2,
        feedforward=64,
        mask_dim=32,
        encoder_layers=2,
        encoder_feedforward=64,
    ),
    ovp=ResamplerConfig(width=32, depth=2, heads=4, head_dim=8, num_queries=4),
    vmtf=ResamplerConfig(width=64, depth=2, heads=4, head_dim=8, num_queries=1),
    mask_image_size=64,
)

PRESETS: dict[str, InstructSegConfig] = {"full": FULL, "nano": NANO, "tiny": TINY}

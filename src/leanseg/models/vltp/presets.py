"""VLTP's named sizes: `b`, `l`, `h` are the paper's, `nano` this package's small model, `tiny` is for tests."""

from __future__ import annotations

from leanseg.models.sam.config import SamConfig
from leanseg.models.vltp.config import ClipConfig, GuideConfig, LlamaConfig, VLTPConfig

NANO = VLTPConfig(
    # 27 x 27 tokens, as many as SigLIP's towers have, on which windows of 9 fit without padding.
    sam=SamConfig(
        image_size=216,
        patch_size=8,
        width=192,
        depth=8,
        heads=6,
        window=9,
        global_blocks=(1, 3, 5, 7),
        dim=128,
        decoder_heads=4,
        decoder_hidden=512,
        score_hidden=128,
    ),
    guide=GuideConfig(
        vision=ClipConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=5,
            num_attention_heads=6,
            image_size=192,
            patch_size=12,
            # As the tower of instructseg-nano, whose weights this one's training starts from.
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-6,
            select_layer=-1,
        ),
        language=LlamaConfig(
            vocab_size=2000,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=1024,
        ),
    ),
    stages=((4, 0.5), (6, 0.5)),
)

TINY = VLTPConfig(
    sam=SamConfig(
        image_size=56,
        patch_size=8,
        width=24,
        depth=4,
        heads=2,
        window=3,
        global_blocks=(1, 3),
        mlp_ratio=2,
        dim=16,
        decoder_heads=2,
        decoder_hidden=24,
        score_hidden=16,
    ),
    guide=GuideConfig(
        vision=ClipConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=30,
            patch_size=7,
        ),
        language=LlamaConfig(
            vocab_size=400,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
        ),
    ),
    stages=((1, 0.5), (3, 0.3)),
)

VLTP_PRESETS: dict[str, VLTPConfig] = {
    "b": VLTPConfig(sam=SamConfig.named("b"), stages=((6, 0.5), (9, 0.5))),
    "l": VLTPConfig(sam=SamConfig.named("l"), stages=((12, 0.5), (18, 0.5))),
    "h": VLTPConfig(),
    "nano": NANO,
    "tiny": TINY,
}

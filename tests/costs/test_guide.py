"""What the guide multiplies and adds, as torch counts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from leanseg.costs.guide import guide
from leanseg.models.vltp import mllm
from leanseg.models.vltp.config import ClipConfig, GuideConfig, LlamaConfig

EYE = ClipConfig(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
)
LANGUAGE = LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=4,
)  # fmt: skip
GUIDES = {
    "as LISA": GuideConfig(vision=EYE, language=LANGUAGE),
    "two linear layers": GuideConfig(vision=EYE, language=LANGUAGE, projector="mlp"),
    "shared keys, last layer": GuideConfig(
        vision=replace(EYE, select_layer=-1), language=replace(LANGUAGE, num_key_value_heads=2)
    ),
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_as_torch_counts_it(name: str):
    config, text_tokens = GUIDES[name], 11
    length = config.vision.n_tokens + text_tokens
    model = mllm.build_mllm(config).eval()
    pixels = torch.zeros(1, 3, config.vision.image_size, config.vision.image_size)
    embeds = torch.zeros(1, length, config.language.hidden_size)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        mllm.image_features(model, pixels, config.vision.n_layers_run)
        mllm.read(model, embeds)
    assert counter.get_total_flops() / 2 == sum(guide(config, text_tokens).values())

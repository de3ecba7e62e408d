"""A VLTP that is small enough for tests, with weights that make every part matter, and pictures of odd shapes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.conversation import QUESTION, TEMPLATES, TRAIN_ANSWERS
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.tokenizer import IMAGE_START, GuideTokenizer, train_guide_tokenizer

INSTRUCTION = "the red cup"


@cache
def tiny_tokenizer() -> GuideTokenizer:
    before = TEMPLATES["llava_v1"].before + IMAGE_START
    texts = [before, QUESTION.format("the red cup left of the dog"), " ASSISTANT: ", *TRAIN_ANSWERS]
    return train_guide_tokenizer(texts, vocab_size=340)


def tiny_vltp_config(**changes: Any) -> VLTPConfig:
    return replace(VLTP_PRESETS["tiny"], **changes)


def tiny_vltp(seed: int = 2, **changes: Any) -> VLTP:
    """Return a model whose masks are neither empty nor full; SAM's grid is 7 x 7 in windows of 3."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VLTP(tiny_vltp_config(**changes), tokenizer=tiny_tokenizer())
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            spread = 0.5 if "rel_pos" in name or "bias" in name else 0.2
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def picture(height: int = 41, width: int = 63, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

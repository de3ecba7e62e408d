"""Golden folders of InstructSeg as Python objects: tensors, sizes, and models built from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.models.golden_folders import golden
from torch import Tensor

from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.names import from_released
from leanseg.models.instructseg.prompt import Prompt
from leanseg.models.instructseg.tokenizer import TextTokenizer, train_tokenizer
from leanseg.models.presets import PRESETS

MODULE_TOLERANCE = 1e-5
LOGIT_TOLERANCE = 1e-4
FLIPPED_PIXELS = 1e-3


@dataclass(frozen=True)
class Folder:
    """One golden folder; files that a family does not have are empty."""

    path: Path
    config: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]


@cache
def read_folder(path: Path) -> Folder:
    tensors = {
        name: load_file(path / f"{name}.safetensors") if (path / f"{name}.safetensors").is_file() else {}
        for name in ("inputs", "outputs", "state_dict")
    }
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return Folder(path, config, tensors["inputs"], tensors["outputs"], tensors["state_dict"])


def folder_cases(family: str, names: Callable[[Folder], list[str]]) -> list[object]:
    """Return (folder path, case) of every folder of a family, as `golden` does, with cases from its content."""
    return golden(family, lambda path: names(read_folder(path)))


def assert_near(given: Tensor, expected: Tensor, tolerance: float) -> None:
    assert given.shape == expected.shape
    torch.testing.assert_close(given, expected, rtol=0, atol=tolerance)


def e2e_config(content: dict[str, Any], image_size: int) -> InstructSegConfig:
    """Translate the config.json of an e2e folder, whose sizes stand under the reference's names, into ours."""
    mask, resamplers = content["mask_former"], {}
    for name in ("ovp", "vmtf"):
        part = content[name]
        resamplers[name] = {
            "width": part["dim"],
            "depth": part["depth"],
            "heads": part["heads"],
            "head_dim": part["dim_head"],
            "feedforward_factor": part["ff_mult"],
            "num_queries": part.get("num_queries", 1),
        }
    return InstructSegConfig.from_dict(
        {
            **content["phi"],
            "vision_config": {"vision_tower": content["vision"], "mm_projector": content["mm_projector"]},
            "leanseg": {
                **resamplers,
                "swin": content["swin"],
                "mask": {
                    "num_queries": mask["num_queries"],
                    "hidden_dim": mask["hidden_dim"],
                    "num_heads": mask["nheads"],
                    "feedforward": mask["dim_feedforward"],
                    "decoder_layers": mask["decoder_layers"],
                    "mask_dim": mask["mask_dim"],
                    "encoder_layers": mask["pixel_enc_layers"],
                    "encoder_feedforward": mask["pixel_ffn"],
                },
                "mask_image_size": image_size,
            },
        }
    )


@cache
def e2e_model(path: Path) -> InstructSeg:
    """Build the model of an e2e folder with the reference's weights."""
    folder = read_folder(path)
    config = e2e_config(folder.config, image_size=folder.inputs["images"].shape[-1])
    model = InstructSeg(config).eval()
    state = {name: tensor for name, tensor in folder.state.items() if name != "lm_head.weight"}
    model.load_state_dict(from_released(state))
    return model


def golden_prompt(ids: Tensor, refer_ids: Tensor, eos_id: int) -> Prompt:
    return Prompt(
        task="referring", template="released", text="", instruction="", ids=ids, refer_ids=refer_ids, eos_id=eos_id
    )


@cache
def tiny_tokenizer() -> TextTokenizer:
    """A byte-level tokenizer that knows a few words and every byte."""
    words = ["the dog left of the red apple. Sure, the segmentation result is", "USER: ASSISTANT: This is an image"]
    return train_tokenizer(words * 4, vocab_size=PRESETS["tiny"].language.vocab_size)


def tiny_model(*, lm_head: bool = False, seed: int = 0) -> InstructSeg:
    """Build a random model of the tiny preset, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return InstructSeg(PRESETS["tiny"], tokenizer=tiny_tokenizer(), lm_head=lm_head).eval()


@torch.inference_mode()
def tiny_answer(model: InstructSeg, instruction: str = "the dog") -> tuple[Tensor, Tensor]:
    """Run the whole path on fixed pixels: last mask logits and score logits."""
    generator = torch.Generator().manual_seed(1)
    vision, side = model.config.vision.image_size, model.config.mask_image_size
    tokens = model.project(model.encode_vision(torch.randn(1, 3, vision, vision, generator=generator)))
    pixel = model.encode_pixels(torch.randn(1, 3, side, side, generator=generator))
    prompt = model.encode_prompt("referring", instruction)
    temporal = model.temporal_tokens(tokens, prompt.refer_ids)
    states = model.language([model.assemble(prompt, tokens[0], temporal)])
    answer = model.decode(states.queries, model.score_embedding(states.refer, pixel.res5), pixel)[-1]
    return answer.mask_logits, answer.score_logits

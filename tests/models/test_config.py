"""Sizes: the release's config.json, the extra key, the presets, and values that make no sense."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leanseg.errors import WeightsError
from leanseg.models.instructseg.config import InstructSegConfig, ResamplerConfig, VisionConfig
from leanseg.models.presets import PRESETS

# As far as the release's file is known: Phi-2's sizes on top, SigLIP's below vision_config, none of the mask branch's.
RELEASED = {
    "architectures": ["InstructSeg"],
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.4,
    "rope_theta": 10000,
    "rope_scaling": None,
    "layer_norm_eps": 1e-05,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 2048,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0,
    "attention_dropout": 0,
    "bos_token_id": 1,
    "vocab_size": 50296,
    "vision_config": {
        "vision_tower": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-06,
            "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch",
            "vision_model_name_or_path": "siglip-so400m",
            "torch_dtype": "float16",
        },
        "mm_projector": {"mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 1152, "hidden_size": 2560},
    },
}


def test_the_release_is_the_full_preset():
    assert InstructSegConfig.from_dict(RELEASED) == PRESETS["full"]


def test_select_layer_is_read_from_the_file():
    tower = {**RELEASED["vision_config"]["vision_tower"], "mm_vision_select_layer": -1}
    config = InstructSegConfig.from_dict({**RELEASED, "vision_config": {"vision_tower": tower}})
    assert (config.vision.select_layer, config.vision.n_layers_run) == (-1, 27)
    assert (PRESETS["full"].vision.n_layers_run, PRESETS["full"].vision.n_tokens) == (26, 729)


def test_rotary_settings_of_newer_files():
    newer = {key: value for key, value in RELEASED.items() if key not in ("partial_rotary_factor", "rope_theta")}
    rope = {"partial_rotary_factor": 0.25, "rope_theta": 500.0, "rope_type": "default"}
    language = InstructSegConfig.from_dict({**newer, "rope_parameters": rope}).language
    assert (language.partial_rotary_factor, language.rope_theta) == (0.25, 500.0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str):
    assert InstructSegConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_resamplers_follow_the_widths_unless_told():
    config = InstructSegConfig.from_dict(
        {"hidden_size": 64, "num_attention_heads": 4, "leanseg": {"swin": {"embed_dim": 16}, "ovp": {"depth": 1}}}
    )
    assert (config.ovp.width, config.ovp.depth, config.vmtf.width) == (64, 1, 128)
    assert config.language.num_key_value_heads == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hidden_size": "wide"}, "hidden_size in config.json is 'wide'; expected int such as 2560"),
        ({"hidden_size": 2560.0}, "hidden_size in config.json is 2560.0; expected int"),
        ({"qk_layernorm": True}, "qk_layernorm in config.json is True; expected none, as released"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling in config.json is .*; expected none"),
        ({"rope_theta": "high"}, "rope_theta in config.json is 'high'; expected float"),
        ({"vision_config": 3}, "vision_config in config.json is 3; expected an object"),
        ({"leanseg": {"swin": {"depths": [2, "2"]}}}, r"depths in leanseg.swin is \[2, '2'\]; expected tuple"),
        ({"hidden_size": -2560}, "hidden_size in config.json is -2560; expected a whole number of at least 1"),
        ({"leanseg": {"swin": {"depths": [2, 0]}}}, "depths in leanseg.swin is 0; expected a whole number of at least"),
        ({"leanseg": {"mask_image_size": 10**6}}, "mask_image_size is 1000000; expected 32 to 4096"),
        ({"leanseg": {"reference_frames": 65}}, "reference_frames is 65; expected 1 to 64"),
        ({"leanseg": {"template": 1}}, "template in leanseg is 1; expected str"),
        (
            {"vision_config": {"vision_tower": {"use_head": 1}}},
            "use_head in vision_config.vision_tower is 1; expected bool",
        ),
    ],
)
def test_values_of_the_wrong_type(content: dict[str, object], message: str):
    with pytest.raises(WeightsError, match=message):
        InstructSegConfig.from_dict(content)


def test_select_layer_outside_the_tower():
    with pytest.raises(WeightsError, match=r"mm_vision_select_layer -29 is outside the tower's 28 hidden states"):
        VisionConfig(select_layer=-29)


def test_ovp_must_be_as_wide_as_the_language_model():
    with pytest.raises(WeightsError, match="OVP is 64 wide and the language model 32"):
        replace(PRESETS["tiny"], ovp=ResamplerConfig(width=64))

"""Sizes of InstructSeg as frozen data, read from and written to the release's config.json.

The release's file holds the language model's sizes at its top level and SigLIP's under `vision_config`. The sizes of
Swin, the mask modules and the two resamplers are constants of the released code; a model of other sizes keeps them
under the one extra key `leanseg`, and a file without that key has the released sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from leanseg.errors import WeightsError
from leanseg.models.config_reading import mapping, read_part

EXTRA_KEY = "leanseg"
# Sizes that no weight's shape bounds, so that a stranger's file could ask for any amount of memory.
LARGEST_MASK_IMAGE = 4096
MOST_REFERENCE_FRAMES = 64


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """SigLIP; `select_layer` indexes its hidden states: 0 = embeddings, -2 = the last layer's input."""

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 384
    patch_size: int = 14
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    select_layer: int = -2
    use_head: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.n_layers_run <= self.num_hidden_layers:
            raise WeightsError(
                f"mm_vision_select_layer {self.select_layer} is outside the tower's {self.num_hidden_layers + 1} "
                f"hidden states; expected {-self.num_hidden_layers - 1}..{self.num_hidden_layers}; correct config.json"
            )

    @property
    def side(self) -> int:
        """Tokens along one side of the square grid; pixels beyond the last whole patch are unused."""
        return self.image_size // self.patch_size

    @property
    def n_tokens(self) -> int:
        """Visual tokens of one frame."""
        return self.side**2

    @property
    def n_layers_run(self) -> int:
        """Encoder layers that the selected hidden state needs (26 of 27 in the release)."""
        return self.select_layer if self.select_layer >= 0 else self.num_hidden_layers + 1 + self.select_layer


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Phi-2's sizes; `lm_head_size` is the rows of the language head, which segmentation never evaluates."""

    hidden_size: int = 2560
    intermediate_size: int = 10240
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    vocab_size: int = 50296
    lm_head_size: int = 51200
    partial_rotary_factor: float = 0.4
    rope_theta: float = 10000.0
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.0
    attention_dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """The pixel branch's backbone; channels double at every stage."""

    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 12
    mlp_ratio: float = 4.0

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of res2, res3, res4, res5 (strides 4, 8, 16, 32)."""
        return self.embed_dim, 2 * self.embed_dim, 4 * self.embed_dim, 8 * self.embed_dim


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Pixel decoder and mask decoder; `num_queries` is also the number of mask tokens in the language sequence."""

    num_queries: int = 100
    hidden_dim: int = 256
    num_heads: int = 8
    decoder_layers: int = 9
    feedforward: int = 2048
    mask_dim: int = 256
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    n_points: int = 4


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig:
    """OVP or VMTF: `num_queries` latents of `width` channels, `heads` x `head_dim` inside the attention."""

    width: int = 2560
    depth: int = 3
    heads: int = 8
    head_dim: int = 128
    feedforward_factor: int = 2
    num_queries: int = 128


@dataclass(frozen=True, kw_only=True)
class InstructSegConfig:
    """All sizes of one model; the defaults are the released ones."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    swin: SwinConfig = field(default_factory=SwinConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    ovp: ResamplerConfig = field(default_factory=ResamplerConfig)
    vmtf: ResamplerConfig = field(default_factory=lambda: ResamplerConfig(width=1024, num_queries=1))
    mask_image_size: int = 1024
    reference_frames: int = 4
    template: str = "released"

    def __post_init__(self) -> None:
        if self.ovp.width != self.language.hidden_size:
            raise WeightsError(
                f"OVP is {self.ovp.width} wide and the language model {self.language.hidden_size}; "
                "both must be equal: correct the sizes"
            )
        for name, value, least, most in (
            ("mask_image_size", self.mask_image_size, 32, LARGEST_MASK_IMAGE),
            ("reference_frames", self.reference_frames, 1, MOST_REFERENCE_FRAMES),
        ):
            if not least <= value <= most:
                raise WeightsError(f"{name} is {value}; expected {least} to {most}; correct config.json")

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> InstructSegConfig:
        """Read the content of a config.json; absent keys take the released value."""
        for key in ("qk_layernorm", "rope_scaling"):
            if source.get(key):
                raise WeightsError(
                    f"{key} in config.json is {source[key]!r}; expected none, as released; use that model"
                )
        language = read_part(LanguageConfig, _with_rope(source), "config.json")
        vision_config = mapping(source, "vision_config")
        tower = dict(mapping(vision_config, "vision_tower"))
        for released, ours in (("mm_vision_select_layer", "select_layer"), ("vision_use_head", "use_head")):
            if released in tower:
                tower[ours] = tower.pop(released)
        extra = dict(mapping(source, EXTRA_KEY))
        for name, part in (("swin", SwinConfig), ("mask", MaskConfig)):
            extra[name] = read_part(part, mapping(extra, name), f"{EXTRA_KEY}.{name}")
        default_ovp = {"width": language.hidden_size}
        default_vmtf = {"width": 8 * extra["swin"].embed_dim, "num_queries": 1}
        extra["ovp"] = read_part(ResamplerConfig, {**default_ovp, **mapping(extra, "ovp")}, f"{EXTRA_KEY}.ovp")
        extra["vmtf"] = read_part(ResamplerConfig, {**default_vmtf, **mapping(extra, "vmtf")}, f"{EXTRA_KEY}.vmtf")
        if "lm_head_size" in extra:
            language = read_part(LanguageConfig, {**asdict(language), "lm_head_size": extra["lm_head_size"]}, EXTRA_KEY)
        parts = {"vision": read_part(VisionConfig, tower, "vision_config.vision_tower"), "language": language}
        return read_part(cls, {**extra, **parts}, EXTRA_KEY)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a config.json in the release's layout, with all our sizes under the extra key."""
        vision = asdict(self.vision)
        vision["mm_vision_select_layer"] = vision.pop("select_layer")
        vision["vision_use_head"] = vision.pop("use_head")
        language = asdict(self.language)
        extra: dict[str, Any] = {name: asdict(getattr(self, name)) for name in ("swin", "mask", "ovp", "vmtf")}
        extra["lm_head_size"] = language.pop("lm_head_size")
        extra |= {name: getattr(self, name) for name in ("mask_image_size", "reference_frames", "template")}
        return {
            "architectures": ["InstructSeg"],
            "model_type": "mipha_phi",
            **language,
            "image_aspect_ratio": "square",
            "mask_decode_train": True,
            "mm_use_im_patch_token": False,
            "mm_use_im_start_end": False,
            "swin_type": "base",
            "tie_word_embeddings": False,
            "tokenizer_model_max_length": self.language.max_position_embeddings,
            "tokenizer_padding_side": "right",
            "use_mm_proj": True,
            "vision_config": {
                "vision_tower": {**vision, "mm_vision_select_feature": "patch", "vision_model_name_or_path": "siglip"},
                "mm_projector": {
                    "mm_projector_type": "mlp2x_gelu",
                    "mm_hidden_size": self.vision.hidden_size,
                    "hidden_size": self.language.hidden_size,
                },
            },
            EXTRA_KEY: extra,
        }


def _with_rope(source: Mapping[str, Any]) -> dict[str, Any]:
    """Newer files keep the rotary settings under `rope_parameters`; the release keeps them at the top level."""
    rope = mapping(source, "rope_parameters")
    kept = {key: rope[key] for key in ("partial_rotary_factor", "rope_theta") if key in rope}
    heads = {"num_key_value_heads": source["num_attention_heads"]} if "num_attention_heads" in source else {}
    return {**heads, **kept, **{key: value for key, value in source.items() if value is not None}}

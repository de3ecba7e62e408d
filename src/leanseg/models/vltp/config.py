"""Sizes of VLTP as frozen data, read from and written to its config.json; the defaults are the paper's at ViT-H."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from leanseg.core.budget import check_ratio
from leanseg.errors import LeansegError, WeightsError, unknown_name
from leanseg.models.config_reading import mapping, read_part
from leanseg.models.sam.config import LARGEST_IMAGE, SamConfig
from leanseg.models.vltp.active import POLICIES
from leanseg.models.vltp.conversation import TEMPLATES
from leanseg.models.vltp.encoders import ENCODERS
from leanseg.models.vltp.staged_encoder import SEVERAL

MODEL_TYPE = "vltp"
PROJECTORS = ("linear", "mlp")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The language model's eye, a CLIP tower; `select_layer` indexes its hidden states: -2 = the last layer's input."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    select_layer: int = -2

    def __post_init__(self) -> None:
        if not self.patch_size <= self.image_size <= LARGEST_IMAGE:
            raise WeightsError(
                f"CLIP's image_size is {self.image_size}; expected {self.patch_size}, its patch, to {LARGEST_IMAGE}"
            )
        if not 0 <= self.n_layers_run <= self.num_hidden_layers:
            raise WeightsError(
                f"select_layer {self.select_layer} is outside the tower's {self.num_hidden_layers + 1} hidden states; "
                f"expected {-self.num_hidden_layers - 1}..{self.num_hidden_layers}; correct config.json"
            )

    @property
    def n_tokens(self) -> int:
        """Tokens of one picture, without the class token."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def n_layers_run(self) -> int:
        """Layers that the selected hidden state needs."""
        return self.select_layer if self.select_layer >= 0 else self.num_hidden_layers + 1 + self.select_layer


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The language model; the vocabulary is LLaMA's with [SEG], <im_start> and <im_end>."""

    vocab_size: int = 32003
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """The LLaVA that says what to segment. `projector`: one linear layer (LISA), or LLaVA 1.5's two ("mlp").

    `template`: the form of its conversations, that of LLaVA on Vicuna or on LLaMA 2 (`llava_llama_2`).
    """

    vision: ClipConfig = field(default_factory=ClipConfig)
    language: LlamaConfig = field(default_factory=LlamaConfig)
    projector: str = "linear"
    template: str = "llava_v1"

    def __post_init__(self) -> None:
        for name, known in (("projector", PROJECTORS), ("template", TEMPLATES)):
            if getattr(self, name) not in known:
                raise WeightsError(unknown_name(name, str(getattr(self, name)), known))
        if self.vision.n_tokens >= self.language.max_position_embeddings:
            raise WeightsError(
                f"a picture has {self.vision.n_tokens} tokens and the language model "
                f"{self.language.max_position_embeddings} positions; expected room for words beside a picture"
            )


@dataclass(frozen=True, kw_only=True)
class VLTPConfig:
    """All of one model. `stages`: after how many of SAM's blocks, and the fraction of all tokens that goes on.

    `method` of `ENCODERS` chooses there, and may have weights of its own; without stages SAM is as it was. `policy` and
    `reactivate` as in `StagedEncoder`; `several`: what to do with several [SEG] of one answer, one pass each or one.
    """

    sam: SamConfig = field(default_factory=SamConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    stages: tuple[tuple[int, float], ...] = ((16, 0.5), (24, 0.5))
    method: str = "vltp"
    policy: str = "drop"
    reactivate: bool = True
    several: str = "per_prompt"

    def __post_init__(self) -> None:
        for name, known in (("policy", POLICIES), ("several", SEVERAL), ("method", ENCODERS)):
            if getattr(self, name) not in known:
                raise WeightsError(unknown_name(name, str(getattr(self, name)), known))
        places = [place for place, _ in self.stages]
        if places != sorted(set(places)) or any(not 0 <= place < self.sam.depth for place in places):
            raise WeightsError(
                f"stages lie after blocks {places}; expected rising numbers in 0..{self.sam.depth - 1}, as SAM has "
                f"{self.sam.depth} blocks"
            )
        try:
            for _, keep_ratio in self.stages:
                check_ratio(keep_ratio)
        except LeansegError as error:
            raise WeightsError(f"the stages {self.stages} are none: {error}") from error

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> VLTPConfig:
        """Read the content of a config.json; absent keys take the paper's value."""
        if source.get("model_type") != MODEL_TYPE:
            raise WeightsError(
                f"config.json is of a model of type {source.get('model_type')!r}; expected {MODEL_TYPE!r}; use that "
                "model's own loader (leanseg.models.vltp.lisa for a LISA checkpoint)"
            )
        guide = mapping(source, "guide")
        vision = read_part(ClipConfig, mapping(guide, "vision"), "guide.vision")
        language = read_part(LlamaConfig, mapping(guide, "language"), "guide.language")
        parts: dict[str, Any] = {
            "sam": read_part(SamConfig, mapping(source, "sam"), "sam"),
            "guide": read_part(GuideConfig, {**guide, "vision": vision, "language": language}, "guide"),
        }
        if "stages" in source:
            parts["stages"] = _stages(source["stages"])
        return read_part(cls, {**source, **parts}, "config.json")

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a config.json."""
        return {"architectures": ["VLTP"], "model_type": MODEL_TYPE, **asdict(self)}


def _stages(given: Any) -> tuple[tuple[int, float], ...]:
    if not isinstance(given, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in given):
        raise WeightsError(
            f"stages in config.json are {given!r}; expected pairs [after_block, keep_ratio] such as [[16, 0.5]]"
        )
    wrong = [pair for pair in given if type(pair[0]) is not int or type(pair[1]) not in (int, float)]
    if wrong:
        raise WeightsError(
            f"a stage in config.json is {wrong[0]!r}; expected [after_block, keep_ratio], a whole number and a fraction"
        )
    return tuple((place, float(ratio)) for place, ratio in given)

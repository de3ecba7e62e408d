"""Where each family of vision-language models keeps its parts: one row per family, and one row adds a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

from leanseg.errors import AttachError, unknown_name
from leanseg.hf.pieces import (
    GridReader,
    Rule,
    pixtral_grids,
    pooled_frames,
    recorded,
    square,
    square_or_recorded,
    thw_grids,
    tiles,
)
from leanseg.hf.pooling import CuePooling, blocks, merged_units


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One family. Names are attributes, dotted where nested, of the module that holds tower and language model.

    `images`, `videos`: the rule by which visual positions fall into grids (`leanseg.hf.pieces`); None = the family has
    no clips. `layers`: the transformer layers of the tower; alternatives are separated by `|`. `image_token`,
    `video_token`: the configuration's names of the placeholder ids. `grids`: reads picture sizes from the arguments of
    the tower, where they vary. `cues`: brings what a tower layer saw onto the grid; None = the tower's attention and
    keys cannot be had. `before_projector`: the projector takes one row per token, so that `site="before_projector"` is
    possible. `many_axes`: rotary positions have several axes (time, height, width) and can only stay `original`.
    """

    model_type: str
    title: str
    images: Rule
    videos: Rule | None = None
    tower: str = "vision_tower"
    layers: str = "encoder.layers|transformer.layers"
    projector: str = "multi_modal_projector"
    language: str = "language_model"
    image_token: str = "image_token_id"
    video_token: str = "video_token_id"
    grids: GridReader | None = None
    cues: CuePooling | None = None
    before_projector: bool = False
    many_axes: bool = False

    def part(self, base: nn.Module, name: str) -> nn.Module:
        """Return the tower, its layers, the projector or the language model of `base`."""
        found = _first(base, getattr(self, name)) if name != "layers" else _first(self.part(base, "tower"), self.layers)
        if found is None:
            raise AttachError(
                f"{type(base).__name__} has no {getattr(self, name)!r}, which the layout of {self.model_type!r} calls "
                f"its {name}; correct the row"
            )
        return found

    def feature_layer(self, base: nn.Module) -> int:
        """Return the index of the tower layer whose output is used; the deepest where several are."""
        n_layers = len(self.part(base, "layers"))  # type: ignore[arg-type]
        chosen = getattr(base.config, "vision_feature_layer", None)
        listed = chosen if isinstance(chosen, list | tuple) else [-1 if chosen is None else chosen]
        # hidden_states[0] is what enters the first layer, so that a positive p is the output of layer p - 1.
        return max(layer + n_layers if layer < 0 else layer - 1 for layer in listed)


def _first(module: nn.Module, names: str) -> nn.Module | None:
    for name in names.split("|"):
        try:
            return attrgetter(name)(module)
        except AttributeError:
            continue
    return None


def _shuffled(config: Any) -> int:
    return round(1 / config.downsample_ratio)


def _scale(config: Any) -> int:
    return int(config.scale_factor)


def _aya(config: Any) -> int:
    return int(config.downsample_factor)


def _gemma(config: Any) -> int:
    side = config.vision_config.image_size // config.vision_config.patch_size
    return side // math.isqrt(config.mm_tokens_per_image)


def _got(config: Any) -> int:
    return 4  # two convolutions of stride 2 behind the tower


def _one(config: Any) -> int:
    return 1


_QWEN: dict[str, Any] = {
    "images": recorded,
    "videos": recorded,
    "tower": "visual",
    "layers": "blocks",
    "projector": "visual.merger",
    "grids": thw_grids,
    "cues": merged_units,
    "many_axes": True,
}
_IDEFICS: dict[str, Any] = {
    "images": square(_scale),
    "tower": "vision_model",
    "projector": "connector",
    "language": "text_model",
    "cues": blocks(_scale),
}
_ROWS = (
    Layout(
        model_type="llava",
        title="LLaVA 1.5 (also with a Pixtral tower)",
        images=square_or_recorded,
        grids=pixtral_grids,
        cues=blocks(_one),
        before_projector=True,
    ),
    Layout(model_type="vipllava", title="ViP-LLaVA", images=square(), cues=blocks(_one), before_projector=True),
    Layout(model_type="llava_next", title="LLaVA-NeXT", images=tiles),
    Layout(
        model_type="llava_next_video",
        title="LLaVA-NeXT-Video",
        images=tiles,
        videos=pooled_frames(lambda config: config.spatial_pool_stride, end_breaks=0, round_up=False),
    ),
    Layout(
        model_type="llava_onevision",
        title="LLaVA-OneVision",
        images=tiles,
        videos=pooled_frames(lambda config: 2, end_breaks=1, round_up=True),
    ),
    Layout(model_type="paligemma", title="PaliGemma", images=square(), cues=blocks(_one), before_projector=True),
    Layout(model_type="gemma3", title="Gemma 3", images=square(_gemma), cues=blocks(_gemma)),
    Layout(
        model_type="internvl",
        title="InternVL",
        images=square(_shuffled),
        layers="encoder.layer",
        cues=blocks(_shuffled),
        before_projector=True,
    ),
    Layout(model_type="qwen2_vl", title="Qwen2-VL", **_QWEN),
    Layout(model_type="qwen2_5_vl", title="Qwen2.5-VL", **_QWEN),
    Layout(model_type="qwen3_vl", title="Qwen3-VL", **_QWEN),
    Layout(model_type="qwen3_vl_moe", title="Qwen3-VL, mixture of experts", **_QWEN),
    Layout(model_type="idefics3", title="Idefics3", **_IDEFICS),
    Layout(model_type="smolvlm", title="SmolVLM", **_IDEFICS),
    Layout(model_type="mistral3", title="Mistral 3 (Pixtral tower)", images=recorded, grids=pixtral_grids),
    Layout(model_type="aya_vision", title="Aya Vision", images=square(_aya), cues=blocks(_aya)),
    Layout(model_type="got_ocr2", title="GOT-OCR2", images=square(_got), layers="layers"),
)

LAYOUTS: dict[str, Layout] = {row.model_type: row for row in _ROWS}


def table() -> str:
    """Return the families as a Markdown table, one line each."""
    lines = [
        "| family | `model_type` | clips | positions | tower's attention, keys | before the projector |",
        "|---" * 6 + "|",
    ]
    for row in LAYOUTS.values():
        cells = [
            row.title,
            f"`{row.model_type}`",
            "yes" if row.videos else "no",
            "original" if row.many_axes else "original, compact",
            "yes" if row.cues else "no",
            "yes" if row.before_projector else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_cues(reads: Callable[[Layout], bool]) -> str:
    """Name the families for which `reads` holds, for error messages."""
    return ", ".join(name for name, row in LAYOUTS.items() if reads(row))


def find(model: nn.Module, layout: Layout | None = None) -> tuple[Layout, nn.Module]:
    """Return the row of `model` and the module inside it that holds its tower and its language model."""
    if layout is None:
        layout = _known(model)
    if not isinstance(layout, Layout):
        raise AttachError(f"layout is {layout!r}; expected a leanseg.hf.Layout(model_type=..., title=..., images=...)")
    tower, language = layout.tower.split("|")[0], layout.language
    holders = [
        part for part in model.modules() if _first(part, tower) is not None and _first(part, language) is not None
    ]
    if not holders:
        raise AttachError(
            f"nothing in {type(model).__name__} has both {layout.tower!r} and {layout.language!r}, where the layout of "
            f"{layout.model_type!r} expects its vision tower and language model; correct the row"
        )
    # The innermost: outer models hand their parts through.
    return layout, holders[-1]


def _known(model: nn.Module) -> Layout:
    types = [getattr(getattr(part, "config", None), "model_type", "") for part in model.modules()]
    for name in types:
        if name in LAYOUTS:
            return LAYOUTS[name]
    given = types[0] or type(model).__name__
    raise AttachError(
        f"{unknown_name('model type', given, LAYOUTS)}. Another model needs one row: attach(model, pruner, "
        "layout=leanseg.hf.Layout(model_type=..., title=..., images=..., tower=..., language=...)); see docs/attach.md"
    )

"""Tiny random models of every family, and inputs for them, built by hand: no processor, no torchvision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

VOCABULARY, IMAGE, VIDEO, PAD = 100, 98, 97, 0
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": None,
    "max_position_embeddings": 512,
}
TOWER = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SIGLIP = {**TOWER, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7}
CLIP = {**TOWER, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 7, "projection_dim": 16}
LARGE = {**SIGLIP, "image_size": 56}
LLAMA = {**TEXT, "model_type": "llama", "head_dim": 8}
QWEN2 = {**TEXT, "model_type": "qwen2"}
GEMMA = {**TEXT, "model_type": "gemma", "head_dim": 8}
IDS = {"image_token_id": IMAGE, "pad_token_id": PAD}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 95, "vision_end_token_id": 96}
QWEN_TOWER = {"depth": 3, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}


def _configs() -> dict[str, tuple[str, dict[str, Any]]]:
    """The class prefix and the configuration of each family."""
    return {
        "llava": ("Llava", {"vision_config": CLIP, "text_config": LLAMA, **IDS}),
        "pixtral": (
            "Llava",
            {
                "vision_config": {**TOWER, "model_type": "pixtral", "image_size": 28, "patch_size": 7, "head_dim": 12},
                "text_config": LLAMA,
                "vision_feature_layer": -1,
                "vision_feature_select_strategy": "full",
                **IDS,
            },
        ),
        "vipllava": (
            "VipLlava",
            {"vision_config": CLIP, "text_config": LLAMA, "vision_feature_layer": [-1, -2], **IDS},
        ),
        "llava_next": (
            "LlavaNext",
            {"vision_config": CLIP, "text_config": LLAMA, "image_grid_pinpoints": [[28, 56], [56, 28]], **IDS},
        ),
        "llava_next_video": (
            "LlavaNextVideo",
            {
                "vision_config": CLIP,
                "text_config": LLAMA,
                "image_grid_pinpoints": [[28, 56], [56, 28]],
                "video_token_id": VIDEO,
                **IDS,
            },
        ),
        "llava_onevision": (
            "LlavaOnevision",
            {
                "vision_config": SIGLIP,
                "text_config": QWEN2,
                "image_grid_pinpoints": [[28, 56], [56, 28]],
                "vision_feature_select_strategy": "full",
                "video_token_id": VIDEO,
                **IDS,
            },
        ),
        "paligemma": (
            "PaliGemma",
            {"vision_config": {**SIGLIP, "projection_dim": 32}, "text_config": GEMMA, "projection_dim": 32, **IDS},
        ),
        "gemma3": (
            "Gemma3",
            {
                "vision_config": LARGE,
                "text_config": {**TEXT, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 64},
                "mm_tokens_per_image": 16,
                **IDS,
            },
        ),
        "internvl": (
            "InternVL",
            {
                "vision_config": {**TOWER, "image_size": [56, 56], "patch_size": [7, 7]},
                "text_config": QWEN2,
                "downsample_ratio": 0.5,
                **IDS,
            },
        ),
        "qwen2_vl": (
            "Qwen2VL",
            {
                "vision_config": {**QWEN_TOWER, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
                "text_config": {**TEXT, "rope_parameters": ROPE},
                **QWEN_IDS,
            },
        ),
        "qwen2_5_vl": (
            "Qwen2_5_VL",
            {
                "vision_config": {
                    **QWEN_TOWER,
                    "hidden_size": 16,
                    "out_hidden_size": 32,
                    "intermediate_size": 24,
                    "window_size": 16,
                    "fullatt_block_indexes": [2],
                },
                "text_config": {**TEXT, "rope_parameters": ROPE},
                **QWEN_IDS,
            },
        ),
        "qwen3_vl": (
            "Qwen3VL",
            {
                "vision_config": {
                    **QWEN_TOWER,
                    "hidden_size": 16,
                    "out_hidden_size": 32,
                    "intermediate_size": 24,
                    "num_position_embeddings": 16,
                    "deepstack_visual_indexes": [0, 1],
                },
                "text_config": {**TEXT, "head_dim": 8, "rope_parameters": {**ROPE, "mrope_interleaved": True}},
                **QWEN_IDS,
            },
        ),
        "qwen3_vl_moe": (
            "Qwen3VLMoe",
            {
                "vision_config": {
                    **QWEN_TOWER,
                    "hidden_size": 16,
                    "out_hidden_size": 32,
                    "intermediate_size": 24,
                    "num_position_embeddings": 16,
                    "deepstack_visual_indexes": [0, 1],
                },
                "text_config": {
                    **TEXT,
                    "head_dim": 8,
                    "num_experts": 4,
                    "num_experts_per_tok": 2,
                    "moe_intermediate_size": 16,
                    "rope_parameters": {**ROPE, "mrope_interleaved": True},
                },
                **QWEN_IDS,
            },
        ),
        "idefics3": (
            "Idefics3",
            {
                "vision_config": {**LARGE, "model_type": "idefics3_vision"},
                "text_config": LLAMA,
                "scale_factor": 2,
                "tie_word_embeddings": False,
                **IDS,
            },
        ),
        "smolvlm": (
            "SmolVLM",
            {
                "vision_config": {**LARGE, "model_type": "smolvlm_vision"},
                "text_config": LLAMA,
                "scale_factor": 2,
                "tie_word_embeddings": False,
                **IDS,
            },
        ),
        "mistral3": (
            "Mistral3",
            {
                "vision_config": {**TOWER, "model_type": "pixtral", "image_size": 28, "patch_size": 7, "head_dim": 12},
                "text_config": {**TEXT, "model_type": "mistral", "head_dim": 8, "sliding_window": None},
                "spatial_merge_size": 2,
                "vision_feature_layer": -1,
                **IDS,
            },
        ),
        "aya_vision": (
            "AyaVision",
            {
                "vision_config": LARGE,
                "text_config": {**LLAMA},
                "downsample_factor": 2,
                "vision_feature_select_strategy": "full",
                "vision_feature_layer": -1,
                **IDS,
            },
        ),
        "got_ocr2": (
            "GotOcr2",
            {
                "vision_config": {
                    **TOWER,
                    "image_size": 64,
                    "patch_size": 4,
                    "output_channels": 16,
                    "mlp_dim": 32,
                    "window_size": 2,
                    "global_attn_indexes": [2],
                },
                "text_config": QWEN2,
                **IDS,
            },
        ),
    }


FAMILIES = tuple(_configs())
MANY_AXES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
ONE_AXIS = tuple(name for name in FAMILIES if name not in MANY_AXES)
WITH_VIDEO = (*MANY_AXES, "llava_onevision", "llava_next_video")
_MADE: dict[tuple[str, str], Any] = {}


def model_of(family: str, implementation: str = "sdpa") -> Any:
    """Return the family's tiny model, made once, with weights that make attention far from uniform."""
    if (family, implementation) not in _MADE:
        prefix, options = _configs()[family]
        config = getattr(transformers, f"{prefix}Config")(**options)
        if family != "got_ocr2":  # its tower has no other than eager
            config._attn_implementation = implementation
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        model = getattr(transformers, f"{prefix}ForConditionalGeneration")(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.2, generator=generator)
        model.generation_config.suppress_tokens = [IMAGE, VIDEO, PAD]
        _MADE[family, implementation] = model.requires_grad_(False)
    return _MADE[family, implementation]


@dataclass
class Inputs:
    """Rows of text and placeholders; `rows` are lists of a number of text tokens, "image" or "video"."""

    family: str
    rows: list[list[Any]]
    side: str = "left"
    seed: int = 0
    values: dict[str, Any] = field(default_factory=dict)

    def make(self) -> dict[str, Any]:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.images, self.videos = [], []
        rows = [[token for part in row for token in self._part(part)] for row in self.rows]
        longest = max(len(row) for row in rows)
        left = self.side == "left"
        ids = [[PAD] * (longest - len(row)) + row if left else row + [PAD] * (longest - len(row)) for row in rows]
        flags = [
            [0] * (longest - len(row)) + [1] * len(row) if left else [1] * len(row) + [0] * (longest - len(row))
            for row in rows
        ]
        inputs: dict[str, Any] = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(flags)}
        return {**inputs, **self._pixels(inputs["input_ids"])}

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _part(self, part: Any) -> list[int]:
        if isinstance(part, int):
            return torch.randint(1, 90, (part,), generator=self.generator).tolist()
        return self._picture(len(self.images)) if part == "image" else self._clip()

    def _picture(self, number: int) -> list[int]:
        family = self.family
        if family in MANY_AXES:
            grid = [(1, 8, 6), (1, 4, 8), (1, 6, 6)][number % 3]
            self.images.append((grid, self._random(grid[1] * grid[2], 3 * 2 * 16)))
            return [95, *[IMAGE] * (grid[1] * grid[2] // 4), 96]
        if family in ("llava_next", "llava_next_video", "llava_onevision"):
            height, width, tokens = [(28, 56, 16 + 4 * 9), (28, 42, 16 + 4 * 7)][number % 2]
            self.images.append(((height, width), self._random(3, 3, 28, 28)))
            return [IMAGE] * tokens
        if family in ("mistral3", "pixtral"):
            size, cell = [(28, 28), (14, 28)][number % 2], 14 if family == "mistral3" else 7
            self.images.append((size, self._random(3, *size)))
            return [token for _ in range(size[0] // cell) for token in [*[IMAGE] * (size[1] // cell), 94]]
        side = {"llava": 28, "vipllava": 28, "paligemma": 28, "got_ocr2": 64}.get(family, 56)
        self.images.append(((side, side), self._random(3, side, side)))
        return [IMAGE] * 16

    def _clip(self) -> list[int]:
        if self.family in MANY_AXES:
            grid = (3, 4, 8)
            self.videos.append((grid, self._random(3 * 32, 3 * 2 * 16)))
            frame = [95, *[VIDEO] * 8, 96]
            return [93, *frame] * 3 if self.family.startswith("qwen3") else [95, *[VIDEO] * 24, 96]
        self.videos.append(((28, 28), self._random(3, 3, 28, 28)))
        return [VIDEO] * (3 * 4 + (self.family == "llava_onevision"))

    def _pixels(self, ids: torch.Tensor) -> dict[str, Any]:
        family, found = self.family, {}
        pixels = [pixels for _, pixels in self.images]
        sizes = torch.tensor([size for size, _ in self.images])
        if family in MANY_AXES:
            if self.images:
                found |= {"pixel_values": torch.cat(pixels), "image_grid_thw": sizes}
            if self.videos:
                found["pixel_values_videos"] = torch.cat([pixels for _, pixels in self.videos])
                found["video_grid_thw"] = torch.tensor([size for size, _ in self.videos])
            return {**found, "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int()}
        if self.videos:
            found["pixel_values_videos"] = torch.stack([pixels for _, pixels in self.videos])
        if family in ("paligemma", "gemma3"):
            found["token_type_ids"] = (ids == IMAGE).long() if family == "gemma3" else torch.zeros_like(ids)
        if not self.images:
            return found
        if family in ("idefics3", "smolvlm"):
            per_row = [row.count("image") for row in self.rows]
            blank = torch.zeros(max(per_row), *pixels[0].shape)
            left, stacked = list(pixels), []
            for count in per_row:
                mine = blank.clone()
                for number in range(count):
                    mine[number] = left.pop(0)
                stacked.append(mine)
            return {**found, "pixel_values": torch.stack(stacked)}
        if family in ("mistral3", "pixtral"):
            whole = torch.zeros(len(pixels), 3, 28, 28)
            for one, picture in zip(whole, pixels, strict=True):
                one[:, : picture.shape[1], : picture.shape[2]] = picture
            return {**found, "pixel_values": whole, "image_sizes": sizes}
        if family in ("llava_next", "llava_next_video", "llava_onevision"):
            found["image_sizes"] = sizes
        return {**found, "pixel_values": torch.stack(pixels)}

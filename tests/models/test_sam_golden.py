"""SAM's parts against the numbers of the released code: image encoder, prompt encoder, mask decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.vltp_golden import CHAIN_TOLERANCE, cases, config, exactly, io, near, sam_config, weights

from leanseg.models.sam.image_encoder import ImageEncoder, to_windows
from leanseg.models.sam.mask_decoder import MaskDecoder
from leanseg.models.sam.prompt_encoder import PromptEncoder

pytestmark = pytest.mark.golden


def _encoder_outputs(folder: Path) -> list[str]:
    return sorted(name for name in io(folder) if name != "pixel_values")


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), cases("sam_image_encoder", _encoder_outputs))
def test_image_encoder(folder: Path, case: str):
    stored = io(folder)
    encoder = ImageEncoder(sam_config(config(folder))).eval()
    encoder.load_state_dict(weights(folder))
    tokens = encoder.patch_embed(stored["pixel_values"])
    found = {"patch_embed_out": tokens}
    tokens = encoder.embed(stored["pixel_values"])
    for index, block in enumerate(encoder.blocks):
        normed = block.norm1(tokens)
        found[f"block{index}_attn_in"] = to_windows(normed, block.window) if block.window else normed
        found[f"block{index}_attn_out"] = block.attn(found[f"block{index}_attn_in"])
        tokens = found[f"block{index}_out"] = block(tokens)
    found["image_embeddings"] = encoder(stored["pixel_values"])
    near(found[case], stored[case])


def _prompts(folder: Path) -> list[str]:
    return sorted(name for name in io(folder) if name.startswith(("sparse_", "dense_")))


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), exactly("sam_prompt_encoder", _prompts))
def test_prompt_encoder(folder: Path, case: str):
    given, stored = config(folder), io(folder)
    sizes = {"image_size": given["input_image_size"][0], "dim": given["embed_dim"], "decoder_heads": 4}
    patch = given["input_image_size"][0] // given["image_embedding_size"][0]
    encoder = PromptEncoder(sam_config(given, **sizes, patch_size=patch)).eval()
    encoder.load_state_dict(weights(folder))
    points = (stored["points"], stored["point_labels"])
    if case == "dense_pe":
        return near(encoder.image_pe(), stored[case])
    kinds = {
        "sparse_points": {"points": points},
        "sparse_boxes": {"boxes": stored["boxes"]},
        "sparse_points_boxes": {"points": points, "boxes": stored["boxes"]},
        "sparse_text": {"embeddings": stored["text_embeds"]},
        "dense_masks": {"masks": stored["masks"]},
        "dense_no_mask": {"embeddings": stored["text_embeds"]},
    }
    sparse, dense = encoder(**kinds[case])
    near(sparse if case.startswith("sparse") else dense, stored[case])


def _masks(folder: Path) -> list[str]:
    return sorted(name for name in io(folder) if name.startswith(("masks_", "iou_")))


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), exactly("sam_mask_decoder", _masks))
def test_mask_decoder(folder: Path, case: str):
    given, stored = config(folder), io(folder)
    sizes = {"dim": given["transformer_dim"], "decoder_heads": given["num_heads"], "decoder_hidden": given["mlp_dim"]}
    more = {"multimasks": given["num_multimask_outputs"], "score_hidden": given["iou_head_hidden_dim"]}
    decoder = MaskDecoder(sam_config(given, **sizes, **more)).eval()
    decoder.load_state_dict(weights(folder))
    kind, count, prompt = case.split("_")
    sparse, dense = {"text": ("sparse_text", "dense_no_mask"), "pb": ("sparse_points_boxes", "dense_masks")}[prompt]
    masks, qualities = decoder(
        stored["image_embeddings"], stored["image_pe"], stored[sparse], stored[dense], multimask=count == "multi"
    )
    near({"masks": masks, "iou": qualities}[kind], stored[case], CHAIN_TOLERANCE)

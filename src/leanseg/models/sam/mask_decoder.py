"""SAM's mask decoder: an image embedding and prompts become masks at a quarter of the input's size.

Source: Segment Anything (arXiv:2304.02643), parameter names as released. Own code instead of transformers' class, whose
two-way blocks normalise with epsilon 1e-6 where the release has 1e-5 (masks differ by 2e-3), and which takes no
embedding as a prompt.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from leanseg.errors import InputError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.layers import LayerNorm2d, Perceptron
from leanseg.models.sam.transformer import TwoWayTransformer
from leanseg.shapes import Float


class MaskDecoder(nn.Module):
    """Masks and their predicted quality for R prompts; parameters 4,058,340 at the released sizes."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        dim, n_masks = config.dim, config.multimasks + 1
        self.transformer = TwoWayTransformer(
            depth=config.decoder_depth, dim=dim, heads=config.decoder_heads, hidden=config.decoder_hidden
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(n_masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Perceptron(dim, dim, dim, dim // 8) for _ in range(n_masks))
        self.iou_prediction_head = Perceptron(dim, config.score_hidden, config.score_hidden, n_masks)

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        image_pe: Float[Tensor, "1 c h w"],
        sparse: Float[Tensor, "r p c"],
        dense: Float[Tensor, "r c h w"],
        *,
        multimask: bool = False,
    ) -> tuple[Float[Tensor, "r m hh ww"], Float[Tensor, "r m"]]:
        """Return mask logits (R, M, 4h, 4w) and predicted qualities (R, M); M = 1, or the multimasks.

        `image`: one embedding per prompt, or a single one that all R prompts share.
        """
        n_prompts = sparse.shape[0]
        if image.shape[0] not in (1, n_prompts):
            raise InputError(
                f"{image.shape[0]} image embeddings came with {n_prompts} prompts; expected one, or one per prompt"
            )
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(n_prompts, -1, -1), sparse], dim=1)
        height, width = image.shape[2:]
        queries, keys = self.transformer(image + dense, image_pe, tokens)
        upscaled = self.output_upscaling(keys.mT.unflatten(2, (height, width)))
        chosen = range(1, len(self.output_hypernetworks_mlps)) if multimask else range(1)
        steering = torch.stack([self.output_hypernetworks_mlps[index](queries[:, 1 + index]) for index in chosen], 1)
        masks = (steering @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        qualities = cast(Tensor, self.iou_prediction_head(queries[:, 0]))
        return masks, qualities[:, chosen.start : chosen.stop]

"""SAM's prompt encoder: points, boxes, masks and ready embeddings (LISA's [SEG]) become prompt tokens.

Source: Segment Anything (arXiv:2304.02643); embeddings as prompts are LISA's (arXiv:2308.00692). Names as released.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from leanseg.core.tokens import Grid
from leanseg.errors import InputError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.layers import LayerNorm2d
from leanseg.shapes import Float, Int

NO_POINT = -1  # label of a place that is no point; 0 = background, 1 = foreground
BOX_CORNERS = (2, 3)  # rows of the point embeddings for a box's corners


class FourierPosition(nn.Module):
    """Places (x, y) in [0, 1] as sines and cosines of random frequencies."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.positional_encoding_gaussian_matrix: Tensor
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, places: Float[Tensor, "*rest 2"]) -> Float[Tensor, "*rest c"]:
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Prompts to sparse tokens (R, P, C) and a dense map (R, C, h, w); parameters 6,220 at the released sizes."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        dim, channels = config.dim, config.mask_channels
        self.pe_layer = FourierPosition(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, channels // 4, kernel_size=2, stride=2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.Conv2d(channels // 4, channels, kernel_size=2, stride=2),
            LayerNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def image_pe(self, grid: Grid | None = None) -> Float[Tensor, "1 c h w"]:
        """Return the positions of the image tokens: the centre of each of the grid's cells."""
        height, width = ((each := grid or self.config.grid).height, each.width)
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        rows = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) + 0.5) / height
        columns = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) + 0.5) / width
        places = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)
        return cast(Tensor, self.pe_layer(places)).permute(2, 0, 1)[None]

    def forward(
        self,
        *,
        points: tuple[Float[Tensor, "p q 2"], Int[Tensor, "p q"]] | None = None,
        boxes: Float[Tensor, "b 4"] | None = None,
        masks: Float[Tensor, "m 1 mh mw"] | None = None,
        embeddings: Float[Tensor, "e s c"] | None = None,
    ) -> tuple[Float[Tensor, "r t c"], Float[Tensor, "r c h w"]]:
        """Return the sparse tokens and the dense map of R prompts.

        `points`: (x, y) in pixels of the input and labels (1 inside, 0 outside, -1 no point); `boxes`: (x0, y0, x1,
        y1); `masks`: logits at four times the grid; `embeddings` are appended as they are.
        """
        given = [each.shape[0] for each in (boxes, masks, embeddings) if each is not None]
        given += [] if points is None else [points[0].shape[0]]
        if not given or len(set(given)) != 1:
            raise InputError(
                f"the prompts come for {given or 'no'} rows; expected points, boxes, masks or embeddings for equal rows"
            )
        sparse = [] if points is None else [self._points(*points, fill_up=boxes is None)]
        sparse += [] if boxes is None else [self._boxes(boxes)]
        sparse += [] if embeddings is None else [embeddings]
        empty = self.no_mask_embed.weight.new_empty((given[0], 0, self.config.dim))
        return torch.cat(sparse or [empty], dim=1), self._dense(masks, given[0])

    def _dense(self, masks: Tensor | None, rows: int) -> Tensor:
        if masks is not None:
            return cast(Tensor, self.mask_downscaling(masks))
        grid = self.config.grid
        return self.no_mask_embed.weight[:, :, None, None].expand(rows, -1, grid.height, grid.width)

    def _points(self, places: Tensor, labels: Tensor, *, fill_up: bool) -> Tensor:
        if fill_up:  # the release has one place that is no point beside points without a box
            places = torch.cat([places, places.new_full((places.shape[0], 1, 2), -0.5)], dim=1)
            labels = torch.cat([labels, labels.new_full((labels.shape[0], 1), NO_POINT)], dim=1)
        placed = self._at(places)
        is_point = (labels != NO_POINT)[..., None]
        tokens = torch.where(is_point, placed, self.not_a_point_embed.weight)
        for label in (0, 1):
            added = tokens + self._point_embedding(label)
            tokens = torch.where((labels == label)[..., None], added, tokens)
        return tokens

    def _boxes(self, boxes: Tensor) -> Tensor:
        corners = self._at(boxes.reshape(-1, 2, 2))
        return corners + torch.cat([self._point_embedding(row) for row in BOX_CORNERS])

    def _point_embedding(self, row: int) -> Tensor:
        return cast(nn.Embedding, self.point_embeddings[row]).weight

    def _at(self, pixels: Tensor) -> Tensor:
        """Positions of pixels' centres."""
        return cast(Tensor, self.pe_layer((pixels + 0.5) / self.config.image_size))

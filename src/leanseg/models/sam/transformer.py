"""The two-way transformer of SAM's mask decoder, which VLTP's prune decoder has as well.

Source: Segment Anything (arXiv:2304.02643), section A; parameter names as released. Queries read the image, and the
image reads the queries, twice; then the queries read it once more. Norms have torch's epsilon 1e-5, as released.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.shapes import Float


class Attention(nn.Module):
    """Multi-head attention whose heads share `dim / reduction` channels."""

    def __init__(self, dim: int, heads: int, *, reduction: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, dim // reduction) for _ in range(3))
        self.out_proj = nn.Linear(dim // reduction, dim)

    def forward(
        self, query: Float[Tensor, "b q c"], key: Float[Tensor, "b s c"], value: Float[Tensor, "b s c"]
    ) -> Float[Tensor, "b q c"]:
        q, k, v = (
            layer(source).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.out_proj(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.lin2(F.relu(self.lin1(features))))


class TwoWayLayer(nn.Module):
    """Queries among themselves, queries to image, feed-forward, image to queries; each with a norm behind it.

    In the first layer the queries have no positions yet, and self-attention replaces them instead of adding to them.
    """

    def __init__(self, dim: int, heads: int, hidden: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, reduction=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, reduction=2)

    def forward(
        self, queries: Tensor, image: Tensor, query_place: Tensor, image_place: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            queries = self.self_attn(queries, queries, queries)
        else:
            placed = queries + query_place
            queries = queries + self.self_attn(placed, placed, queries)
        queries = self.norm1(queries)
        seen = self.cross_attn_token_to_image(queries + query_place, image + image_place, image)
        queries = self.norm2(queries + seen)
        queries = self.norm3(queries + self.mlp(queries))
        told = self.cross_attn_image_to_token(image + image_place, queries + query_place, queries)
        return queries, self.norm4(image + told)


class TwoWayTransformer(nn.Module):
    """Query tokens and an image's tokens that read each other. Cost O(h w (c^2 + q c)) per layer."""

    def __init__(self, *, depth: int, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(dim, heads, hidden, first=index == 0) for index in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, reduction=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        image_pe: Float[Tensor, "#b c h w"],
        tokens: Float[Tensor, "b q c"],
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b n c"]]:
        """Return queries (B, q, C) and image tokens (B, h*w, C), row by row; `tokens` are their own positions."""
        keys, places = image.flatten(2).mT, image_pe.flatten(2).mT
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, places)
        seen = self.final_attn_token_to_image(queries + tokens, keys + places, keys)
        return self.norm_final_attn(queries + seen), keys

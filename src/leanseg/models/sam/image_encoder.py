"""SAM's image encoder: a ViT whose blocks attend in windows, but for a few that see the whole picture.

Source: Segment Anything (arXiv:2304.02643), whose parameter names are kept. A block is `y = x + attn(norm1(x))`,
`z = y + mlp(norm2(y))`; there is no class token and no last norm. Windows are cut after norm1 and filled up with zeros
at the map's edge: these positions are real keys and values (the biases), as in the released code.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.errors import InputError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.layers import EPSILON, neck
from leanseg.shapes import Bool, Float


class PatchEmbedding(nn.Module):
    """Patches of the picture as tokens, channels last."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Float[Tensor, "b h w d"]:
        return cast(Tensor, self.proj(pixels)).permute(0, 2, 3, 1)


class RelativeAttention(nn.Module):
    """Self-attention over a map, with a bias from the rows and columns between two tokens.

    softmax(q k^T / sqrt(head size) + q . R_h[row_i - row_j] + q . R_w[column_i - column_j]): the last two with the
    unscaled q, and tables R that all heads share. `side`: of the maps for which the tables are made. `seen`: the tokens
    that the others attend to, None = all; each attends to itself.
    """

    def __init__(self, *, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(
        self, features: Float[Tensor, "b h w d"], seen: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b h w d"]:
        height, width = features.shape[1:3]
        # (B, h*w, 3*D) -> three of (B, heads, h*w, head size)
        parts = self.qkv(features).flatten(1, 2).unflatten(2, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        rows, columns = self.tables(height, width)
        placed = q.unflatten(2, (height, width))
        # A sum is laid out as its terms are, and the products are not in the order of the map: at 4096 tokens, putting
        # the sum in order takes three times as long as the rest.
        by_row = torch.einsum("bnhwc,hkc->bnhwk", placed, rows).contiguous()
        by_column = torch.einsum("bnhwc,wkc->bnhwk", placed, columns).contiguous()
        bias = (by_row[..., None] + by_column[..., None, :]).flatten(4, 5).flatten(2, 3)
        if seen is not None:
            itself = torch.eye(height * width, dtype=torch.bool, device=seen.device)
            bias = bias.masked_fill(~(seen.flatten(1)[:, None, :] | itself)[:, None], -torch.inf)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return cast(Tensor, self.proj(attended.transpose(1, 2).reshape(features.shape)))

    def tables(self, height: int, width: int) -> tuple[Float[Tensor, "h h c"], Float[Tensor, "w w c"]]:
        """Return the vectors for each pair of rows, and of columns, of a map."""
        return relative_table(self.rel_pos_h, height), relative_table(self.rel_pos_w, width)


def relative_table(vectors: Float[Tensor, "m c"], side: int) -> Float[Tensor, "s s c"]:
    """Return the vector of each pair (i, j) of places on a line: entry i - j + side - 1, interpolated if need be."""
    if vectors.shape[0] != 2 * side - 1:
        stretched = F.interpolate(vectors.T[None].float(), size=2 * side - 1, mode="linear")
        vectors = stretched[0].T.to(vectors.dtype)
    places = torch.arange(side, device=vectors.device)
    return vectors[places[:, None] - places[None, :] + side - 1]


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.lin2(F.gelu(self.lin1(features))))


class Block(nn.Module):
    """A transformer block on a map of tokens; `window` 0 = it attends to the whole map, of side `side`.

    `seen`: the tokens that the others attend to, None = all; a window's filling is seen always.
    """

    def __init__(self, *, width: int, heads: int, hidden: int, window: int, side: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = RelativeAttention(width=width, heads=heads, side=window or side)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = FeedForward(width, hidden)

    def forward(
        self, tokens: Float[Tensor, "b h w d"], seen: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b h w d"]:
        height, width = tokens.shape[1:3]
        normed = self.norm1(tokens)
        if self.window:
            if seen is not None:
                seen = ~to_windows((~seen)[..., None].float(), self.window)[..., 0].bool()
            attended = from_windows(self.attn(to_windows(normed, self.window), seen), self.window, height, width)
        else:
            attended = self.attn(normed, seen)
        tokens = tokens + attended
        return cast(Tensor, tokens + self.mlp(self.norm2(tokens)))


def to_windows(features: Float[Tensor, "b h w d"], window: int) -> Float[Tensor, "n s s d"]:
    """Cut a map into windows, filled up with zeros at the right and at the bottom; row by row of each picture."""
    height, width = features.shape[1:3]
    padded = F.pad(features, (0, 0, 0, -width % window, 0, -height % window))
    split = padded.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return split.transpose(2, 3).flatten(0, 2)


def from_windows(windows: Float[Tensor, "n s s d"], window: int, height: int, width: int) -> Float[Tensor, "b h w d"]:
    """Put windows back together, without what was filled up."""
    rows, columns = -(-height // window), -(-width // window)
    whole = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return whole[:, :height, :width].contiguous()


class ImageEncoder(nn.Module):
    """Pixels to an image embedding, as released: `embed`, then `blocks`, then `neck` on the map of tokens."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        side = config.grid.height
        self.patch_embed = PatchEmbedding(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.width))
        self.blocks = nn.ModuleList(
            Block(
                width=config.width,
                heads=config.heads,
                hidden=config.mlp_ratio * config.width,
                window=0 if index in config.global_blocks else config.window,
                side=side,
            )
            for index in range(config.depth)
        )
        self.neck = neck(config.width, config.dim)

    def forward(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Float[Tensor, "b c h w"]:
        tokens = self.embed(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.to_embedding(tokens)

    def embed(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Float[Tensor, "b h w d"]:
        """Return the tokens that enter the first block."""
        side = self.config.image_size
        if tuple(pixels.shape[2:]) != (side, side):
            raise InputError(
                f"SAM's pixels are {pixels.shape[2]} x {pixels.shape[3]}; expected {side} x {side}: scale the longer "
                "side and fill up, as leanseg.models.sam.pictures.sam_pixels does"
            )
        return cast(Tensor, self.patch_embed(pixels) + self.pos_embed)

    def to_embedding(self, tokens: Float[Tensor, "b h w d"]) -> Float[Tensor, "b c h w"]:
        """Return the image embedding of the last block's tokens; half precision passes the neck in float32."""
        features = tokens.permute(0, 3, 1, 2)
        if features.dtype != torch.float16:
            return cast(Tensor, self.neck(features))
        with torch.autocast(features.device.type, enabled=False):
            wide = features.float()
            for layer in self.neck:
                wide = torch.func.functional_call(layer, {n: p.float() for n, p in layer.named_parameters()}, (wide,))
        return wide.half()

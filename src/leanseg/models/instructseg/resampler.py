"""The two cross-attention resamplers: OVP (frames -> temporal tokens) and VMTF (pixels and text -> score)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from leanseg.shapes import Bool, Float


class ResamplerAttention(nn.Module):
    """Latents attend to media and themselves: `softmax(q k^T / sqrt(d)) v`, keys from [LN(media); LN(latents)]."""

    def __init__(self, *, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, media: Tensor, latents: Tensor, mask: Tensor | None) -> Tensor:
        latents = self.norm_latents(latents)
        keys, values = self.to_kv(torch.cat((self.norm_media(media), latents), dim=1)).chunk(2, dim=-1)
        query, keys, values = (self._split(part) for part in (self.to_q(latents), keys, values))
        attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Resampler(nn.Module):
    """A stack of resampler attention and feed-forward blocks with residuals and a final LayerNorm.

    Both uses of the release are this one class: OVP with 128 latents per frame (frames are independent, there is no
    time embedding), VMTF with one latent. Cost O((N + O) O) per layer for N media and O latents.

    Differs from the reference: VMTF there runs one latent per instruction token beside the pooled one, takes keys and
    values from the pooled one only and returns it, so the token latents never influence the result; they are not
    computed here.
    """

    def __init__(self, *, width: int, depth: int, heads: int, head_dim: int, feedforward_factor: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                (
                    ResamplerAttention(width=width, heads=heads, head_dim=head_dim),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, feedforward_factor * width, bias=False),
                        nn.GELU(),
                        nn.Linear(feedforward_factor * width, width, bias=False),
                    ),
                )
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        media: Float[Tensor, "b n d"],
        latents: Float[Tensor, "b o d"],
        media_mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b o d"]:
        """Return the latents after reading the media; `media_mask` is False at padding (None: no padding)."""
        mask = None
        if media_mask is not None:
            own = media_mask.new_ones(latents.shape[:2])
            mask = torch.cat((media_mask, own), dim=1)[:, None, None, :]
        for layer in self.layers:
            attention, feedforward = cast(nn.ModuleList, layer)
            latents = latents + attention(media, latents, mask)
            latents = latents + feedforward(latents)
        return self.norm(latents)

"""DToP's head: a class query reads the tokens, and how it attends to each of them is its mask.

Source: SegViT's attention-to-mask decoder, as Dynamic Token Pruning (arXiv:2308.01045) has it between blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.errors import WeightsError
from leanseg.models.sam.transformer import Attention, FeedForward
from leanseg.shapes import Bool, Float

HIDDEN_RATIO = 4


class ReadingAttention(nn.Module):
    """Queries read tokens; the scaled products before the softmax come out as well, averaged over heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(
        self, queries: Float[Tensor, "b q c"], tokens: Float[Tensor, "b m c"], there: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b q m"]]:
        q, k, v = (
            layer(source).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.q_proj, queries), (self.k_proj, tokens), (self.v_proj, tokens))
        )
        scores = q @ k.mT * self.scale
        weights = scores.masked_fill(~there[:, None, None, :], -torch.inf).softmax(dim=3)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2)), scores.mean(dim=1)


class HeadLayer(nn.Module):
    """Self-attention, reading and feed-forward, each with a norm behind its sum."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.norm1 = Attention(dim, heads), nn.LayerNorm(dim)
        self.cross_attn, self.norm2 = ReadingAttention(dim, heads), nn.LayerNorm(dim)
        self.mlp, self.norm3 = FeedForward(dim, HIDDEN_RATIO * dim), nn.LayerNorm(dim)

    def forward(self, queries: Tensor, tokens: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        queries = self.norm1(queries + self.self_attn(queries, queries, queries))
        read, scores = self.cross_attn(queries, tokens, there)
        queries = self.norm2(queries + read)
        return self.norm3(queries + self.mlp(queries)), scores


class TokenHead(nn.Module):
    """Whether the one class is present, (B, 2), 0 = present, and each token's mask logit (B, N), 0 where not `seen`.

    Tokens that are not seen cost nothing but the filling up of a batch whose pictures differ.
    """

    def __init__(self, width: int, *, heads: int = 8, layers: int = 3) -> None:
        super().__init__()
        dim = width // 2
        if dim % heads:
            raise WeightsError(f"DToP's head is {dim} wide, half of the tokens; expected a multiple of {heads} heads")
        self.reduce = nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))
        self.query = nn.Embedding(1, dim)
        self.layers = nn.ModuleList(HeadLayer(dim, heads) for _ in range(layers))
        self.present = nn.Linear(dim, 2)

    def forward(
        self, tokens: Float[Tensor, "b n d"], seen: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b n"]]:
        most = int(seen.sum(dim=1).amax())
        places = seen.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        there = seen.gather(1, places)
        given = self.reduce(tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2])))
        queries = self.query.weight.expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            queries, scores = layer(queries, given, there)
        known = scores[:, 0].masked_fill(~there, 0.0)
        return self.present(queries[:, 0]), known.new_zeros(seen.shape).scatter(1, places, known)


def focal(logits: Float[Tensor, "r n"], targets: Float[Tensor, "r n"], seen: Bool[Tensor, "r n"]) -> Float[Tensor, ""]:
    """Return 0.25 (inside) or 0.75 times (1 - chance of the truth)^2 times the cross-entropy, mean over seen tokens."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    factor = torch.where(targets > 0.5, 0.25, 0.75)
    each = factor * (1 - (-entropy).exp()).square() * entropy
    return (each * seen).sum() / seen.sum().clamp_min(1)

"""The transformer decoder: mask queries from the language model read the pixel branch and become scored masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.pixel_decoder import N_LEVELS, PixelFeatures, SinePosition
from leanseg.shapes import Bool, Float


@dataclass(frozen=True)
class MaskPrediction:
    """Scored masks of B instructions, before any resizing: logits (B, Q) and, at stride 4, (B, Q, h, w)."""

    score_logits: Float[Tensor, "b q"]
    mask_logits: Float[Tensor, "b q h w"]


class Level(NamedTuple):
    """One feature map as attention memory: values (F, S, C), keys = values with positions, and its size (h, w)."""

    values: Tensor
    keys: Tensor
    size: tuple[int, int]


class Attention(nn.Module):
    """Multi-head attention with the parameter names of `nn.MultiheadAttention`, keys shared by groups of queries.

    Shapes: query (B, Q, C), key and value (F, S, C) -> (B, Q, C), where F divides B, row b reads memory b // (B / F),
    which is projected once for all its rows; allowed (B, Q, S) is True where a query may look.
    """

    def __init__(self, *, dim: int, n_heads: int) -> None:
        super().__init__()
        if dim % n_heads:
            raise WeightsError(f"{dim} channels do not split into {n_heads} attention heads; use a divisor of {dim}")
        self.n_heads = n_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        key: Float[Tensor, "f s c"],
        value: Float[Tensor, "f s c"],
        allowed: Bool[Tensor, "b q s"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        frames, batch, dim = key.shape[0], query.shape[0], query.shape[2]
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(source, weight, bias).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
            for source, weight, bias in zip((query.reshape(frames, -1, dim), key, value), weights, biases, strict=True)
        )
        mask = None if allowed is None else allowed.reshape(frames, 1, -1, key.shape[1])
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast(Tensor, self.out_proj(attended.transpose(1, 2).reshape(batch, -1, dim)))


class CrossAttentionLayer(nn.Module):
    """Post-norm attention of the queries to one level of the pixel branch."""

    def __init__(self, *, dim: int, n_heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim=dim, n_heads=n_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, position: Tensor, level: Level, allowed: Tensor) -> Tensor:
        seen = self.multihead_attn(queries + position, level.keys, level.values, allowed)
        return cast(Tensor, self.norm(queries + seen))


class SelfAttentionLayer(nn.Module):
    """Post-norm attention of the queries of one instruction among themselves."""

    def __init__(self, *, dim: int, n_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim=dim, n_heads=n_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, position: Tensor) -> Tensor:
        placed = queries + position
        return cast(Tensor, self.norm(queries + self.self_attn(placed, placed, queries)))


class FeedForwardLayer(nn.Module):
    """Post-norm two-layer ReLU network."""

    def __init__(self, *, dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm = nn.LayerNorm(dim)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, queries: Tensor) -> Tensor:
        return cast(Tensor, self.norm(queries + self.linear2(F.relu(self.linear1(queries)))))


class Perceptron(nn.Module):
    """Linear layers with ReLU between them; `widths` are input, hidden and output sizes."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            features = F.relu(layer(features))
        return cast(Tensor, self.layers[-1](features))


class MaskDecoder(nn.Module):
    """Let Q queries per instruction look at the pixel maps, coarse to fine in turn, each only where its own mask is.

    Before the first layer and after each layer, with d the normalised queries: score logit = SEG_proj(d) . score
    embedding, mask logits = mask_embed(d) . mask_features. The next layer's queries attend where their mask, resized
    to that level, has sigmoid >= 0.5, or everywhere if that is nowhere. Only the last prediction is the answer; the
    others are for deep supervision. Paper: arXiv:2112.01527.

    Differs from the stock Mask2Former decoder, as the released weights do: the initial queries come from outside, and
    the score is a dot product with the instruction's embedding. `query_feat` and `SEG_query_embed` stay in the state
    dict, unused and frozen.
    """

    def __init__(
        self,
        *,
        dim: int,
        mask_dim: int,
        n_queries: int,
        n_layers: int,
        n_heads: int,
        ffn_dim: int,
    ) -> None:
        super().__init__()
        self.position = SinePosition(n_features=dim // 2)
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(dim=dim, n_heads=n_heads) for _ in range(n_layers)
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(dim=dim, n_heads=n_heads) for _ in range(n_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForwardLayer(dim=dim, ffn_dim=ffn_dim) for _ in range(n_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_embed = nn.Embedding(n_queries, dim)
        self.query_feat = nn.Embedding(n_queries, dim)
        self.SEG_query_embed = nn.Embedding(n_queries + 1, dim)
        for unused in (self.query_feat, self.SEG_query_embed):
            unused.weight.requires_grad_(False)
        self.level_embed = nn.Embedding(N_LEVELS, dim)
        self.mask_embed = Perceptron(dim, dim, dim, mask_dim)
        self.SEG_proj = Perceptron(dim, dim, dim)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        score_embedding: Float[Tensor, "b 1 c"],
        pixel: PixelFeatures,
        *,
        last_only: bool = False,
    ) -> list[MaskPrediction]:
        """Return the predictions before the first and after each layer, or with `last_only` just the answer.

        `pixel` holds F frames, F a divisor of B: instruction b looks at frame b // (B / F), so that one frame serves
        several instructions without being copied. With `last_only`, attention masks are computed at the size of the
        level that they are for: equal up to rounding, as resizing and the product with the mask embedding commute.
        """
        self._check(queries, pixel)
        levels = self._memory(pixel.multi_scale)
        small = [_resize(pixel.mask_features, level.size) for level in levels] if last_only else []
        position = self.query_embed.weight
        predictions = []
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for index, (cross_attention, self_attention, feed_forward) in enumerate(layers):
            level = levels[index % N_LEVELS]
            if last_only:
                with torch.no_grad():
                    mask = self._masks(self.decoder_norm(queries), small[index % N_LEVELS])
            else:
                predictions.append(self._predict(queries, score_embedding, pixel.mask_features))
                mask = _resize(predictions[-1].mask_logits.detach(), level.size)
            queries = cross_attention(queries, position, level, attention_region(mask.flatten(2)))
            queries = feed_forward(self_attention(queries, position))
        predictions.append(self._predict(queries, score_embedding, pixel.mask_features))
        return predictions

    def _check(self, queries: Tensor, pixel: PixelFeatures) -> None:
        batch, n_queries, _ = queries.shape
        if n_queries != self.query_embed.num_embeddings:
            raise InputError(
                f"the mask decoder got {n_queries} queries; expected {self.query_embed.num_embeddings}, as it was built"
            )
        if batch % pixel.n_frames:
            raise InputError(
                f"{batch} instructions do not share {pixel.n_frames} frames evenly; "
                "pick the frame of each with PixelFeatures.rows"
            )

    def _memory(self, maps: Sequence[Tensor]) -> list[Level]:
        levels = []
        for index, level in enumerate(maps):
            size = (level.shape[-2], level.shape[-1])
            values = level.flatten(2).transpose(1, 2) + self.level_embed.weight[index]
            position = self.position(size, level.device, level.dtype).flatten(2).transpose(1, 2)
            levels.append(Level(values, values + position, size))
        return levels

    def _predict(self, queries: Tensor, score_embedding: Tensor, mask_features: Tensor) -> MaskPrediction:
        decoded = self.decoder_norm(queries)
        scores = torch.einsum("bqc,bkc->bqk", self.SEG_proj(decoded), score_embedding).squeeze(2)
        return MaskPrediction(score_logits=scores, mask_logits=self._masks(decoded, mask_features))

    def _masks(self, decoded: Tensor, mask_features: Tensor) -> Tensor:
        batch, n_queries, _ = decoded.shape
        embedding = self.mask_embed(decoded).reshape(mask_features.shape[0], -1, mask_features.shape[1])
        masks = torch.bmm(embedding, mask_features.flatten(2))
        return masks.view(batch, n_queries, *mask_features.shape[-2:])


def attention_region(mask_logits: Float[Tensor, "b q s"]) -> Bool[Tensor, "b q s"]:
    """Return where each query may look: its own mask, or everywhere if its mask is empty."""
    region = mask_logits.sigmoid() >= 0.5
    return region | ~region.any(dim=-1, keepdim=True)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

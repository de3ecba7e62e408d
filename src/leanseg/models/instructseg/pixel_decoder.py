"""The pixel decoder: multi-scale deformable attention over three Swin maps, then one lateral step to stride 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.errors import WeightsError
from leanseg.shapes import Float, Int

GROUPS = 32  # groups of every group norm, as released
N_LEVELS = 3  # res5, res4, res3

Size = tuple[int, int]


@dataclass(frozen=True)
class PixelFeatures:
    """What the pixel branch knows of a batch of F frames, for any number of instructions.

    `res5` (F, C5, h, w) is Swin's last map, `multi_scale` the decoder's maps (F, C, h, w) at strides 32, 16 and 8,
    `mask_features` (F, Cm, H/4, W/4) what mask embeddings are multiplied with.
    """

    res5: Float[Tensor, "f c5 h w"]
    multi_scale: tuple[Tensor, Tensor, Tensor]
    mask_features: Float[Tensor, "f cm h4 w4"]

    @property
    def n_frames(self) -> int:
        return int(self.mask_features.shape[0])

    def rows(self, index: Int[Tensor, " b"]) -> PixelFeatures:
        """Return the features of frames `index`, in that order; a frame may be named any number of times."""
        coarse, middle, fine = (level.index_select(0, index) for level in self.multi_scale)
        mask_features = self.mask_features.index_select(0, index)
        return PixelFeatures(self.res5.index_select(0, index), (coarse, middle, fine), mask_features)


class SinePosition(nn.Module):
    """Sine embedding of pixel positions, y half first; the last computed sizes are kept in the module.

    For axis position p in 1..n: angle = 2 pi p / (n + eps) / T**(2 floor(i / 2) / F), sine at even i, cosine at odd i.
    Shapes: size (h, w) -> (1, 2 * n_features, h, w). Paper: arXiv:2005.12872.
    """

    CACHED_SIZES = 16

    def __init__(self, *, n_features: int, temperature: float = 10000.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.n_features = n_features
        self.temperature = temperature
        self.eps = eps
        self._cache: dict[tuple[Size, torch.device, torch.dtype], Tensor] = {}

    def forward(self, size: Size, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1 c h w"]:
        if (key := (size, device, dtype)) not in self._cache:
            if len(self._cache) >= self.CACHED_SIZES:
                self._cache.clear()
            # A tensor made in inference mode could not serve a later training step.
            with torch.inference_mode(False), torch.no_grad():
                self._cache[key] = self._embed(size, device).to(dtype)
        return self._cache[key]

    def _embed(self, size: Size, device: torch.device) -> Tensor:
        feature = torch.arange(self.n_features, dtype=torch.float32, device=device)
        period = self.temperature ** (2 * torch.div(feature, 2, rounding_mode="floor") / self.n_features)
        halves = []
        for length in size:
            position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
            angle = (position / (length + self.eps) * (2 * math.pi))[:, None] / period
            halves.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1))
        y, x = halves
        height, width = size
        grid = torch.cat((y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)), dim=2)
        return grid.permute(2, 0, 1)[None].contiguous()


def deformable_attention(
    value: Float[Tensor, "b s n d"],
    sizes: Sequence[Size],
    locations: Float[Tensor, "b q n l p 2"],
    weights: Float[Tensor, "b q n l p"],
) -> Float[Tensor, "b q c"]:
    """Sum bilinear samples of `value` at `locations`, weighted; what lies outside a level counts as zero.

    out[b, q, head] = sum over levels l and points p of weights * bilinear(value of level l and head, location).
    `value` holds the levels one after another in raster order; locations are (x, y) in [0, 1] of a level, pixel centres
    at (i + 0.5) / size (align_corners False). Cost O(B Q heads L P d), memory O(B Q heads L P) beside the output:
    all samples' four corners are one weighted embedding bag, so no sample is ever stored. Paper: arXiv:2010.04159.
    """
    batch, n_tokens, n_heads, width = value.shape
    n_queries, device = locations.shape[1], value.device
    index_type = torch.int32 if batch * n_tokens * n_heads < 2**31 else torch.int64
    extent = torch.tensor(sizes, dtype=index_type, device=device)
    lengths = [h * w for h, w in sizes]
    starts = torch.tensor([0, *accumulate(lengths[:-1])], dtype=index_type, device=device)
    height, width_of = extent[:, :1], extent[:, 1:]
    columns, column_shares = _neighbours(locations[..., 0], width_of)
    lines, line_shares = _neighbours(locations[..., 1], height)
    first = torch.arange(batch, dtype=index_type, device=device)[:, None] * n_tokens + starts  # (B, L)
    head = torch.arange(n_heads, dtype=index_type, device=device)[:, None, None]
    origin = first[:, None, None, :, None] * n_heads + head
    rows, shares = [], []
    for line, line_share in zip(lines, line_shares, strict=True):
        line_origin = origin + line * (width_of * n_heads)
        line_weight = line_share * weights
        for column, column_share in zip(columns, column_shares, strict=True):
            rows.append(line_origin + column * n_heads)
            shares.append(line_weight * column_share)
    bags = F.embedding_bag(
        torch.stack(rows, dim=-1).view(batch * n_queries * n_heads, -1),
        value.reshape(batch * n_tokens * n_heads, width),
        per_sample_weights=torch.stack(shares, dim=-1).view(batch * n_queries * n_heads, -1).to(value.dtype),
        mode="sum",
    )
    return bags.view(batch, n_queries, n_heads * width)


def _neighbours(location: Tensor, extent: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels around each location on one axis and their linear shares; a pixel outside has share 0."""
    # Beyond one pixel outside nothing changes, and an index far outside would not fit its integer type.
    pixel = torch.minimum((location * extent - 0.5).clamp(min=-2), (extent + 1).to(location.dtype))
    low = pixel.detach().floor()
    upper_share = pixel - low
    index = low.to(extent.dtype)
    following = index + 1
    last = extent - 1
    low_share = (1 - upper_share) * ((index >= 0) & (index <= last))
    upper_share = upper_share * ((following >= 0) & (following <= last))
    pixels = (torch.minimum(index.clamp(min=0), last), torch.minimum(following.clamp(min=0), last))
    return pixels, (low_share, upper_share)


class DeformableAttention(nn.Module):
    """Attention of each pixel to a few learned offsets around itself on every level. Shapes: (B, S, C) -> (B, S, C)."""

    def __init__(self, *, dim: int, n_heads: int, n_points: int = 4, n_levels: int = N_LEVELS) -> None:
        super().__init__()
        if dim % n_heads:
            raise WeightsError(f"{dim} channels do not split into {n_heads} attention heads; use a divisor of {dim}")
        self.shape = (n_heads, n_levels, n_points)
        n_samples = n_heads * n_levels * n_points
        self.sampling_offsets = nn.Linear(dim, n_samples * 2)
        self.attention_weights = nn.Linear(dim, n_samples)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with equal weights and offsets of 1..P pixels in one direction per head."""
        n_heads, n_levels, n_points = self.shape
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(n_heads, dtype=torch.float32) * (2 * math.pi / n_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, n_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * steps[:, None]
        self.sampling_offsets.bias.copy_(offsets.expand(n_heads, n_levels, n_points, 2).flatten())

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        reference: Float[Tensor, "#b q l 2"],
        value: Float[Tensor, "b s c"],
        sizes: Sequence[Size],
    ) -> Float[Tensor, "b q c"]:
        batch, n_queries, dim = query.shape
        n_heads, n_levels, n_points = self.shape
        # Sampling positions need float32: bfloat16 cannot tell the pixels of a large map apart.
        values = self.value_proj(value).float().view(batch, -1, n_heads, dim // n_heads)
        offsets = self.sampling_offsets(query).float().view(batch, n_queries, n_heads, n_levels, n_points, 2)
        weights = self.attention_weights(query).float().view(batch, n_queries, n_heads, -1).softmax(-1)
        weights = weights.unflatten(-1, (n_levels, n_points))
        extent = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32, device=query.device)
        locations = reference.float()[:, :, None, :, None] + offsets / extent[:, None]
        sampled = deformable_attention(values, sizes, locations, weights)
        return cast(Tensor, self.output_proj(sampled.to(query.dtype)))


class EncoderLayer(nn.Module):
    """One post-norm layer: deformable self-attention, then a two-layer ReLU network. Shapes: (B, S, C) -> (B, S, C)."""

    def __init__(self, *, dim: int, n_heads: int, ffn_dim: int, n_points: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim=dim, n_heads=n_heads, n_points=n_points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, sizes: Sequence[Size]) -> Tensor:
        tokens = self.norm1(tokens + self.self_attn(tokens + position, reference, tokens, sizes))
        return cast(Tensor, self.norm2(tokens + self.linear2(F.relu(self.linear1(tokens)))))


class Encoder(nn.Module):
    """The stack of layers with the embedding of each level; a module of its own because the released names have it."""

    def __init__(self, *, dim: int, n_heads: int, ffn_dim: int, n_points: int, n_layers: int) -> None:
        super().__init__()
        layers = [EncoderLayer(dim=dim, n_heads=n_heads, ffn_dim=ffn_dim, n_points=n_points) for _ in range(n_layers)]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.level_embed = nn.Parameter(torch.empty(N_LEVELS, dim))
        nn.init.normal_(self.level_embed)

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        sizes: list[Size] = [(level.shape[-2], level.shape[-1]) for level in maps]
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        position = torch.cat(
            [each.flatten(2).transpose(1, 2) + self.level_embed[level] for level, each in enumerate(positions)], dim=1
        )
        reference = pixel_centres(sizes, tokens.device)
        for layer in cast(nn.ModuleList, self.encoder["layers"]):
            tokens = layer(tokens, position, reference, sizes)
        parts = tokens.split([h * w for h, w in sizes], dim=1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def pixel_centres(sizes: Sequence[Size], device: torch.device) -> Float[Tensor, "1 s l 2"]:
    """Return the centre (x, y) in [0, 1] of every pixel of every level, repeated for each level that is looked at."""
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        centres.append(torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1).flatten(0, 1))
    return torch.cat(centres)[None, :, None].expand(-1, -1, len(sizes), -1)


class PixelDecoder(nn.Module):
    """Refine the maps at strides 32, 16, 8 by deformable attention and make the stride-4 map that masks are read from.

    Shapes: res2..res5 (B, C_i, H_i, W_i) -> mask features (B, mask_dim, H_2, W_2) and [stride 32, 16, 8].
    Papers: arXiv:2112.01527, arXiv:2010.04159.

    Differs from the stock Mask2Former pixel decoder, as the released weights do: the lateral has a ReLU, and both
    convolutions of the last step have a bias.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        dim: int,
        mask_dim: int,
        n_layers: int,
        n_heads: int,
        ffn_dim: int,
        n_points: int = 4,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise WeightsError(
                f"the pixel decoder got channels {list(in_channels)}; expected four, of res2, res3, res4, res5"
            )
        if dim % GROUPS:
            raise WeightsError(
                f"the pixel decoder is {dim} channels wide; expected a multiple of {GROUPS}, which its group norms need"
            )
        res2, *coarser = in_channels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, 1), nn.GroupNorm(GROUPS, dim)) for channels in reversed(coarser)
        )
        self.position = SinePosition(n_features=dim // 2)
        self.transformer = Encoder(dim=dim, n_heads=n_heads, ffn_dim=ffn_dim, n_points=n_points, n_layers=n_layers)
        self.adapter_1 = nn.Sequential(nn.Conv2d(res2, dim, 1), nn.GroupNorm(GROUPS, dim), nn.ReLU())
        self.layer_1 = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.GroupNorm(GROUPS, dim), nn.ReLU())
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(
        self,
        res2: Float[Tensor, "b c2 h2 w2"],
        res3: Float[Tensor, "b c3 h3 w3"],
        res4: Float[Tensor, "b c4 h4 w4"],
        res5: Float[Tensor, "b c5 h5 w5"],
    ) -> tuple[Tensor, list[Tensor]]:
        maps = [project(level) for project, level in zip(self.input_proj, (res5, res4, res3), strict=True)]
        positions = [self.position((level.shape[-2], level.shape[-1]), level.device, level.dtype) for level in maps]
        multi_scale, lateral = self.transformer(maps, positions), self.adapter_1(res2)
        finest = F.interpolate(multi_scale[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.mask_features(self.layer_1(lateral + finest)), multi_scale

"""What SAM's image encoder multiplies and adds, with VLTP's stages: all work of dense blocks, the kept part of others.

Attention in windows depends on how the kept tokens fall into them. Either they are given, or they are taken as chosen
uniformly at random, for which the expected counts are exact: of k tokens of N, a window of c places has n with
E[n] = c k / N and E[n^2] = E[n] + c (c - 1) k (k - 1) / (N (N - 1)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import comb
from typing import Any

from leanseg.core.budget import keep_count
from leanseg.costs import formulas
from leanseg.errors import InputError, unknown_name

POLICIES = ("drop", "zero_kv", "stale_kv")
PROMPT_TOKENS = 2  # the prune decoder's query and the [SEG] embedding


@dataclass(frozen=True, kw_only=True)
class SamSizes:
    """The sizes that the count needs; the defaults are ViT-H's."""

    image_size: int = 1024
    patch_size: int = 16
    width: int = 1280
    depth: int = 32
    window: int = 14
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    mlp_ratio: int = 4
    dim: int = 256
    decoder_depth: int = 2
    decoder_hidden: int = 2048
    score_hidden: int = 256
    multimasks: int = 3

    @property
    def side(self) -> int:
        """Tokens along a side of the square map."""
        return self.image_size // self.patch_size

    @property
    def n_tokens(self) -> int:
        """Image tokens."""
        return self.side**2

    @classmethod
    def of(cls, size: Any) -> SamSizes:
        """Return the sizes of b, l or h, or of any object with SamConfig's fields."""
        if isinstance(size, str):
            if size not in SIZES:
                raise InputError(unknown_name("SAM size", size, SIZES))
            return SIZES[size]
        if isinstance(size, cls):
            return size
        try:
            return cls(**{each.name: getattr(size, each.name) for each in fields(cls)})
        except AttributeError as error:
            raise InputError(f"size is {type(size).__name__} ({error}); expected b, l, h or a SamConfig") from error


SIZES = {
    "b": SamSizes(width=768, depth=12, global_blocks=(2, 5, 8, 11)),
    "l": SamSizes(width=1024, depth=24, global_blocks=(5, 11, 17, 23)),
    "h": SamSizes(),
}


@dataclass(frozen=True)
class Occupancy:
    """Sums over the windows of one size, n kept tokens and p filled places each; `frozen` beside a kept token."""

    kept: float
    squares: float
    with_filling: float
    with_all: float
    frozen: float


def window_places(side: int, window: int) -> Counter[int]:
    """Return how many windows have how many places inside the map.

    >>> sorted(window_places(64, 14).items())
    [(64, 1), (112, 8), (196, 16)]
    """
    whole, rest = divmod(side, window)
    lines = [window] * whole + ([rest] if rest else [])
    return Counter(height * width for height in lines for width in lines)


def uniform(side: int, window: int, kept: int) -> Occupancy:
    """Return the expected sums where the kept tokens are drawn uniformly."""
    n_tokens = side**2
    share, pairs = kept / n_tokens, kept * (kept - 1) / max(n_tokens * (n_tokens - 1), 1)
    total = Occupancy(kept, 0, 0, 0, 0)
    for places, number in window_places(side, window).items():
        mean = places * share
        empty = comb(n_tokens - places, kept) / comb(n_tokens, kept)
        total = Occupancy(
            kept,
            total.squares + number * (mean + places * (places - 1) * pairs),
            total.with_filling + number * mean * (window**2 - places),
            total.with_all + number * mean * window**2,
            total.frozen + number * (places * (1 - empty) - mean),
        )
    return total


def counted(side: int, window: int, indices: Sequence[int]) -> Occupancy:
    """Return the sums for given kept tokens, numbered row by row."""
    columns = -(-side // window)
    per_window = Counter((index // side // window) * columns + index % side // window for index in indices)
    squares = with_filling = with_all = frozen = 0
    for number, n in per_window.items():
        row, column = divmod(number, columns)
        places = min(window, side - row * window) * min(window, side - column * window)
        squares += n * n
        with_filling += n * (window**2 - places)
        with_all += n * window**2
        frozen += places - n
    return Occupancy(len(indices), squares, with_filling, with_all, frozen)


def encoder(
    sizes: SamSizes,
    keeps: Mapping[int, float],
    policy: str = "drop",
    kept: Sequence[Sequence[int]] | None = None,
    instructions: int = 1,
) -> dict[str, float]:
    """Return the multiply-adds of each part for one picture and instruction.

    `keeps`: after how many blocks -> keep ratio. `kept`: the kept tokens of each stage, None = uniform. Instructions
    asked of one picture share patches and the blocks before the first stage.
    """
    shared = 1 / instructions
    first = min(keeps, default=sizes.depth)
    parts: dict[str, float] = {
        "patch": shared * formulas.convolution(sizes.n_tokens, sizes.patch_size, 3, sizes.width),
        "window_blocks": 0,
        "global_blocks": 0,
        "rel_pos": 0,
        "prune": len(keeps) * prune_decoder(sizes),
        "neck": neck(sizes) if keeps else shared * neck(sizes),
    }
    rows = dict(zip(sorted(keeps), kept, strict=True)) if kept is not None else {}
    active: int | Sequence[int] = sizes.n_tokens
    for index in range(sizes.depth):
        if index in keeps:
            active = rows.get(index, keep_count(sizes.n_tokens, keeps[index], dropped=True))
        weight = shared if index < first else 1
        part, work, places = block(sizes, index, active, policy)
        parts[part] += weight * work
        parts["rel_pos"] += weight * places
    return parts


def block(sizes: SamSizes, index: int, kept: int | Sequence[int], policy: str = "drop") -> tuple[str, float, float]:
    """Return which part a block belongs to, its work and its relative positions; `kept`: tokens, or how many."""
    is_global = index in sizes.global_blocks
    part, window = ("global_blocks", sizes.side) if is_global else ("window_blocks", sizes.window)
    n_kept = kept if isinstance(kept, int) else len(kept)
    if n_kept == sizes.n_tokens:
        return part, *dense_block(sizes, window)
    own = uniform(sizes.side, window, n_kept) if isinstance(kept, int) else counted(sizes.side, window, kept)
    return part, *kept_block(sizes, window, own, policy)


def dense_block(sizes: SamSizes, window: int) -> tuple[float, float]:
    """A block on all tokens, windows filled up, and its relative positions."""
    width, filled = sizes.width, formulas.windows(sizes.side, window)
    work = 4 * formulas.linear(filled, width, width) + formulas.attention(filled, window**2, width)
    work += formulas.feed_forward(sizes.n_tokens, width, sizes.mlp_ratio * width)
    return work, filled * 2 * window * width


def kept_block(sizes: SamSizes, window: int, own: Occupancy, policy: str) -> tuple[float, float]:
    """The same where some tokens are kept: linear layers on these, attention inside each window that kept any."""
    width = sizes.width
    pairs = own.squares + own.with_filling if policy == "drop" else own.with_all
    work = (4 + 2 * sizes.mlp_ratio) * own.kept * width**2 + 2 * width * pairs
    if policy == "stale_kv":
        work += 2 * own.frozen * width**2
    return work, own.kept * 2 * window * width


def neck(sizes: SamSizes) -> int:
    """1x1 and 3x3 convolution to the decoders' width; the prune decoder has one of its own."""
    first = formulas.convolution(sizes.n_tokens, 1, sizes.width, sizes.dim)
    return first + formulas.convolution(sizes.n_tokens, 3, sizes.dim, sizes.dim)


def prune_decoder(sizes: SamSizes) -> int:
    """One call of VLTP's prune decoder: neck, two-way transformer over two prompt tokens, one product per token."""
    return neck(sizes) + two_way(sizes, PROMPT_TOKENS) + formulas.linear(sizes.n_tokens, sizes.dim, 1)


def mask_decoder(sizes: SamSizes) -> int:
    """One mask for one prompt embedding: two-way transformer, upscaling twice, one mask's weights, all scores."""
    tokens, dim, masks = sizes.n_tokens, sizes.dim, sizes.multimasks + 1
    upscaled = formulas.linear(tokens, dim, dim) + formulas.linear(4 * tokens, dim // 4, dim // 2)
    steering = 2 * formulas.linear(1, dim, dim) + formulas.linear(1, dim, dim // 8)
    scores = formulas.linear(1, dim, sizes.score_hidden) + formulas.linear(1, sizes.score_hidden, sizes.score_hidden)
    scores += formulas.linear(1, sizes.score_hidden, masks)
    return two_way(sizes, 2 + masks) + upscaled + steering + scores + formulas.linear(16 * tokens, dim // 8, 1)


def two_way(sizes: SamSizes, queries: int) -> int:
    """The two-way transformer: layers in which queries and image read each other, and once more the queries."""
    tokens, dim, inner = sizes.n_tokens, sizes.dim, sizes.dim // 2
    # Queries to image and back cost the same: projections of both sides, and each of one side with each of the other.
    cross = 2 * formulas.linear(queries + tokens, dim, inner) + formulas.attention(queries, tokens, inner)
    layer = (
        formulas.self_attention(queries, dim) + formulas.feed_forward(queries, dim, sizes.decoder_hidden) + 2 * cross
    )
    return sizes.decoder_depth * layer + cross

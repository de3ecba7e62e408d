"""CTS: four neighbouring patches that show one thing share a token from the first block on.

Source: Content-aware Token Sharing (arXiv:2306.02095), for semantic segmentation. A policy network looks at the picture
before the ViT and scores its super-patches of 2 x 2 patches; the K best are shared. A shared token is the patch of the
picture at half its size, with the mean of the four positions; behind the ViT its features return to all four cells.

Differs from the paper: a small convolutional policy of our own instead of EfficientNet-Lite0. SAM has windows and
relative positions, of which the paper knows nothing: a shared token stands at its upper left cell, and the other three
are dropped. One thing = all four patches inside or all outside of the target, about which the picture says nothing.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.core import Selection, keep_count
from leanseg.errors import SpecError, WeightsError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.image_encoder import ImageEncoder
from leanseg.models.sam.layers import LayerNorm2d
from leanseg.models.vltp.active import run_blocks
from leanseg.models.vltp.baselines.unguided import Encoded, UnguidedEncoder
from leanseg.models.vltp.staged_encoder import StagedOutput
from leanseg.shapes import Float, Int

WIDEST = 8  # times the first layer's channels


class CTSPolicy(nn.Module):
    """Two logits per super-patch, (B, S, 2): that it shows several things, and that it shows one.

    Strided convolutions down to one place per super-patch, each reaching one place beyond its stride at every side, and
    twice as wide as the one before up to eight times `width`. A last row or column of an odd grid is in no super-patch.
    """

    def __init__(self, config: SamConfig, *, width: int = 32) -> None:
        super().__init__()
        if config.grid.height < 2:
            raise WeightsError("SAM's grid has a single token, and CTS shares four; expected a grid of at least 2 x 2")
        self.patch_size = config.patch_size
        strides = _prime_factors(2 * config.patch_size)
        widths = [3, *(width * min(2**index, WIDEST) for index in range(len(strides)))]
        layers: list[nn.Module] = []
        for stride, given, made in zip(strides, widths, widths[1:], strict=False):
            convolution = nn.Conv2d(given, made, kernel_size=stride + 2, stride=stride, padding=1)
            layers += [convolution, LayerNorm2d(made), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, kernel_size=1))

    def forward(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Float[Tensor, "b s 2"]:
        return cast(Tensor, self.layers(even(pixels, 2 * self.patch_size))).flatten(2).mT


def _prime_factors(number: int) -> list[int]:
    factors, candidate = [], 2
    while number > 1:
        while number % candidate == 0:
            factors.append(candidate)
            number //= candidate
        candidate += 1
    return factors


def even(values: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c he we"]:
    """Cut off what whole squares of this side leave at the right and at the bottom."""
    height, width = values.shape[2:]
    return values[..., : height - height % side, : width - width % side]


class CTSEncoder(UnguidedEncoder):
    """SAM's image encoder on shared tokens. Holds modules and owns none.

    `keep_ratio`: of all tokens; sharing drops three of four, so K = floor((1 - keep_ratio) N / 3) super-patches are
    shared and N - 3K tokens run in every block. The selection's owners say whose features a cell gets.
    """

    def __init__(self, encoder: ImageEncoder, policy: CTSPolicy, *, keep_ratio: float) -> None:
        self.encoder, self.policy = encoder, policy
        grid = encoder.config.grid
        possible = (grid.height // 2) * (grid.width // 2)
        self.n_shared = (grid.n_tokens - keep_count(grid.n_tokens, keep_ratio, dropped=True)) // 3
        if self.n_shared > possible:
            least = (grid.n_tokens - 3 * possible) / grid.n_tokens
            raise SpecError(
                f"CTS would share {self.n_shared} super-patches to keep {keep_ratio:g} of the tokens, and the grid has "
                f"{possible}; expected a keep ratio of at least {least:.4f}"
            )

    def run(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Encoded:
        """Share, run all blocks, and copy the shared features back."""
        tokens, logits = self.encoder.embed(pixels), self.policy(pixels)
        chosen = self.choose(logits)
        selection = self.sharing(chosen)
        kept = selection.mask()
        if self.n_shared:
            tokens = self._put_shared(tokens, pixels, chosen)
        tokens = run_blocks(self.encoder.blocks, tokens, kept)
        if self.n_shared:
            flat = tokens.flatten(1, 2)
            tokens = selection.expand(selection.gather(flat)).view(tokens.shape)
        masks = (kept,) * len(self.encoder.blocks)
        output = StagedOutput(self.encoder.to_embedding(tokens), (selection,), (logits,), masks)
        return Encoded(tokens, output)

    def choose(self, logits: Float[Tensor, "b s 2"]) -> Int[Tensor, "b k"]:
        """Return the super-patches that most likely show one thing, the lowest index first among equals."""
        margin = (logits[..., 1].float() - logits[..., 0].float()).detach()
        return margin.argsort(dim=1, descending=True, stable=True)[:, : self.n_shared]

    def sharing(self, chosen: Int[Tensor, "b k"]) -> Selection:
        """Return the tokens that stay, each standing for itself or, at a corner, for all four cells."""
        grid, corners = self.encoder.config.grid, self._corners(chosen)
        tokens = torch.arange(grid.n_tokens, device=chosen.device).repeat(chosen.shape[0], 1)
        stands_for = tokens.clone()
        for offset in (1, grid.width, grid.width + 1):
            stands_for.scatter_(1, corners + offset, corners)
        kept = stands_for == tokens
        slots = kept.long().cumsum(dim=1) - 1
        indices = kept.nonzero()[:, 1].view(chosen.shape[0], -1)
        return Selection(indices, grid.n_tokens, owner=slots.gather(1, stands_for))

    def _corners(self, chosen: Tensor) -> Tensor:
        """Return the upper left cells of super-patches."""
        width = self.encoder.config.grid.width
        columns = width // 2
        return 2 * (chosen // columns) * width + 2 * (chosen % columns)

    def _put_shared(self, tokens: Tensor, pixels: Tensor, chosen: Tensor) -> Tensor:
        """Write shared tokens at their corners: patches of the picture at half its size, positions averaged."""
        half = F.avg_pool2d(even(pixels, 2 * self.encoder.config.patch_size), 2)
        places = F.avg_pool2d(even(self.encoder.pos_embed.permute(0, 3, 1, 2), 2), 2)
        shared = (self.encoder.patch_embed(half) + places.permute(0, 2, 3, 1)).flatten(1, 2)
        flat, width = tokens.flatten(1, 2), tokens.shape[3]
        values = shared.gather(1, chosen[..., None].expand(-1, -1, width))
        return flat.scatter(1, self._corners(chosen)[..., None].expand(-1, -1, width), values).view(tokens.shape)


def policy_labels(coverage: Float[Tensor, "r n"]) -> Int[Tensor, "r s"]:
    """Return 1 for super-patches wholly inside or wholly outside; `coverage`: the share of each patch that is inside.

    >>> policy_labels(torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0]])).tolist()
    [[1]]
    """
    side = round(coverage.shape[1] ** 0.5)
    squares = even(coverage.unflatten(1, (1, side, side)), 2).unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(1, 3)
    return ((squares == 1).all(dim=2) | (squares == 0).all(dim=2)).long()


def policy_losses(logits: Float[Tensor, "r s 2"], coverage: Float[Tensor, "r n"]) -> dict[str, Tensor]:
    """Return the policy's cross-entropy; the logits may be those of the policy alone, for which no block is run."""
    return {"policy": F.cross_entropy(logits.float().flatten(0, 1), policy_labels(coverage).flatten())}

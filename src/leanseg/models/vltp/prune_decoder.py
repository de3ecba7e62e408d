"""VLTP's prune decoder: one learned query and the [SEG] embedding read the image tokens; each token gets a logit.

Source: VLTP (arXiv:2409.08464), section 4.2, as its public code has it: the neck and the two-way transformer are those
of SAM's shape with weights of their own. The paper's Eqs. 7 to 10 show one pass; the code has two layers and the last
attention, position codes, and SAM's embedding for "no mask".
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from leanseg.core.tokens import Grid
from leanseg.errors import TokensError, WeightsError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.layers import neck
from leanseg.models.sam.mask_decoder import MaskDecoder
from leanseg.models.sam.prompt_encoder import PromptEncoder
from leanseg.models.sam.transformer import TwoWayTransformer
from leanseg.shapes import Float


class PruneOutput(NamedTuple):
    """What the prune decoder makes: logits (B, N), the queries (B, 2, C), the image tokens after reading (B, N, C)."""

    logits: Tensor
    queries: Tensor
    image: Tensor

    @property
    def scores(self) -> Tensor:
        """The published scores, in (0, 1)."""
        return self.logits.sigmoid()


class PruneDecoder(nn.Module):
    """logit[n] = <query, image[n]> behind a two-way transformer over the necked tokens; names as in the public code.

    4,210,048 parameters and 5.118e9 multiply-adds per call at ViT-H's size. One instance serves all stages.
    """

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.mask_tokens = nn.Embedding(1, config.dim)
        self.input_neck = neck(config.width, config.dim)
        self.transformer = TwoWayTransformer(
            depth=config.decoder_depth, dim=config.dim, heads=config.decoder_heads, hidden=config.decoder_hidden
        )

    def forward(
        self,
        tokens: Float[Tensor, "b h w d"],
        image_pe: Float[Tensor, "1 c h w"],
        sparse: Float[Tensor, "b 1 c"],
        dense: Float[Tensor, "#b c h w"],
    ) -> PruneOutput:
        """Read the raw tokens between two blocks, the positions, one [SEG] per row, and SAM's dense embedding."""
        queries = torch.cat([self.mask_tokens.weight.expand(tokens.shape[0], -1, -1), sparse], dim=1)
        image = self.input_neck(tokens.permute(0, 3, 1, 2)) + dense
        read, keys = self.transformer(image, image_pe, queries)
        return PruneOutput((keys @ read[:, 0, :, None])[..., 0], read, keys)

    def init_from_mask_decoder(self, decoder: MaskDecoder) -> None:
        """Take the transformer's weights from SAM's mask decoder, as an alternative to drawing them."""
        state = decoder.transformer.state_dict()
        own = {name: tuple(tensor.shape) for name, tensor in self.transformer.state_dict().items()}
        if own != {name: tuple(tensor.shape) for name, tensor in state.items()}:
            raise WeightsError("the mask decoder's transformer has other sizes; expected those of one configuration")
        self.transformer.load_state_dict(state)


class PruneScorer(nn.Module):
    """A prune decoder with SAM's positions and "no mask" embedding: what a `LearnedPruner` calls.

    Both are SAM's own, frozen; they are no part of this module's state.
    """

    def __init__(self, decoder: PruneDecoder, prompts: PromptEncoder) -> None:
        super().__init__()
        self.decoder = decoder
        self._prompts = (prompts,)  # held, not registered: its weights are SAM's

    def forward(
        self, features: Float[Tensor, "b n d"], grid: Grid, guidance: Float[Tensor, "b g"]
    ) -> Float[Tensor, "b n"]:
        """Return one logit per token."""
        prompts = self._prompts[0]
        if guidance.shape[1] != prompts.config.dim:
            raise TokensError(
                f"guidance is {guidance.shape[1]} wide; expected {prompts.config.dim}: the projected [SEG] embedding"
            )
        tokens = features.unflatten(1, (grid.height, grid.width))
        dense = prompts.no_mask_embed.weight[:, :, None, None].expand(-1, -1, grid.height, grid.width)
        image_pe = prompts.image_pe(grid).to(features.dtype)
        output = self.decoder(tokens, image_pe, guidance[:, None].to(features.dtype), dense.to(features.dtype))
        return cast(PruneOutput, output).logits

"""SViT: a small gate before each block decides for each token whether it takes part in this block.

Source: SViT, "Revisiting Token Pruning for Object Detection and Instance Segmentation" (arXiv:2306.07050). Tokens that
are left out are preserved, and the next gate may take them back. How many take part depends on the picture.

Differs from the paper, whose ViTs attend globally: SAM's windows stay, and who is left out is absent from its window.
In training a token that is left out attends to itself besides those that take part, as it would if it took part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.image_encoder import ImageEncoder
from leanseg.models.vltp.active import run_blocks
from leanseg.models.vltp.baselines.unguided import Encoded, UnguidedEncoder, selections
from leanseg.models.vltp.staged_encoder import StagedOutput
from leanseg.shapes import Float

LOSS_WEIGHT = 4.0


class Gate(nn.Module):
    """The logarithms of the probabilities to keep (0) and to leave out (1), for each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width // 4), nn.GELU(), nn.Linear(width // 4, 2)
        )

    def forward(self, tokens: Float[Tensor, "b h w d"]) -> Float[Tensor, "b n 2"]:
        return cast(Tensor, self.layers(tokens)).flatten(1, 2).float().log_softmax(dim=2)


class SViTGates(nn.Module):
    """One gate for each block from the first stage on; `stages`: after how many blocks -> fraction to keep.

    The fractions are targets of the loss; what is kept is the gates' affair. In training mode (`train()`) they decide
    by straight-through Gumbel noise from torch's generator, else by the larger logit.
    """

    def __init__(self, config: SamConfig, stages: Mapping[int, float]) -> None:
        super().__init__()
        self.first = min(stages)
        self.targets: list[float] = []
        for block in range(self.first, config.depth):
            self.targets.append(stages.get(block, self.targets[-1] if self.targets else 1.0))
        self.gates = nn.ModuleList(Gate(config.width) for _ in self.targets)


@dataclass(frozen=True, eq=False)
class SViTOutput(StagedOutput):
    """`logits`: keep less drop, of each gate; `decisions`: 1 and 0 as floats, with gradients to the gates in training.

    `selections` is empty where the pictures of a batch keep different numbers.
    """

    decisions: tuple[Float[Tensor, "r n"], ...] = ()


class SViTEncoder(UnguidedEncoder):
    """SAM's image encoder behind gates. Holds modules and owns none.

    In training x := s * block(x, seeing those with s = 1) + (1 - s) * x on all tokens, for the sake of gradients; else
    the block runs on the tokens that take part only.
    """

    def __init__(self, encoder: ImageEncoder, gates: SViTGates) -> None:
        self.encoder, self.gates = encoder, gates

    def run(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Encoded:
        """Run each block on whom its gate lets through."""
        tokens, blocks, first = self.encoder.embed(pixels), self.encoder.blocks, self.gates.first
        kept = [torch.ones(tokens.flatten(1, 2).shape[:2], dtype=torch.bool, device=tokens.device)] * first
        tokens = run_blocks(blocks[:first], tokens, kept[0]) if first else tokens
        logits, decisions = [], []
        for index, gate in enumerate(self.gates.gates, start=first):
            chances = gate(tokens)
            decision = straight_through(chances) if self.gates.training else _larger(chances)
            mask = decision > 0.5
            if self.gates.training:
                through = decision.view(*tokens.shape[:3], 1).to(tokens.dtype)
                changed = blocks[index](tokens, mask.view(tokens.shape[:3]))
                tokens = through * changed + (1 - through) * tokens
            else:
                tokens = run_blocks(blocks[index : index + 1], tokens, mask)
            kept.append(mask)
            logits.append(chances[..., 0] - chances[..., 1])
            decisions.append(decision)
        embeddings, masks = self.encoder.to_embedding(tokens), tuple(kept)
        output = SViTOutput(embeddings, selections(masks[first:]), tuple(logits), masks, tuple(decisions))
        return Encoded(tokens, output)


def _larger(chances: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n"]:
    return (chances[..., 0] > chances[..., 1]).to(chances.dtype)


def straight_through(chances: Float[Tensor, "b n 2"], generator: torch.Generator | None = None) -> Float[Tensor, "b n"]:
    """Draw 1 (keep) or 0 by Gumbel noise; the gradient is that of the noisy softmax at temperature 1."""
    noise = -torch.empty_like(chances).exponential_(generator=generator).log()
    soft = (chances + noise).softmax(dim=2)[..., 0]
    return (soft >= 0.5).to(soft.dtype) + (soft - soft.detach())


def budget_losses(decisions: Sequence[Float[Tensor, "r n"]], targets: Sequence[float]) -> dict[str, Tensor]:
    """Return 4 * mean over gates of (mean kept - target)^2; the mean is over all tokens of the batch."""
    means = torch.stack([decision.mean() for decision in decisions])
    return {"budget": LOSS_WEIGHT * (means - means.new_tensor(list(targets))).square().mean()}

"""DToP: heads between the blocks predict each token's class, and tokens that are easy to tell leave early.

Source: Dynamic Token Pruning in plain vision transformers (arXiv:2308.01045), for semantic segmentation. A token whose
class is more likely than a threshold leaves, but for the most confident few of each class, which stay as context. Who
left never comes back.

Differs from the paper: two classes, the target, for which the head has its query, and what is not the target, at one
minus its chance. SAM's neck wants features everywhere, so that a token that left keeps its last ones; the paper has its
class and no further use for them. The masks are SAM's; the heads' own serve the choice and the losses alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.errors import SpecError
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.image_encoder import ImageEncoder
from leanseg.models.vltp.active import run_blocks
from leanseg.models.vltp.baselines.dtop_head import TokenHead, focal
from leanseg.models.vltp.baselines.unguided import Encoded, UnguidedEncoder, selections
from leanseg.models.vltp.losses import dice
from leanseg.models.vltp.staged_encoder import StagedOutput
from leanseg.shapes import Bool, Float

STAY = 5  # most confident tokens of each class that would leave
CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 1.0, 20.0, 1.0


class DToPHeads(nn.Module):
    """A head behind each of `places` blocks, of as many parts as SAM's decoder has (8)."""

    def __init__(self, config: SamConfig, places: Iterable[int]) -> None:
        super().__init__()
        self.places = tuple(sorted(places))
        self.heads = nn.ModuleList(TokenHead(config.width, heads=config.decoder_heads) for _ in self.places)


@dataclass(frozen=True, eq=False)
class DToPOutput(StagedOutput):
    """`logits`: each head's mask, where tokens that had left keep what an earlier head said; `present` (R, 2).

    `seen`: the tokens that a head read. `selections`: who stayed behind each head; empty where the pictures of a batch
    keep different numbers.
    """

    present: tuple[Float[Tensor, "r 2"], ...] = ()
    seen: tuple[Bool[Tensor, "r n"], ...] = ()


class DToPEncoder(UnguidedEncoder):
    """SAM's image encoder with early exits. Holds modules and owns none.

    `confidence`: the chance of a class above which a token leaves; 1 = none does, which is SAM.
    """

    def __init__(self, encoder: ImageEncoder, heads: DToPHeads, *, confidence: float = 0.95) -> None:
        if not 0.5 <= confidence <= 1:
            raise SpecError(
                f"confidence is {confidence!r}; expected 0.5 to 1: the chance of a class above which a token leaves"
            )
        self.encoder, self.heads, self.confidence = encoder, heads, confidence

    def run(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Encoded:
        """Run the blocks up to each head on whom is left."""
        tokens, blocks = self.encoder.embed(pixels), self.encoder.blocks
        left = torch.ones(tokens.flatten(1, 2).shape[:2], dtype=torch.bool, device=tokens.device)
        canvas = tokens.new_zeros(left.shape)
        kept, seen, present, logits = [], [], [], []
        bounds = [0, *self.heads.places, len(blocks)]
        for index, (start, stop) in enumerate(pairwise(bounds)):
            tokens = run_blocks(blocks[start:stop], tokens, left)
            kept += [left] * (stop - start)
            if index < len(self.heads.places):
                is_present, masks = self.heads.heads[index](tokens.flatten(1, 2), left)
                canvas = torch.where(left, masks, canvas.detach())
                seen.append(left)
                present.append(is_present)
                logits.append(canvas)
                left = left & ~exits(chance(is_present, masks), left, self.confidence)
        behind = (*seen[1:], left) if seen else ()
        embeddings = self.encoder.to_embedding(tokens)
        output = DToPOutput(embeddings, selections(behind), tuple(logits), tuple(kept), tuple(present), tuple(seen))
        return Encoded(tokens, output)


def chance(present: Float[Tensor, "b 2"], masks: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return each token's chance to belong to the target: that it is there at all, times the mask."""
    return (present.float().softmax(dim=1)[:, :1] * masks.float().sigmoid()).detach()


def exits(
    chances: Float[Tensor, "b n"], left: Bool[Tensor, "b n"], confidence: float, stay: int = STAY
) -> Bool[Tensor, "b n"]:
    """Return who leaves: those surer than `confidence`, less the `stay` surest of either class, lowest index first.

    >>> exits(torch.tensor([[0.99, 0.97, 0.5, 0.01]]), torch.ones(1, 4, dtype=torch.bool), 0.95, stay=1).tolist()
    [[False, True, False, False]]
    """
    leaving = torch.zeros_like(left)
    for sureness in (chances, 1 - chances):
        would = left & (sureness > confidence)
        order = sureness.masked_fill(~would, -1.0).argsort(dim=1, descending=True, stable=True)[:, :stay]
        leaving |= would.scatter(1, order, torch.zeros_like(would))
    return leaving


def head_losses(output: DToPOutput, labels: Float[Tensor, "r n"]) -> dict[str, Tensor]:
    """Return cross-entropy (1), focal loss (20) and dice (1), weighted, summed over heads, each over what it read.

    `labels`: 1 where any of a patch is inside, as the stages' losses have them; the class is present where any is 1.
    """
    absent = (~labels.bool().any(dim=1)).long()
    losses = {"class": labels.new_zeros(()), "mask": labels.new_zeros(()), "dice": labels.new_zeros(())}
    for present, logits, seen in zip(output.present, output.logits, output.seen, strict=True):
        own, wanted = cast(Tensor, logits).float(), labels * seen
        losses["class"] = losses["class"] + CLASS_WEIGHT * F.cross_entropy(present.float(), absent)
        losses["mask"] = losses["mask"] + MASK_WEIGHT * focal(own, wanted, seen)
        losses["dice"] = losses["dice"] + DICE_WEIGHT * dice(own.masked_fill(~seen, -torch.inf), wanted)
    return losses

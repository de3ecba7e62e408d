"""Heads that exist in training only: they tie what SAM's tokens show to what the guide asks for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.engine.train.batches import IGNORED
from leanseg.shapes import Float, Int

BACKGROUND_WEIGHT = 0.1


class TrainingHeads(nn.Module):
    """One table of items, read from image embeddings and from guidance alike, and which tokens matter to guidance.

    Without the shared table a guide that knows nothing and a mask decoder that ignores it hold each other still.
    """

    def __init__(self, *, dim: int, n_items: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.items = nn.Linear(dim, n_items + 1)
        self.key = nn.Linear(dim, dim)
        self.asked = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.query = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))

    def token_loss(self, embeddings: Float[Tensor, "b c h w"], items: Int[Tensor, "b n"]) -> Tensor:
        """Cross-entropy of what tokens show; background counts a tenth of an object."""
        if bool((items == IGNORED).all()):
            return embeddings.new_zeros(())
        logits = self.items(self.norm(embeddings.float().flatten(2).mT)).float()
        weight = torch.ones(logits.shape[-1], device=logits.device)
        weight[0] = BACKGROUND_WEIGHT
        return F.cross_entropy(logits.flatten(0, 1), items.flatten(), weight, ignore_index=IGNORED)

    def asked_loss(self, guidance: Float[Tensor, "r c"], wanted: Float[Tensor, "r i"]) -> Tensor:
        """Cross-entropy between the items (1-based columns) that guidance names and those that are wanted.

        The table is held: where no token is read it would drift away from what tokens show.
        """
        table, bias = self.items.weight.detach(), self.items.bias.detach()
        logits = F.linear(self.asked(guidance.float()), table, bias).float()
        known = wanted.sum(1) > 0
        loss = -(wanted * logits.log_softmax(-1)).sum(1) / wanted.sum(1).clamp(min=1)
        return loss.sum() / known.sum().clamp(min=1)

    def relevance_loss(
        self, guidance: Float[Tensor, "r c"], embeddings: Float[Tensor, "r c h w"], relevant: Float[Tensor, "r n"]
    ) -> Tensor:
        """Balanced binary cross-entropy of <guidance, token> with which tokens hold the target."""
        keys = self.key(self.norm(embeddings.float().flatten(2).mT))
        logits = torch.einsum("rc,rnc->rn", self.query(guidance.float()), keys).float() / math.sqrt(keys.shape[-1])
        loss = F.binary_cross_entropy_with_logits(logits, relevant, reduction="none")
        inside = (loss * relevant).sum(1) / relevant.sum(1).clamp(min=1)
        outside = (loss * (1 - relevant)).sum(1) / (1 - relevant).sum(1).clamp(min=1)
        return (inside + outside).mean()

"""Heads that exist in training only: they make the visual tokens carry what they show, and vanish at inference."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.engine.train.batches import IGNORED, TokenLabels


class PointPrompts(nn.Module):
    """Turns a set of points into a mask query: the sum over points of an MLP of Fourier features (a set encoder)."""

    frequencies: Tensor

    def __init__(self, width: int, *, n_frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.linspace(0, 4.5, n_frequencies))
        self.encode = nn.Sequential(nn.Linear(4 * n_frequencies, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, points: Tensor) -> Tensor:
        """(B,P,M,2) points in [0,1], NaN where unused -> (B,P,width)."""
        used = ~points.isnan().any(-1, keepdim=True)
        angles = points.nan_to_num(0.0).unsqueeze(-1) * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        return (self.encode(features) * used).sum(-2)


class AuxiliaryHeads(nn.Module):
    """What visual tokens show, the same item table read from text, and which tokens matter to an instruction."""

    def __init__(self, *, width: int, query_width: int, n_items: int, n_tints: int) -> None:
        super().__init__()
        self.points = PointPrompts(query_width)
        self.token_norm = nn.LayerNorm(width)
        self.items = nn.Linear(width, n_items + 1)
        self.tints = nn.Linear(width, n_tints + 1)
        self.boxes = nn.Linear(width, 3)
        self.places = nn.Linear(width, query_width)
        self.text = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.relevance_text = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.relevance_token = nn.Linear(width, width)

    def token_losses(self, tokens: Tensor, labels: TokenLabels) -> dict[str, Tensor]:
        """Losses of what (B,N,D) projected tokens show; background counts a fifth of an object in the item loss."""
        normed = self.token_norm(tokens.float())
        weight = torch.ones(self.items.out_features, device=tokens.device)
        weight[0] = 0.2
        items = F.cross_entropy(
            self.items(normed).float().flatten(0, 1), labels.items.flatten(), weight, ignore_index=IGNORED
        )
        tints = F.cross_entropy(self.tints(normed).float().flatten(0, 1), labels.tints.flatten(), ignore_index=IGNORED)
        inside = ~labels.boxes.isnan().any(-1)
        boxes = F.smooth_l1_loss(self.boxes(normed).float()[inside], labels.boxes[inside], beta=0.1)
        return {"items": items, "tints": 0.5 * tints, "boxes": 2 * boxes}

    def token_place_loss(self, tokens: Tensor, labels: TokenLabels) -> Tensor:
        """How far what (B,N,D) tokens say of their object's place is from its point prompt, relative to its length.

        Without it a token need not know where it is, and an instruction cannot learn where its target is.
        """
        inside = ~labels.boxes.isnan().any(-1)
        side = round(tokens.shape[1] ** 0.5)
        axis = (torch.arange(side, device=tokens.device) + 0.5) / side
        own = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        centres = (labels.boxes[..., :2] + own)[inside]
        with torch.no_grad():
            wanted = self.points(centres.unsqueeze(-2)).float()
        said = self.places(self.token_norm(tokens.float())[inside]).float()
        return (said - wanted).pow(2).sum(-1).mean() / wanted.pow(2).sum(-1).mean().clamp(min=1e-6)

    def text_loss(self, states: Tensor, labels: TokenLabels, relevant: Tensor) -> Tensor:
        """Cross-entropy between the items that instruction states (B,K,D) name and those that relevant tokens show.

        The states are read with the token heads' own item table; `relevant` is (B,K,N).
        """
        n_items = self.items.out_features
        shown = F.one_hot(labels.items.clamp(min=0), n_items).float() * (labels.items > 0).unsqueeze(-1)
        wanted = torch.einsum("bkn,bni->bki", relevant.float(), shown)
        wanted[..., 0] = 0
        wanted = (wanted > 0).float()
        count = wanted.sum(-1)
        logits = F.linear(self.text(states.float()), self.items.weight, self.items.bias).float()
        loss = -(wanted * logits.log_softmax(-1)).sum(-1) / count.clamp(min=1)
        return (loss * (count > 0)).sum() / (count > 0).sum().clamp(min=1)

    def relevance_loss(self, states: Tensor, tokens: Tensor, relevant: Tensor) -> Tensor:
        """Balanced binary cross-entropy of dot(state (B,K,D), token (B,N,D)) with what is relevant (B,K,N)."""
        query = self.relevance_text(states.float())
        key = self.relevance_token(self.token_norm(tokens.float()))
        logits = torch.einsum("bkd,bnd->bkn", query, key).float() / math.sqrt(key.shape[-1])
        target = relevant.float()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        positive = (loss * target).sum(-1) / target.sum(-1).clamp(min=1)
        negative = (loss * (1 - target)).sum(-1) / (1 - target).sum(-1).clamp(min=1)
        return (positive + negative).mean()

    def place_loss(self, queries: Tensor, places: Tensor) -> Tensor:
        """How far mask queries (B,K,Q,C) are from the prompt of the target's places (B,K,P,2), relative to its length.

        The pixel stage taught the mask decoder to read point prompts; this teaches the language model to write them.
        """
        with torch.no_grad():
            wanted = self.points(places).float()
        used = ~places.isnan().all(-1).all(-1)
        scale = wanted.pow(2).sum(-1).mean().clamp(min=1e-6)
        distance = (queries.float() - wanted.unsqueeze(2)).pow(2).sum(-1).mean(-1) / scale
        return (distance * used).sum() / used.sum().clamp(min=1)

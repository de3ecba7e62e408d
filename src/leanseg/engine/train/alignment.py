"""A start for a language model without language: words begin where the visual tokens of what they name are.

A released InstructSeg starts from a vision-language model in which words and visual tokens already meet. The small
model has no such past. So before its first instruction, the embedding of every word that names an item, a category or a
hue is set to the direction by which the tower's own training recognises it, and keys start equal to queries: attention
begins as similarity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leanseg.data.scenes.categories import CATEGORIES, members
from leanseg.data.scenes.items import ITEMS
from leanseg.data.scenes.sprites import TINTS
from leanseg.engine.train.auxiliary import AuxiliaryHeads
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.tokenizer import TextTokenizer

WORD_SCALE = 0.3
"""Root mean square of an aligned embedding."""
SIMILARITY_STD = 0.05
"""Standard deviation of the shared query and key weights: sharp enough to prefer the similar, soft enough to learn."""


def named_directions(heads: AuxiliaryHeads) -> dict[str, Tensor]:
    """Return word -> direction (D,) of every name, plural, category and hue, from the tower's label heads."""
    items = heads.items.weight.detach()
    directions = {}
    for index, item in enumerate(ITEMS):
        if not item.held_out:
            directions[item.name] = directions[item.plural] = items[index + 1]
    for category in CATEGORIES:
        found = sorted(index for index in members(category.name) if not ITEMS[index].held_out)
        if found:
            directions[category.name] = directions[category.plural] = items[[index + 1 for index in found]].mean(0)
    tints = heads.tints.weight.detach()
    return directions | {hue: tints[number + 1] for number, hue in enumerate(TINTS)}


@torch.no_grad()
def align_vocabulary(model: InstructSeg, heads: AuxiliaryHeads, tokenizer: TextTokenizer) -> int:
    """Set the embeddings of named words and the first similarity of attention, in place; return how many ids were set.

    An id that several names share (the word "fire") gets the mean of their directions.
    """
    sums: dict[int, Tensor] = {}
    for word, direction in named_directions(heads).items():
        unit = direction / direction.pow(2).mean().sqrt()
        for token in tokenizer.encode(word):
            sums[token] = sums[token] + unit if token in sums else unit.clone()
    table = model.language_model.embed_tokens.weight
    for token, total in sums.items():
        table[token] = WORD_SCALE * total / total.pow(2).mean().sqrt()
    generator = torch.Generator().manual_seed(0)
    for layer in model.language_model.layers:
        query, key = layer.self_attn.q_proj, layer.self_attn.k_proj
        shared = torch.randn(query.weight.shape, generator=generator) * SIMILARITY_STD
        for projection in (query, key):
            projection.weight.copy_(shared)
    return len(sums)


@torch.no_grad()
def mark_positions(model: InstructSeg, *, amplitude: float = 6.0) -> None:
    """Add where a token is to the tower's position embedding, in place, as sines and cosines in 16 directions.

    Recognising items needs no absolute place, so a tower trained on that alone drowns its position embedding; but a
    language model can only say where something is if the tokens do.
    """
    table = model.vision_tower.embeddings.position_embedding.weight
    side = model.config.vision.side
    axis = (torch.arange(side) + 0.5) / side
    angles = torch.pi * axis[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    down, across = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    code = torch.cat([down, across], dim=2).flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(table.shape[1], code.shape[1], generator=generator)).Q
    table += amplitude * code @ directions.T

"""Several conversations about one picture in one pass of the guide's language model (training only).

What stands up to the picture is read once; each conversation goes on from there, blind to the others, at positions that
start anew. Each gives what it gives alone (tested), and the picture's tokens, nearly all there is to read, are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from leanseg.engine.train.packed import block_mask, block_positions
from leanseg.models.vltp import mllm
from leanseg.models.vltp.conversation import IGNORED, IMAGE_ID, Conversation, padded
from leanseg.models.vltp.model import VLTP
from leanseg.shapes import Float


class PackedStates(NamedTuple):
    """Behind the picture, of R conversations: last hidden states (R, T, D), ids (R, T) and labels (R, T), padded."""

    hidden: Tensor
    ids: Tensor
    labels: Tensor


def packed_read(
    model: VLTP, features: Float[Tensor, "b n d"], conversations: Sequence[Sequence[Conversation]]
) -> PackedStates:
    """Run the language model on B pictures' projected tokens with K conversations each; see the module's text."""
    batch, count = len(conversations), len(conversations[0])
    flat = [each for row in conversations for each in row]
    start = int((flat[0].ids == IMAGE_ID).nonzero()[-1]) + 1
    device = features.device
    ids = padded([each.ids[start:] for each in flat], IGNORED).to(device)
    labels = padded([each.labels[start:] for each in flat], IGNORED).to(device)
    shared = flat[0].ids[:start].to(device).expand(batch, -1)
    before = mllm.embedded(model.mllm, shared, features)
    table = model.mllm.get_input_embeddings()
    behind = table(ids.clamp(min=0)).unflatten(0, (batch, count)).flatten(1, 2)
    embeds = torch.cat([before, behind.to(before.dtype)], dim=1)
    used = (ids != IGNORED).unflatten(0, (batch, count))
    states = model.language_model(
        inputs_embeds=embeds,
        attention_mask=block_mask(used, start).to(embeds.dtype),
        position_ids=block_positions(batch, start, count, ids.shape[1], device),
        use_cache=False,
    ).last_hidden_state
    return PackedStates(states[:, start:].unflatten(1, (count, -1)).flatten(0, 1), ids, labels)

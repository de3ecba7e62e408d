"""The guidance: which hidden state of the language model stands for [SEG], and its projection into SAM's prompts.

Source: LISA (arXiv:2308.00692), as coded. The state that is read is not [SEG]'s own but the one before it, whose logits
predict [SEG]; it is taken behind the language model's last norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from leanseg.errors import InputError
from leanseg.shapes import Float, Int


class SegProjector(nn.Module):
    """Two linear layers with ReLU between them, from the language model's width to SAM's; names as in LISA.

    `text_hidden_fcs` below `model.` of a LISA checkpoint is this module's state.
    """

    def __init__(self, width: int, dim: int = 256) -> None:
        super().__init__()
        layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim), nn.Dropout(0.0))
        self.text_hidden_fcs = nn.ModuleList([layers])

    def forward(self, states: Float[Tensor, "*b w"]) -> Float[Tensor, "*b c"]:
        return cast(Tensor, self.text_hidden_fcs[0](states))


class SegStates(NamedTuple):
    """Hidden states (R, D) of all [SEG] of a batch, conversation by conversation, and the conversation of each (R,)."""

    states: Tensor
    conversation: Tensor


def seg_states(
    hidden: Float[Tensor, "c s w"], input_ids: Int[Tensor, "c t"], *, seg_id: int, image_tokens: int
) -> SegStates:
    """Return the state before each [SEG], in order of appearance.

    `hidden`: the language model's last states, behind its norm, of sequences in which one placeholder of `input_ids`
    became `image_tokens` rows; it stands before every [SEG]. For ids whose placeholders are expanded already, as in
    transformers, give `image_tokens=1`. A [SEG] at position p reads row p + image_tokens - 2. No [SEG], no row.

    >>> states = torch.arange(5.0)[None, :, None]
    >>> seg_states(states, torch.tensor([[1, -200, 9, 7]]), seg_id=7, image_tokens=2).states.tolist()
    [[3.0]]
    """
    conversation, position = (input_ids == seg_id).nonzero(as_tuple=True)
    rows = position + image_tokens - 2
    if bool(((rows < 0) | (rows >= hidden.shape[1])).any()):
        raise InputError(
            f"[SEG] at {position.tolist()} reads rows {rows.tolist()} of {hidden.shape[1]}; expected one picture of "
            f"{image_tokens} tokens before every [SEG], and states of the whole sequence"
        )
    return SegStates(hidden[conversation, rows], conversation)


def picture_of(conversation: Int[Tensor, " r"], offset: Sequence[int]) -> Int[Tensor, " r"]:
    """Return the picture of each [SEG]; `offset` = numbers of conversations of the pictures, cumulated from 0.

    >>> picture_of(torch.tensor([0, 1, 2, 2]), [0, 2, 3]).tolist()
    [0, 0, 1, 1]
    """
    bounds = torch.tensor(list(offset)[1:], device=conversation.device)
    return torch.searchsorted(bounds, conversation, right=True)

"""The row that the language model reads: text, temporal tokens, image tokens, instruction and mask tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leanseg.errors import InputError, unknown_name
from leanseg.models.instructseg.prompt import IMAGE_ID, PLACEHOLDERS, REFER_ID, SEG_ID, TEMPORAL_ID, Prompt
from leanseg.shapes import Bool, Float, Int

PositionIds = Literal["compact", "original"]
POSITION_IDS: tuple[PositionIds, ...] = ("compact", "original")


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """One assembled row of length L; `*_rows` say where the mask, instruction and image tokens stand in it.

    `log_sizes` (K,) is added to the attention logits of the image tokens where pruning preserves their mass (ours).
    `attend` is the release's mask: its padding id equals its end-of-text id, so the last row is False. Nothing that is
    read depends on it, because the model is causal.
    """

    embeds: Float[Tensor, "length d"]
    position_ids: Int[Tensor, " length"]
    seg_rows: Int[Tensor, " q"]
    refer_rows: Int[Tensor, " r"]
    image_rows: Int[Tensor, " k"]
    attend: Bool[Tensor, " length"]
    log_sizes: Float[Tensor, " k"] | None = None


@dataclass(frozen=True, eq=False)
class LanguageStates:
    """What the mask side reads of the language model: mask tokens, projected, and each instruction's tokens."""

    queries: Float[Tensor, "b q c"]
    refer: list[Tensor]
    hidden: Float[Tensor, "b length d"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImagePositions:
    """Where the key frame's tokens stand: kept raster indices of `n_tokens`, or None for all of them in order."""

    mode: str = "compact"
    kept: Int[Tensor, " k"] | None = None
    n_tokens: int | None = None

    def resolve(self, count: int) -> tuple[Int[Tensor, " k"], int]:
        """Return the offsets of `count` image tokens from the first one, and how many positions the image takes."""
        if self.mode not in POSITION_IDS:
            raise InputError(unknown_name("position_ids", self.mode, POSITION_IDS))
        if self.mode == "compact":
            return torch.arange(count), count
        total = count if self.n_tokens is None else self.n_tokens
        kept = torch.arange(count) if self.kept is None and count in (0, total) else self.kept
        if kept is None or len(kept) != count:
            given = "no kept indices" if kept is None else f"{len(kept)} kept indices"
            raise InputError(
                f"{given} for {count} of {total} image tokens; expected one index per token; "
                "give the selection's indices or position_ids='compact'"
            )
        return kept, total


def assemble_sequence(
    prompt: Prompt, parts: dict[int, Tensor], text: Tensor, positions: ImagePositions
) -> TokenSequence:
    """Put `parts` (placeholder id -> rows) and the `text` rows (one per non-placeholder id) in the prompt's order."""
    rows: list[Tensor] = []
    places: list[Tensor] = []
    starts: dict[int, int] = {}
    length = position = text_used = 0
    device = text.device
    for run in _runs(prompt.ids.tolist()):
        if run[0] in parts:
            part = parts[run[0]]
            starts[run[0]] = length
            offsets, taken = (
                positions.resolve(len(part)) if run[0] == IMAGE_ID else (torch.arange(len(part)), len(part))
            )
        else:
            part = text[text_used : text_used + len(run)]
            text_used += len(run)
            offsets, taken = torch.arange(len(part)), len(part)
        rows.append(part.to(text.dtype))
        places.append(position + offsets.to(device))
        length += len(part)
        position += taken
    attend = torch.ones(length, dtype=torch.bool, device=device)
    attend[length - len(prompt.ids) :] = (prompt.ids != prompt.eos_id).to(device)
    where = {key: start + torch.arange(len(parts[key]), device=device) for key, start in starts.items()}
    return TokenSequence(
        embeds=torch.cat(rows),
        position_ids=torch.cat(places),
        seg_rows=where[SEG_ID],
        refer_rows=where[REFER_ID],
        image_rows=where[IMAGE_ID],
        attend=attend,
    )


def pad_sequences(sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the right with zeros: embeds (B,L,D), position ids (B,L) and the release's attention mask (B,L)."""
    embeds = pad_sequence([sequence.embeds for sequence in sequences], batch_first=True)
    position_ids = pad_sequence([sequence.position_ids for sequence in sequences], batch_first=True)
    attend = pad_sequence([sequence.attend for sequence in sequences], batch_first=True)
    return embeds, position_ids, attend


def mass_mask(sequences: Sequence[TokenSequence], dtype: torch.dtype) -> Float[Tensor, "b 1 length length"] | None:
    """Return the additive causal mask with each image token's log size, or None where no sequence has any.

    A kept token that stands for n tokens then draws the attention of n equal ones: exp(logit + log n) = n exp(logit).
    """
    if all(sequence.log_sizes is None for sequence in sequences):
        return None
    longest = max(len(sequence.position_ids) for sequence in sequences)
    device = sequences[0].position_ids.device
    masks = torch.zeros((len(sequences), 1, longest, longest), dtype=dtype, device=device)
    for mask, sequence in zip(masks, sequences, strict=True):
        if sequence.log_sizes is not None:
            mask[..., sequence.image_rows] = sequence.log_sizes.to(dtype)
    later = torch.ones((longest, longest), dtype=torch.bool, device=device).triu(1)
    return masks.masked_fill_(later, torch.finfo(dtype).min)


def _runs(ids: list[int]) -> list[list[int]]:
    """Split ids into runs of text and single placeholders; each of the four placeholders must occur once."""
    for name, placeholder in PLACEHOLDERS.items():
        if ids.count(placeholder) != 1:
            raise InputError(f"the prompt holds {name} {ids.count(placeholder)} times; expected once; use build_prompt")
    runs: list[list[int]] = []
    for index in ids:
        if index >= 0 and runs and runs[-1][0] >= 0:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


__all__ = [
    "IMAGE_ID",
    "POSITION_IDS",
    "REFER_ID",
    "SEG_ID",
    "TEMPORAL_ID",
    "ImagePositions",
    "LanguageStates",
    "PositionIds",
    "TokenSequence",
    "assemble_sequence",
    "mass_mask",
    "pad_sequences",
]

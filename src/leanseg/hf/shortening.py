"""Dropping positions from what enters a language model: embeddings, mask, positions, and whatever runs beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from leanseg.hf.choosing import Chosen
from leanseg.hf.masks import causal, shortened, with_bias
from leanseg.hf.steps import Prefilled
from leanseg.shapes import Bool, Float, Int, Tensor

_BIASED_HERE = ("attention_mask", "position_ids", "inputs_embeds", "deepstack_visual_embeds", "visual_pos_masks")


@dataclass(frozen=True, eq=False)
class Shortening:
    """Which of L columns stay, row by row, padded to the longest row.

    `kept` (B, L'): the columns, -1 = padding. `gone` (B, L): visual columns that were dropped; existing padding is left
    out as well but is not `gone`. `bias` (B, L'): log sizes, or None. `renumber`: compact numbering.
    """

    kept: Int[Tensor, "b after"]
    gone: Bool[Tensor, "b length"]
    embeds: Float[Tensor, "b length d"]
    bias: Float[Tensor, "b after"] | None
    renumber: bool

    @classmethod
    def of(
        cls,
        chosen: Sequence[Chosen],
        embeds: Float[Tensor, "b length d"],
        real: Bool[Tensor, "b length"],
        *,
        renumber: bool,
        mass: bool,
    ) -> Shortening | None:
        """Return None where nothing is dropped or merged: the model then runs exactly as without us."""
        stays = torch.ones_like(real)
        logs = torch.zeros(real.shape, device=real.device)
        merged: list[tuple[int, Tensor, Tensor]] = []
        for one in chosen:
            row, kept = one.item.row, one.kept().to(real.device)
            stays[row, one.stretch] = one.piece.stays(kept)
            logs[row, one.item.columns[kept]] = torch.cat(one.sizes).to(real.device).log()
            first = 0
            for selection, rows in zip(one.item.selections, one.merged, strict=True):
                columns = one.item.columns[first : first + selection.n_tokens]
                first += selection.n_tokens
                if rows is not None:
                    merged.append((row, columns[selection.indices[0]], rows))
        if bool(stays.all()) and not merged:
            return None
        if merged:
            embeds = embeds.clone()
            for row, columns, rows in merged:
                embeds[row, columns] = rows.to(embeds)
        left = bool(real[:, -1].all())
        kept = _columns(stays & real, left)
        bias = _gather(logs, kept) if mass else None
        return cls(kept, ~stays, embeds, bias, renumber)

    @property
    def length(self) -> int:
        """L: positions before."""
        return int(self.gone.shape[1])

    def apply(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Prefilled]:
        """Return the language model's shortened arguments, and what its cached steps must know."""
        given, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
        whole = self._whole_positions(given)
        positions = self._positions(whole)
        gaps = bool((self.kept < 0).any()) or not self.renumber
        new_mask = shortened(mask, self.kept, self.length, explicit=gaps)
        real = self.kept >= 0
        if self.bias is not None:
            square = new_mask if isinstance(new_mask, Tensor) and new_mask.ndim == 4 else causal(real, real.shape[1])
            new_mask = with_bias(square, self.bias, self.embeds.dtype)
        new = {
            **{name: self._beside(name, value) for name, value in kwargs.items()},
            "inputs_embeds": _gather(self.embeds, self.kept),
            "attention_mask": new_mask,
            "position_ids": positions,
        }
        if kwargs.get("deepstack_visual_embeds") is not None:
            stays = ~self.gone[kwargs["visual_pos_masks"].to(self.gone.device)]
            new["deepstack_visual_embeds"] = [rows[stays.to(rows.device)] for rows in kwargs["deepstack_visual_embeds"]]
        lost = self.gone.sum(dim=1) if self.renumber else torch.zeros_like(self.gone[:, 0], dtype=torch.long)
        return new, Prefilled(self.length, real, lost, self._last(whole), self.bias, self.embeds.dtype)

    def _whole_positions(self, given: Tensor | None) -> Tensor:
        """The positions of all L columns, (B, L) or (axes, B, L), as the model would number them."""
        batch = len(self.gone)
        if given is None:
            return torch.arange(self.length, device=self.gone.device).expand(batch, -1)
        return given.expand(*given.shape[:-2], batch, -1)

    def _positions(self, whole: Tensor) -> Tensor:
        if self.renumber:
            whole = whole - self.gone.long().cumsum(dim=1).to(whole.device)
        index = self.kept.clamp(min=0).to(whole.device)
        taken = whole.gather(-1, index.expand(*whole.shape[:-1], -1))
        return taken.masked_fill((self.kept < 0).to(taken.device), 0)

    def _last(self, whole: Tensor) -> Tensor:
        """The highest position of each row; the text axis of Qwen's four is left out, as the model itself does."""
        if whole.ndim == 2:
            return whole.amax(dim=1)[None]
        axes = whole[-3:]
        return axes.amax(dim=(0, 2)).expand(len(axes), -1)

    def _beside(self, name: str, value: Any) -> Any:
        """Shorten any other tensor that runs along batch and length."""
        if name == "cache_position" and isinstance(value, Tensor):
            return value[: self.kept.shape[1]]
        runs_along = isinstance(value, Tensor) and value.shape[:2] == self.gone.shape
        if name == "visual_pos_masks" or (runs_along and name not in _BIASED_HERE):
            return None if value is None else _gather(value, self.kept)
        return value


def _columns(stays: Bool[Tensor, "b length"], left: bool) -> Int[Tensor, "b after"]:
    """Return the columns that stay, ascending, with -1 on the left or right of shorter rows."""
    counts = stays.sum(dim=1)
    longest = int(counts.max())
    first = (~stays).long().argsort(dim=1, stable=True)[:, :longest]
    place = torch.arange(longest, device=stays.device).expand(len(stays), -1)
    if not left:
        return torch.where(place < counts[:, None], first, -1)
    place = place - (longest - counts)[:, None]
    return torch.where(place >= 0, first.gather(1, place.clamp(min=0)), -1)


def _gather(values: Tensor, kept: Tensor) -> Tensor:
    index = kept.clamp(min=0).to(values.device).reshape(*kept.shape, *(1,) * (values.ndim - 2))
    taken = values.gather(1, index.expand(*kept.shape, *values.shape[2:]))
    padding = (kept < 0).to(values.device).reshape(index.shape).expand_as(taken)
    return taken.masked_fill(padding, 0)

"""Cached decoding after a pruned prefill: the same columns are missing from the mask, and positions go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from leanseg.errors import AttachError
from leanseg.hf.masks import causal, with_bias
from leanseg.shapes import Bool, Float, Int, Tensor

_NEW_TURN = "A further turn with a kept cache is not possible: begin it without the cache"


@dataclass(frozen=True, eq=False)
class Prefilled:
    """What a cache holds after a pruned prefill of `length` positions.

    `real` (B, L'): which cached columns are no padding. `dropped` (B,): how many positions each row lost, as far as
    numbering goes: 0 with original positions. `last` (axes, B): the unpruned sequence's highest position. `bias`
    (B, L'): log sizes, or None. `dtype`: of the embeddings.
    """

    length: int
    real: Bool[Tensor, "b after"]
    dropped: Int[Tensor, " b"]
    last: Int[Tensor, "axes b"]
    bias: Float[Tensor, "b after"] | None
    dtype: torch.dtype

    def step(self, kwargs: dict[str, Any], cached: int) -> dict[str, Any]:
        """Return the outer model's arguments for one or more new tokens, made to fit the pruned cache."""
        given = kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if given is None else given
        if given is None:
            raise AttachError("a cached step has neither input_ids nor inputs_embeds")
        batch, n_new = given.shape[:2]
        if batch != len(self.real) or cached < self.real.shape[1]:
            raise AttachError(
                f"the cache holds {len(self.real)} rows of {self.real.shape[1]} positions pruned, the step has "
                f"{batch} rows and the cache {cached} positions; keep a pruned cache's rows and prefix as they are"
            )
        n_since = cached - self.real.shape[1]
        return {
            **kwargs,
            "attention_mask": self._mask(kwargs.get("attention_mask"), n_since + n_new, n_new),
            "position_ids": self._positions(kwargs.get("position_ids"), n_since, n_new),
        }

    def _mask(self, mask: Any, n_tail: int, n_new: int) -> Tensor | None:
        real = self.real
        if mask is None:
            tail = real.new_ones((len(real), n_tail))
        elif not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] != self.length + n_tail:
            shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise AttachError(
                f"the attention mask of a cached step is {shape}; expected ({len(real)}, {self.length + n_tail}): the "
                f"{self.length} positions before pruning and {n_tail} since. {_NEW_TURN}"
            )
        else:
            tail = mask[:, self.length :].bool().to(real.device)
        whole = torch.cat([real, tail], dim=1)
        if self.bias is not None:
            return with_bias(causal(whole, n_new), self.bias, self.dtype)
        return None if mask is None and bool(whole.all()) else whole.long()

    def _positions(self, given: Tensor | None, n_since: int, n_new: int) -> Tensor:
        new = torch.arange(1 + n_since, 1 + n_since + n_new, device=self.last.device)
        expected = self.last[:, :, None] + new
        positions = (expected[0] if len(self.last) == 1 else expected) if given is None else given[..., -n_new:]
        if positions.ndim == 2:
            positions = positions.expand(len(self.real), -1)
        # Single steps are not compared, which would wait for the device; what is cut wrongly is two tokens at least.
        last_axis = positions if positions.ndim == 2 else positions[-1]
        if n_new > 1 and not torch.equal(last_axis.to(expected.device), expected[-1]):
            raise AttachError(
                f"the {n_new} tokens of a cached step are at positions {last_axis[0].tolist()}; expected "
                f"{expected[-1, 0].tolist()}, the next ones of the unpruned sequence. {_NEW_TURN}"
            )
        return positions - self.dropped[:, None].to(positions.device)

"""Encoders whose choice no instruction steers: they run once per picture, whatever is asked of it.

They are called as `StagedEncoder` is. Frozen tokens are absent to the others, and windows stay SAM's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, final

from torch import Tensor

from leanseg.core import Selection
from leanseg.errors import InputError, SpecError, unknown_name
from leanseg.models.vltp.staged_encoder import SEVERAL, EncoderState, StagedOutput, owners
from leanseg.shapes import Bool, Float, Int

Output = TypeVar("Output", bound=StagedOutput)


@dataclass(frozen=True, eq=False)
class Encoded(EncoderState):
    """Pictures that are answered already; `tokens` (B, h, w, D) are those that entered the neck."""

    output: StagedOutput


class UnguidedEncoder(ABC):
    """An encoder that chooses by the picture alone. To write one: `run`."""

    @abstractmethod
    def run(self, pixels: Float[Tensor, "b 3 ph pw"]) -> Encoded:
        """Return the answer for each picture."""

    @final
    def __call__(
        self,
        pixels: Tensor,
        guidance: Tensor | None = None,
        *,
        owner: Int[Tensor, " rows"] | None = None,
        several: str = "per_prompt",
    ) -> StagedOutput:
        """Run `prefix` and `rest`."""
        return self.rest(self.prefix(pixels), guidance, owner=owner, several=several)

    @final
    def prefix(self, pixels: Tensor) -> Encoded:
        """Run what every instruction shares, which is everything."""
        return self.run(pixels)

    @final
    def rest(
        self,
        state: EncoderState,
        guidance: Float[Tensor, "r g"] | None = None,
        *,
        owner: Int[Tensor, " rows"] | None = None,
        several: str = "per_prompt",
    ) -> StagedOutput:
        """Return the answer of each row's picture; guidance only counts the rows, see `StagedEncoder.rest`."""
        if several not in SEVERAL:
            raise SpecError(unknown_name("mode for several [SEG]", str(several), SEVERAL))
        if not isinstance(state, Encoded):
            raise InputError(
                f"rest got {type(state).__name__} of another encoder; expected what this encoder's prefix returned"
            )
        if guidance is None:
            return state.output
        rows = owners(guidance.to(state.tokens.device), owner, state.tokens.shape[0])
        if not len(rows):
            return StagedOutput(state.output.embeddings[:0], (), ())
        return state.output if several == "union" else of_rows(state.output, rows)


def of_rows(output: Output, rows: Int[Tensor, " r"]) -> Output:
    """Return an output whose every field holds the given rows."""

    def taken(value: Any) -> Any:
        if isinstance(value, Selection):
            return Selection.stack([value.row(row) for row in rows.tolist()])
        if isinstance(value, tuple):
            return tuple(taken(each) for each in value)
        return value[rows] if isinstance(value, Tensor) else value

    return replace(output, **{each.name: taken(getattr(output, each.name)) for each in fields(output)})


def selections(kept: Sequence[Bool[Tensor, "b n"]]) -> tuple[Selection, ...]:
    """Return masks as selections; none where the pictures of a batch keep different numbers, which one never does."""
    if any(len(mask.sum(dim=1).unique()) > 1 for mask in kept):
        return ()
    return tuple(Selection(mask.nonzero()[:, 1].view(mask.shape[0], -1), mask.shape[1]) for mask in kept)

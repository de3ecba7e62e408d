"""What `attach` did in the last pruned pass: which tokens stayed, and where every position went."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from leanseg.core import Grid, Selection
from leanseg.errors import AttachError
from leanseg.pruners import Pruner
from leanseg.shapes import Int, Shaped, Tensor


@dataclass(frozen=True, eq=False)
class Item:
    """A picture, a clip or a mosaic of tiles, in order of appearance.

    `row`: of the batch. `columns`: where its tokens stood in the unpruned sequence, raster order, frame by frame.
    `selections`: one per frame, a batch of one each, on `grid`; or a single one over all frames of `grid`, from a
    method that takes a clip as one joint row.
    """

    kind: str
    row: int
    grid: Grid
    columns: Int[Tensor, " n"]
    selections: tuple[Selection, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens before."""
        return len(self.columns)

    @property
    def n_kept(self) -> int:
        """Tokens that stayed."""
        return sum(selection.k for selection in self.selections)


@dataclass(eq=False)
class Trace:
    """The last pruned pass; `attach` yields it and fills it anew in every pass that holds pictures.

    `kept` (B, L'): for each position of the pruned sequence its column in the unpruned one, -1 where it is padding;
    None before the first pass. `length_before`, `length_after`: L and L'. `selection_ms`: wall time of choosing, a
    partial pass of the language model included where the method needs one. `n_passes`: pruned passes so far.
    """

    pruner: Pruner
    positions: str
    site: str
    items: list[Item] = field(default_factory=list)
    kept: Int[Tensor, "b after"] | None = None
    length_before: int = 0
    length_after: int = 0
    selection_ms: float = 0.0
    n_passes: int = 0

    @property
    def selections(self) -> list[Selection]:
        """Every selection of the pass, item by item."""
        return [selection for item in self.items for selection in item.selections]

    @property
    def n_tokens(self) -> int:
        """Visual tokens of the whole batch before."""
        return sum(item.n_tokens for item in self.items)

    @property
    def n_kept(self) -> int:
        """Visual tokens of the whole batch that stayed."""
        return sum(item.n_kept for item in self.items)

    def gather(self, values: Shaped[Tensor, " b *before"], fill: float = -100) -> Shaped[Tensor, " b *after"]:
        """Bring per-position values (B, L, ...), labels for example, to the pruned length L'; padding gets `fill`."""
        if self.kept is None:
            raise AttachError("nothing was pruned yet; run the model inside the `with` first")
        if values.shape[:2] != (len(self.kept), self.length_before):
            raise AttachError(
                f"the values have shape {tuple(values.shape)}; expected ({len(self.kept)}, {self.length_before}, ...), "
                "one per position of the unpruned sequence"
            )
        kept = self.kept.to(values.device)
        index = kept.clamp(min=0).reshape(*kept.shape, *(1,) * (values.ndim - 2))
        taken = values.gather(1, index.expand(*kept.shape, *values.shape[2:]))
        padding = (kept < 0).reshape(index.shape).expand_as(taken)
        return torch.where(padding, torch.full_like(taken, fill), taken)

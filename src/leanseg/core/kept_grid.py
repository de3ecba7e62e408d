"""The places of tokens that an earlier selection left: they have coordinates, but fill no raster any more."""

from dataclasses import dataclass

import torch

from leanseg.core.tokens import Grid
from leanseg.errors import TokensError
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True)
class KeptGrid(Grid):
    """Some tokens of a grid, `kept` by their indices, at the places and times they had on the whole of it.

    Methods that read coordinates work as ever; those that need a full raster ask for `frame`, and are told that there
    is none.

    >>> KeptGrid(2, 3, kept=(0, 5)).coords.tolist(), KeptGrid(2, 3, kept=(0, 5)).n_tokens
    ([[0.0, 0.0], [1.0, 1.0]], 2)
    """

    # Checked by the grid itself; run-time shape checks would speak first.
    __no_type_check__ = True

    kept: tuple[int, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens that are left."""
        return len(self.kept)

    @property
    def frame(self) -> Grid:
        """Not to be had: what is left of a frame is no grid."""
        raise TokensError(
            f"these are {self.n_tokens} tokens that are left of a grid of {self.frames} x {self.height} x "
            f"{self.width}, and this method needs the whole grid; let it choose first, or alone"
        )

    def coordinates(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Float[Tensor, "n 2"]:
        """Return the position (y, x) of each token that is left, in [0, 1] of the whole grid."""
        return Grid.coordinates(self, dtype, device)[torch.tensor(self.kept, device=device)]

    def times(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Float[Tensor, " n"]:
        """Return the time of each token that is left, in [0, 1] of the whole clip."""
        return Grid.times(self, dtype, device)[torch.tensor(self.kept, device=device)]

"""How the visual positions of a row fall into pictures, clips and tiles, each on its grid: a rule per kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from leanseg.core import Grid
from leanseg.errors import AttachError
from leanseg.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Piece:
    """A stretch of visual positions with one grid: a picture, a clip of `grid.frames` frames, or a mosaic of tiles.

    `row_breaks`: one learned separator follows each grid row; it stays while its row keeps a token. `end_breaks`: so
    many separators follow at the end; they always stay.
    """

    grid: Grid
    row_breaks: bool = False
    end_breaks: int = 0

    @property
    def length(self) -> int:
        """Positions of the whole stretch, separators included."""
        rows = self.grid.frames * self.grid.height
        return rows * (self.grid.width + int(self.row_breaks)) + self.end_breaks

    def tokens(self) -> Int[Tensor, " n"]:
        """Where the grid's tokens lie in the stretch, in raster order."""
        rows = torch.arange(self.grid.frames * self.grid.height)[:, None]
        return (rows * (self.grid.width + int(self.row_breaks)) + torch.arange(self.grid.width)).flatten()

    def stays(self, kept: Bool[Tensor, " n"]) -> Bool[Tensor, " length"]:
        """Return which positions of the stretch stay when the tokens `kept` do."""
        rows = kept.reshape(-1, self.grid.width)
        if self.row_breaks:
            rows = torch.cat([rows, rows.any(dim=1, keepdim=True)], dim=1)
        return torch.cat([rows.flatten(), kept.new_ones(self.end_breaks)])


@dataclass(frozen=True)
class Row:
    """What a rule may look at: the model, one row's visual `embeds` in order, and the grids recorded at the tower."""

    base: Any
    embeds: Float[Tensor, "n d"]
    grids: Sequence[Grid] | None = None


Rule = Callable[[Row], list[Piece]]
GridReader = Callable[[Any, Mapping[str, Any]], list[Grid] | None]


def square(shrink: Callable[[Any], int] = lambda config: 1) -> Rule:
    """Pictures of one size: image size / patch size / `shrink(config)` tokens each way."""

    def rule(row: Row) -> list[Piece]:
        grid = tower_grid(row.base.config, shrink)
        count, rest = divmod(len(row.embeds), grid.n_tokens)
        if rest:
            raise AttachError(
                f"{len(row.embeds)} visual positions are no multiple of {grid.height} x {grid.width} tokens, the "
                "picture size of this model; a class token among them (vision_feature_select_strategy='full'), another "
                "picture size, or a prompt in chunks (prefill_chunk_size) cannot be pruned"
            )
        return [Piece(grid)] * count

    return rule


def tower_grid(config: Any, shrink: Callable[[Any], int]) -> Grid:
    """Return the grid of one picture from the configuration alone."""
    vision, factor = config.vision_config, shrink(config)
    (height, width), (patch_height, patch_width) = _pair(vision.image_size), _pair(vision.patch_size)
    return Grid(height // patch_height // factor, width // patch_width // factor)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, list | tuple) else (value, value)


def recorded(row: Row) -> list[Piece]:
    """Pictures and clips of any size, as the vision tower was told."""
    if row.grids is None:
        raise AttachError(
            "the sizes of these pictures are unknown, because the vision tower did not run inside the `with`; give "
            "pixel values instead of features made elsewhere"
        )
    return [Piece(grid) for grid in row.grids]


def square_or_recorded(row: Row) -> list[Piece]:
    """LLaVA's pictures: of one size, unless its tower is Pixtral's, which takes any."""
    return recorded(row) if row.base.config.vision_config.model_type == "pixtral" else square()(row)


def tiles(row: Row) -> list[Piece]:
    """LLaVA-NeXT's pictures: the whole one on a square grid, then a mosaic of tiles, a newline behind each row.

    The mosaic's size is read off the places of the newline, which is one learned vector.
    """
    newline = row.base.image_newline.to(row.embeds)
    is_newline = (row.embeds == newline).all(dim=1).tolist()
    whole = tower_grid(row.base.config, lambda config: 1)
    pieces, place, end = [], 0, len(is_newline)
    while place < end:
        place += whole.n_tokens
        if place < end and is_newline[place]:
            pieces.append(Piece(whole, end_breaks=1))
            place += 1
            continue
        pieces.append(Piece(whole))
        width = is_newline.index(True, place) - place if True in is_newline[place:] else 0
        height = 0
        while width and place + width < end and is_newline[place + width] and True not in is_newline[place:][:width]:
            height, place = height + 1, place + width + 1
        if not height:
            raise AttachError("the newlines between this picture's tiles cannot be found; its tiles cannot be told")
        pieces.append(Piece(Grid(height, width), row_breaks=True))
    return pieces


def pooled_frames(stride: Callable[[Any], float], end_breaks: int, round_up: bool) -> Rule:
    """One clip per row, its frames pooled by `stride` each way, with `end_breaks` separators at its end."""

    def rule(row: Row) -> list[Piece]:
        whole = tower_grid(row.base.config, lambda config: 1)
        step = int(stride(row.base.config))
        add = step - 1 if round_up else 0
        frame = Grid((whole.height + add) // step, (whole.width + add) // step)
        frames, rest = divmod(len(row.embeds) - end_breaks, frame.n_tokens)
        if rest or not frames:
            raise AttachError(
                f"{len(row.embeds)} video positions in a row are not {end_breaks} more than a multiple of "
                f"{frame.height} x {frame.width}; expected one clip per row"
            )
        return [Piece(Grid(frame.height, frame.width, frames=frames), end_breaks=end_breaks)]

    return rule


def thw_grids(base: Any, call: Mapping[str, Any]) -> list[Grid]:
    """Read Qwen's `grid_thw` (frames, height, width in patches) of a call of its vision tower."""
    merge = base.config.vision_config.spatial_merge_size
    return [Grid(h // merge, w // merge, frames=t) for t, h, w in call["grid_thw"].tolist()]


def pixtral_grids(base: Any, call: Mapping[str, Any]) -> list[Grid] | None:
    """Read Pixtral's `image_sizes` (height, width in pixels) of a call of its vision tower; None for other towers."""
    if base.config.vision_config.model_type != "pixtral":
        return None
    cell = base.config.vision_config.patch_size * getattr(base.config, "spatial_merge_size", 1)
    return [Grid(int(h) // cell, int(w) // cell) for h, w in torch.as_tensor(call["image_sizes"]).tolist()]


def items_by_row(counts: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Share items (pictures in the order of encoding) among rows, by the number of positions that each row has.

    Beam search repeats every row after its pictures were encoded: then `counts` sum to a multiple of `lengths`, and the
    repeats of a row share its items.
    """
    total, known = sum(counts), sum(lengths)
    repeats = total // known if known else 0
    mistaken = AttachError(
        f"the rows hold {list(counts)} visual positions, the pictures encoded last make {list(lengths)}; encode the "
        "pictures of a call inside the same `with`, in the order of their placeholders"
    )
    if not repeats or total % known or len(counts) % repeats:
        raise mistaken
    shared: list[list[int]] = []
    item = 0
    for first in range(0, len(counts), repeats):
        mine, left = [], counts[first]
        while left > 0 and item < len(lengths):
            mine.append(item)
            left -= lengths[item]
            item += 1
        if left or any(count != counts[first] for count in counts[first : first + repeats]):
            raise mistaken
        shared += [mine] * repeats
    return shared

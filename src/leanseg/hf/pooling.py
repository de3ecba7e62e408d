"""From what a layer of the vision tower saw, token by token, to one value per visual token of the language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from leanseg.core import Grid
from leanseg.errors import AttachError
from leanseg.shapes import Tensor

# (base, what each call of the layer saw (b, n, *rest), the tower's arguments, grids or None) -> one (n, *rest) per item
CuePooling = Callable[[Any, Sequence[Tensor], Mapping[str, Any], Sequence[Grid] | None], list[Tensor]]


def blocks(shrink: Callable[[Any], int]) -> CuePooling:
    """For towers that run pictures as a batch: class tokens cut off, `shrink` x `shrink` neighbours averaged."""

    def pool(base: Any, seen: Sequence[Tensor], call: Mapping[str, Any], grids: Sequence[Grid] | None) -> list[Tensor]:
        from leanseg.hf.pieces import tower_grid

        whole = tower_grid(base.config, lambda config: 1)
        step = shrink(base.config)
        items = []
        for picture in torch.cat(list(seen)):
            n_prefix = len(picture) - whole.n_tokens
            if n_prefix < 0:
                raise AttachError(f"the vision layer saw {len(picture)} tokens; expected {whole.n_tokens} at least")
            raster = picture[n_prefix:].reshape(whole.height, whole.width, -1)
            height, width = whole.height // step, whole.width // step
            cells = raster[: height * step, : width * step].reshape(height, step, width, step, -1)
            mean = cells.mean(dim=(1, 3)).flatten(0, 1)
            items.append(mean.squeeze(1) if picture.ndim == 1 else mean)
        return items

    return pool


def merged_units(
    base: Any, seen: Sequence[Tensor], call: Mapping[str, Any], grids: Sequence[Grid] | None
) -> list[Tensor]:
    """For Qwen's towers: one long sequence, whose merge groups are neighbours in it; averaged over each group."""
    merge = base.config.vision_config.spatial_merge_size**2
    sequence = torch.cat([part.squeeze(0) for part in seen])
    units = sequence.reshape(-1, merge, *sequence.shape[1:]).mean(dim=1)
    if getattr(base.config.vision_config, "window_size", None):
        units = _out_of_windows(base, units, call)
    return list(units.split([grid.n_tokens for grid in grids or ()]))


def _out_of_windows(base: Any, units: Tensor, call: Mapping[str, Any]) -> Tensor:
    """Undo the order of Qwen2.5-VL's tower, which puts the groups of a window together."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as family

    vision = base.config.vision_config
    order, _ = family.get_vision_window_index(
        call["grid_thw"],
        spatial_merge_size=vision.spatial_merge_size,
        window_size=vision.window_size,
        patch_size=vision.patch_size,
    )
    return units[order.to(units.device).argsort()]

"""True masks beside the instructions of `leanseg segment`: read, checked, and told as the tokens in which they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanseg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from leanseg.engine.video import ClipInfo

_NO_STAGES = "the tokens of a mask are outlined on the panels of stages, and {} has none; give a VLTP model with "
_NO_STAGES += "stages, such as --model vltp-nano, or leave --truth out"


def read_truths(paths: Sequence[Path], n_instructions: int, info: ClipInfo) -> tuple[NDArray[np.bool_], ...]:
    """Return a mask (H, W) of the picture's size for each instruction, or none at all.

    Raises:
        InputError: a clip, another number of masks, a file that is no mask, or one of another size.
    """
    if not paths:
        return ()
    if not info.is_picture:
        raise InputError(
            "--truth is the mask of a picture, and the source is a clip; give one frame of it as a picture"
        )
    if len(paths) != n_instructions:
        raise InputError(
            f"--truth is given {len(paths)} times for {n_instructions} instructions; expected a mask for each, in order"
        )
    from leanseg.engine.images import read_mask

    masks = tuple(read_mask(path) for path in paths)
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != (info.height, info.width):
            raise InputError(
                f"the mask {path} has {mask.shape[0]} x {mask.shape[1]} pixels, the picture {info.height} x "
                f"{info.width}; expected the same: give the mask of this picture"
            )
    return masks


def check_has_stages(model: str, has_stages: bool) -> None:
    """Refuse true masks for a model whose overlay has no panels of stages."""
    if not has_stages:
        raise InputError(_NO_STAGES.format(model))


def label_tokens(mask: NDArray[np.bool_], config: Any) -> list[int]:
    """Return the tokens in which a mask (H, W) lies (VLTP's Eq. 13) under a VLTP model's configuration."""
    import torch

    from leanseg.models.vltp.losses import patch_labels

    (labels,) = patch_labels(torch.from_numpy(mask)[None], size=config.sam.image_size, patch=config.sam.patch_size)
    return labels.nonzero().flatten().tolist()

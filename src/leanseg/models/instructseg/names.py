"""The map between this package's parameter names and the released ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from leanseg.models.instructseg.swin import from_released as swin_from_released
from leanseg.models.instructseg.swin import to_released as swin_to_released

LM_HEAD = "lm_head.weight"
SWIN = "vision_tower_mask."
# Released prefix, ours; the first that fits wins, all other names are the same in both.
_PREFIXES = (
    ("model.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.", "mm_projector."),
    (f"model.{SWIN}", SWIN),
    ("model.", "language_model."),
)


def from_released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename released tensors to this package's names; Swin's joint qkv is split, its position indices are dropped."""
    renamed = {_replace(name, forward=True): tensor for name, tensor in tensors.items()}
    inner = {name.removeprefix(SWIN): tensor for name, tensor in renamed.items() if name.startswith(SWIN)}
    rest = {name: tensor for name, tensor in renamed.items() if not name.startswith(SWIN)}
    return rest | {SWIN + name: tensor for name, tensor in swin_from_released(inner).items()}


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a model's state dict to the released names; the inverse of `from_released`, position indices recreated."""
    inner = {name.removeprefix(SWIN): tensor for name, tensor in state.items() if name.startswith(SWIN)}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(SWIN)}
    joined = rest | {SWIN + name: tensor for name, tensor in swin_to_released(inner).items()}
    return {_replace(name, forward=False): tensor for name, tensor in joined.items()}


def _replace(name: str, *, forward: bool) -> str:
    for released, ours in _PREFIXES:
        old, new = (released, ours) if forward else (ours, released)
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name

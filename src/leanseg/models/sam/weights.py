"""SAM's weights from files: the released .pth, safetensors, and what is inside a LISA or VLTP checkpoint.

Nothing is allocated that names and shapes do not justify: only what has the model's own shapes is copied.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from leanseg.errors import WeightsError
from leanseg.models.devices import resolve_device
from leanseg.models.sam.config import SIZES, SamConfig
from leanseg.models.sam.model import Sam
from leanseg.models.weight_files import WeightFiles, open_weights

logger = logging.getLogger(__name__)

_MARK = "image_encoder.pos_embed"


def load_sam(
    path: str | Path,
    config: SamConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Sam:
    """Load SAM from a file (.pth, .pt, .bin, .safetensors) or a folder of safetensors, ready for inference.

    `config`: None = the released size that the tensors have. The weights may lie below a prefix
    (`model.visual_model.` of LISA); other tensors are left alone. Missing tensors are one error that names all of them.
    """
    target, content = resolve_device(device), open_weights(path)
    prefix = _prefix(content)
    shapes = {name.removeprefix(prefix): shape for name, shape in content.shapes.items() if name.startswith(prefix)}
    sizes = config or released_size(shapes, content.path)
    with torch.device("meta"):
        model = Sam(sizes)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check(shapes, expected, content.path)
    tensors = dict(content.read([prefix + name for name in expected], target))
    strange = sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point())
    if strange:
        raise WeightsError(
            f"{content.path} stores {', '.join(strange)} as whole numbers; expected floating point; fetch it again"
        )
    state = {name.removeprefix(prefix): tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _prefix(content: WeightFiles) -> str:
    found = sorted(name.removesuffix(_MARK) for name in content.shapes if name.endswith(_MARK))
    if len(found) != 1:
        raise WeightsError(
            f"{content.path} holds {len(found)} tensors named {_MARK}; expected one SAM; take sam_vit_*.pth, or a "
            "checkpoint with a SAM inside"
        )
    return found[0]


def released_size(shapes: Mapping[str, tuple[int, ...]], path: Path) -> SamConfig:
    """Return the released size of tensors, told by the image encoder's width."""
    width = shapes[_MARK][-1] if shapes[_MARK] else 0
    for config in SIZES.values():
        if config.width == width:
            return config
    widths = ", ".join(f"{name}: {config.width}" for name, config in SIZES.items())
    raise WeightsError(
        f"{path} holds an image encoder {width} wide; expected a released size ({widths}); give its SamConfig"
    )


def _check(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    missing = sorted(expected.keys() - shapes.keys())
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} of {len(expected)} tensors; expected a whole SAM; fetch the file again. "
            f"Missing: {', '.join(missing)}"
        )
    wrong = [
        f"{name} {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if shapes[name] != shape
    ]
    if wrong:
        raise WeightsError(
            f"{path} has {len(wrong)} tensors of another shape than the configuration says; give the one of these "
            f"weights: {'; '.join(wrong)}"
        )
    parts = tuple(f"{part}." for part in ("image_encoder", "prompt_encoder", "mask_decoder"))
    unused = sorted(name for name in shapes.keys() - expected.keys() if name.startswith(parts))
    if unused:
        logger.warning("%s holds %d tensors that are not used: %s", path, len(unused), ", ".join(unused))

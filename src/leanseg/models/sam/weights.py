"""SAM's weights from files: the released .pth, safetensors, and what is inside a LISA or VLTP checkpoint.

Nothing of a file is run and nothing is allocated that its names and shapes do not justify: a .pth is read by torch's
reader of plain weights, mapped and not loaded, and only what has the model's own shapes is copied.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from leanseg.errors import WeightsError
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg import files
from leanseg.models.sam.config import SIZES, SamConfig
from leanseg.models.sam.model import Sam

logger = logging.getLogger(__name__)

TORCH_ENDINGS = (".pth", ".pt", ".bin")
_MARK = "image_encoder.pos_embed"


@dataclass(frozen=True)
class _Content:
    """A file's tensors by their names in it, not yet loaded."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    mapped: Mapping[str, Tensor] | None = None

    def read(self, names: Iterable[str], device: torch.device) -> dict[str, Tensor]:
        """Return copies of the named tensors, so that no parameter stays a window into a file."""
        chosen = list(names)
        if self.mapped is not None:
            return {name: self.mapped[name].detach().to(device, copy=True).contiguous() for name in chosen}
        stored = files.stored_tensors(self.path) if self.path.is_dir() else files.tensors_of_file(self.path)
        found = files.read_tensors({name: stored[name] for name in chosen}, device)
        return {name: tensor.clone() for name, tensor in found}


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
    target, content = resolve_device(device), _open(Path(path))
    prefix = _prefix(content)
    shapes = {name.removeprefix(prefix): shape for name, shape in content.shapes.items() if name.startswith(prefix)}
    sizes = config or _released_size(shapes, content.path)
    with torch.device("meta"):
        model = Sam(sizes)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check(shapes, expected, content.path)
    tensors = content.read([prefix + name for name in expected], target)
    strange = sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point())
    if strange:
        raise WeightsError(
            f"{content.path} stores {', '.join(strange)} as whole numbers; expected floating point; fetch it again"
        )
    state = {name.removeprefix(prefix): tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _open(path: Path) -> _Content:
    if path.is_dir():
        return _Content(path, {name: tensor.shape for name, tensor in files.stored_tensors(path).items()})
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; expected SAM's weights (.pth or .safetensors); check the path")
    if path.suffix == ".safetensors":
        return _Content(path, {name: tensor.shape for name, tensor in files.tensors_of_file(path).items()})
    if path.suffix not in TORCH_ENDINGS:
        raise WeightsError(
            f"{path} ends with {path.suffix or 'nothing'}; expected {', '.join(TORCH_ENDINGS)} or .safetensors"
        )
    tensors = _mapped(path)
    return _Content(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors)


def _mapped(path: Path) -> dict[str, Tensor]:
    """Map a file of `torch.save` into memory: plain tensors by name, whatever else is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is no whole file of torch.save ({type(error).__name__}); expected its zip format; fetch it "
            "again, or save it anew with a current torch"
        ) from error
    if not is_plain:
        raise WeightsError(f"{path} holds compressed entries, which torch.save never writes; fetch the file again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than weights, and running it could do anything; expected tensors by name; take the "
            "release, or convert it to safetensors"
        ) from error
    except Exception as error:  # whatever torch's reader raises for a damaged archive
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}: {reason}); expected a file of torch.save; fetch it again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise WeightsError(f"{path} holds a {type(content).__name__}; expected tensors by name; take the release")
    strange = sorted(name for name, value in content.items() if not _is_plain(value))
    if strange:
        raise WeightsError(
            f"{path} holds {len(strange)} entries that are no plain tensors ({', '.join(strange[:5])}); expected "
            "tensors by name; take the release"
        )
    return content


def _is_plain(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not value.is_quantized and value.device.type == "cpu"


def _prefix(content: _Content) -> str:
    found = sorted(name.removesuffix(_MARK) for name in content.shapes if name.endswith(_MARK))
    if len(found) != 1:
        raise WeightsError(
            f"{content.path} holds {len(found)} tensors named {_MARK}; expected one SAM; take sam_vit_*.pth, or a "
            "checkpoint with a SAM inside"
        )
    return found[0]


def _released_size(shapes: Mapping[str, tuple[int, ...]], path: Path) -> SamConfig:
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

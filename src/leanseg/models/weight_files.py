"""Weights in files of others: safetensors, and torch.save's archives, whole or in parts. Nothing of a file is run.

An archive is read by torch's reader of plain weights, and mapped: shapes are known before anything is copied.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from leanseg.errors import WeightsError
from leanseg.models.instructseg import files

TORCH_ENDINGS = (".pth", ".pt", ".bin")
TORCH_FILE, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# Tied weights are stored once and copied under each of their names; a few names each is far more than any release has.
MOST_COPIES = 4


@dataclass(frozen=True)
class WeightFiles:
    """Tensors by their names in a file or folder, not yet loaded."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    mapped: Mapping[str, Tensor] | None = None

    def read(self, names: Iterable[str], device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Yield copies of the named tensors, so that no parameter stays a window into a file."""
        chosen = list(names)
        if self.mapped is not None:
            for name in chosen:
                yield name, self.mapped[name].detach().to(device, copy=True).contiguous()
            return
        stored = files.stored_tensors(self.path) if self.path.is_dir() else files.tensors_of_file(self.path)
        for name, tensor in files.read_tensors({name: stored[name] for name in chosen}, device):
            yield name, tensor.clone()


def open_weights(path: str | Path) -> WeightFiles:
    """Open a file (.pth, .pt, .bin, .safetensors), or a folder of safetensors or of pytorch_model.bin and its parts."""
    path = Path(path)
    if path.is_dir():
        parts = _torch_parts(path)
        if parts:
            return _of_archives(path, parts)
        return WeightFiles(path, {name: tensor.shape for name, tensor in files.stored_tensors(path).items()})
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; expected weights (.pth or .safetensors); check the path")
    if path.suffix == ".safetensors":
        return WeightFiles(path, {name: tensor.shape for name, tensor in files.tensors_of_file(path).items()})
    if path.suffix not in TORCH_ENDINGS:
        raise WeightsError(
            f"{path} ends with {path.suffix or 'nothing'}; expected {', '.join(TORCH_ENDINGS)} or .safetensors"
        )
    return _of_archives(path, [path])


def _of_archives(path: Path, parts: Iterable[Path]) -> WeightFiles:
    tensors: dict[str, Tensor] = {}
    for part in parts:
        tensors |= _mapped(part)
    return WeightFiles(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors)


def _torch_parts(folder: Path) -> list[Path]:
    """Return the archives of a folder that holds no safetensors."""
    if (folder / files.WEIGHTS_FILE).is_file() or (folder / files.INDEX_FILE).is_file():
        return []
    if (folder / TORCH_INDEX).is_file():
        return files.indexed_files(folder / TORCH_INDEX, ".bin")
    return [folder / TORCH_FILE] if (folder / TORCH_FILE).is_file() else []


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
    _check_memory(content, path)
    return content


def _check_memory(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse shapes that the file has no numbers for: an archive may repeat a few bytes as a tensor of any size."""
    hollow = sorted(name for name, tensor in tensors.items() if tensor.nbytes > tensor.untyped_storage().nbytes())
    if hollow:
        raise WeightsError(
            f"{path} holds {len(hollow)} tensors of more numbers than it stores for them ({', '.join(hollow[:5])}); "
            "expected every number in the file; take the release, or save it anew with contiguous tensors"
        )
    size, total = path.stat().st_size, sum(tensor.nbytes for tensor in tensors.values())
    if total > MOST_COPIES * size:
        raise WeightsError(
            f"{path} has {size} bytes and its tensors would take {total}; expected at most {MOST_COPIES} times the "
            "file, room for tied weights; take the release, or save it anew with contiguous tensors"
        )


def _is_plain(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not value.is_quantized and value.device.type == "cpu"

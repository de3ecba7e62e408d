"""A model folder: where it comes from, its JSON files and its safetensors shards, read without allocating a tensor."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from leanseg.errors import WeightsError

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_FILE = "model-{number:05d}-of-{count:05d}.safetensors"
HUB_FILES = ["*.json", "*.safetensors", "*.txt"]
# The release's largest is its tokenizer, 2 MB; what is far larger is no file of a model, and would fill the memory.
MAX_JSON_BYTES = 64 * 1024**2
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")

# The repository state that the released numbers and this package's checks refer to.
RELEASED_REVISIONS = {"weic22/InstructSeg": "d5375970b819922b3f9a17c22ea8453f05d6f7b2"}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies, and its shape as the file's header gives it."""

    file: Path
    shape: tuple[int, ...]


def model_folder(name_or_path: str | Path, *, revision: str | None, local_files_only: bool) -> Path:
    """Return the folder of a local model, or of a hub repository's files: JSON, safetensors and text, never code."""
    folder = Path(name_or_path)
    if folder.is_dir():
        if revision is not None:
            raise WeightsError(
                f"revision {revision!r} was given for the folder {folder}; it applies to a hub repository; leave it out"
            )
        return folder
    name = str(name_or_path)
    if folder.exists() or not is_hub_id(name):
        raise WeightsError(
            f"{name} is no model folder; expected a folder with {CONFIG_FILE} or a hub id 'owner/name'; check the path"
        )
    return _download(name, revision or RELEASED_REVISIONS.get(name), local_files_only)


def is_hub_id(name: str) -> bool:
    """Say whether a name has the form `owner/name` of a hub repository."""
    return _HUB_ID.fullmatch(name) is not None


def check_json_size(path: Path) -> None:
    """Refuse a JSON file that is too large to be one of a model; a missing file is left to the reader."""
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_JSON_BYTES:
        raise WeightsError(
            f"{path} is {size} bytes large; expected at most {MAX_JSON_BYTES}; fetch the file again, or another model"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise one line that names the file."""
    check_json_size(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name}; expected the release's layout; copy the file there"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} cannot be read ({_line(error)}); expected a JSON object; fetch the file again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a JSON {type(content).__name__}; expected an object; fetch the file again")
    return content


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read the headers of all shards: tensor name -> file and shape."""
    found: dict[str, StoredTensor] = {}
    for path in _shards(folder):
        found |= tensors_of_file(path)
    return found


def tensors_of_file(path: Path) -> dict[str, StoredTensor]:
    """Read one safetensors file's header: tensor name -> file and shape."""
    try:
        with safe_open(path, framework="pt") as header:
            return {name: StoredTensor(path, tuple(header.get_slice(name).get_shape())) for name in header.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file ({_line(error)}); fetch the file again") from error


def fitting(
    stored: Mapping[str, StoredTensor],
    expected: Mapping[str, tuple[int, ...]],
    folder: Path,
    *,
    unused: Iterable[str] = (),
    many_wrong: str = "",
) -> dict[str, StoredTensor]:
    """Return the expected tensors, after comparing names and shapes; others than `unused` ones are logged."""
    missing = sorted(expected.keys() - stored.keys())
    if missing:
        raise WeightsError(
            f"{folder} lacks {len(missing)} of {len(expected)} tensors; expected those of its {CONFIG_FILE}; "
            f"fetch all files of one model. Missing: {', '.join(missing)}"
        )
    wrong = [
        f"{name} {list(stored[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if stored[name].shape != shape
    ]
    if wrong:
        hint = "" if len(wrong) < 10 else many_wrong
        raise WeightsError(
            f"{folder} has {len(wrong)} tensors of another shape than {CONFIG_FILE} says: {'; '.join(wrong)}{hint}"
        )
    unexpected = sorted(stored.keys() - expected.keys() - set(unused))
    if unexpected:
        logger.warning("%s holds %d tensors that are not used: %s", folder, len(unexpected), ", ".join(unexpected))
    return {name: stored[name] for name in expected}


def read_tensors(stored: Mapping[str, StoredTensor], device: torch.device) -> Iterable[tuple[str, Tensor]]:
    """Yield the named tensors, file by file."""
    for path in sorted({tensor.file for tensor in stored.values()}):
        try:
            with safe_open(path, framework="pt", device=str(device)) as content:
                for name in sorted(name for name, tensor in stored.items() if tensor.file == path):
                    yield name, content.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read ({_line(error)}); fetch the file again") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, max_shard_bytes: int) -> None:
    """Write one safetensors file, or shards of at most `max_shard_bytes` and their index, in the order of the names."""
    shards = _split(tensors, max_shard_bytes)
    stale = {path for path in folder.glob("model*.safetensors")} | {folder / INDEX_FILE}
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS_FILE if len(shards) == 1 else SHARD_FILE.format(number=number, count=len(shards))
        part = {name: tensors[name].detach().contiguous().cpu() for name in names}
        # Replaced at once: the old file may still be mapped into a loaded model's memory.
        temporary = folder / f".{file}.tmp"
        save_file(part, temporary, metadata={"format": "pt"})
        os.replace(temporary, folder / file)
        stale.discard(folder / file)
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
        stale.discard(folder / INDEX_FILE)
    for path in stale:
        path.unlink(missing_ok=True)


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if revision is None:
        logger.warning("%s is loaded without a revision; give revision='<commit>' to keep results repeatable", name)
    where = f"{name} (revision {revision or 'newest'})"
    try:
        folder = snapshot_download(name, revision=revision, local_files_only=local_files_only, allow_patterns=HUB_FILES)
    except LocalEntryNotFoundError as error:
        advice = "allow the download" if local_files_only else "check the network and the hub's reachability"
        raise WeightsError(
            f"{where} is not in the local cache and was not fetched; {advice} or give a folder"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(
            f"{where} cannot be fetched ({_line(error)}); check the name, the revision and the network"
        ) from error
    return Path(folder)


def _shards(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    if not index.is_file():
        if not (folder / WEIGHTS_FILE).is_file():
            raise WeightsError(
                f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}; expected one of them; copy it there"
            )
        return [folder / WEIGHTS_FILE]
    return indexed_files(index, ".safetensors")


def indexed_files(index: Path, ending: str) -> list[Path]:
    """Return the files of this ending, beside an index, that it names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise WeightsError(f"{index} has no weight_map of names to files; expected the release's index; fetch it again")
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if Path(name).name != name or not name.endswith(ending)]
    if outside:
        raise WeightsError(
            f"{index} names {', '.join(outside)}; expected {ending[1:]} files in the same folder; fetch it again"
        )
    folder = index.parent
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise WeightsError(
            f"{folder} lacks {', '.join(absent)}; expected every file that {index.name} names; fetch them"
        )
    return [folder / name for name in names]


def _split(tensors: Mapping[str, Tensor], max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = max_shard_bytes
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

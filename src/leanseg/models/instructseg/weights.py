"""Weights in the released layout: config.json, tokenizer files and safetensors under the released names.

Storage in the release is mixed: the language model, SigLIP, the projector and the language head are float16, Swin and
every mask module float32. Loading keeps that split: `dtype` is the compute type of the first group, the second always
computes in float32. (The release's own evaluation rounds everything to float16 and computes in float32;
`dtype=torch.float32` does the latter without rounding the mask modules.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leanseg.errors import InputError, LeansegError, WeightsError
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg import files
from leanseg.models.instructseg.config import EXTRA_KEY, InstructSegConfig
from leanseg.models.instructseg.files import StoredTensor
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.names import LM_HEAD, from_released, to_released
from leanseg.models.instructseg.tokenizer import TextTokenizer, load_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EMBEDDING = "model.embed_tokens.weight"
MAX_SHARD_BYTES = 5_000_000_000
_MIXED_FLOAT32 = "model.vision_tower_mask."


def load_pretrained(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
    lm_head: bool = False,
) -> InstructSeg:
    """Load a model folder or a hub repository, ready for inference.

    Names and shapes of all tensors are checked from the files' headers before anything is allocated; missing tensors
    are one error that names all of them, unexpected ones are logged. `lm_head` loads the language head too (for
    training only).
    """
    compute, target = compute_dtype(dtype), resolve_device(device)
    folder = files.model_folder(name_or_path, revision=revision, local_files_only=local_files_only)
    config = InstructSegConfig.from_dict(files.read_json(folder / files.CONFIG_FILE))
    stored = files.stored_tensors(folder)
    config = _with_stored_rows(config, stored)
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > config.language.vocab_size:
        raise WeightsError(
            f"the tokenizer of {folder} has {tokenizer.vocab_size} tokens, the embedding table "
            f"{config.language.vocab_size} rows; expected a row per token; take both from one release"
        )
    model = _empty_model(config, tokenizer, lm_head=lm_head)
    expected = {name: tuple(tensor.shape) for name, tensor in to_released(model.state_dict()).items()}
    hint = f" (a model of other sizes needs the key {EXTRA_KEY!r} in config.json)"
    wanted = files.fitting(stored, expected, folder, unused=(LM_HEAD,), many_wrong=hint)
    tensors = {name: _converted(name, tensor, compute) for name, tensor in files.read_tensors(wanted, target)}
    model.load_state_dict(from_released(tensors), assign=True)
    _fill_buffers(model, target)
    return model.to(target).eval()


def save_pretrained(
    model: InstructSeg, directory: str | Path, *, storage: str = "as_is", max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a folder that `load_pretrained` reads: every file is complete before it replaces an older one.

    `storage` "mixed" is the release's split, a type's name stores all weights in it, "as_is" keeps each tensor's own.
    """
    state = to_released(model.state_dict())
    strange = sorted(name for name in state if "lora_" in name or ".base_layer." in name)
    if strange:
        raise WeightsError(
            f"the model holds {len(strange)} adapter tensors; expected plain weights; merge the adapters first"
        )
    if storage not in ("as_is", "mixed", *DTYPES):
        raise InputError(f"storage {storage!r} is unknown; expected as_is, mixed, {', '.join(DTYPES)}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    stored = {name: _stored(name, state[name], storage) for name in sorted(state)}
    files.write_tensors(directory, stored, max_shard_bytes=max_shard_bytes)
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    files.write_json(directory / files.CONFIG_FILE, model.config.to_dict())


def released_shapes(config: InstructSegConfig, *, lm_head: bool = True) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a model in the released layout, without allocating one."""
    with torch.device("meta"):
        state = InstructSeg(config, lm_head=lm_head).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in to_released(state).items()}


def is_language_weight(name: str) -> bool:
    """Say whether a released tensor is of the half-precision group: language model and head, SigLIP, projector."""
    return name == LM_HEAD or (name.startswith("model.") and not name.startswith(_MIXED_FLOAT32))


def compute_dtype(given: torch.dtype | str) -> torch.dtype:
    """Return a compute type by its name or itself."""
    found = DTYPES.get(given) if isinstance(given, str) else given
    if found is None or found not in DTYPES.values():
        raise InputError(f"dtype {given!r} is not supported; expected {', '.join(DTYPES)}")
    return found


def _with_stored_rows(config: InstructSegConfig, stored: Mapping[str, StoredTensor]) -> InstructSegConfig:
    """Take the rows of embedding table and language head from the files; refuse a config of far more layers."""
    mask = (config.mask.encoder_layers, config.mask.decoder_layers)
    towers = (config.language.num_hidden_layers, config.vision.num_hidden_layers, *config.swin.depths)
    layers = max(*towers, *mask, config.ovp.depth, config.vmtf.depth)
    if layers > len(stored):
        raise WeightsError(
            f"config.json asks for {layers} layers, the files hold {len(stored)} tensors; expected one model's files"
        )
    rows: dict[str, Any] = {
        field: stored[name].shape[0]
        for field, name in (("vocab_size", EMBEDDING), ("lm_head_size", LM_HEAD))
        if name in stored and len(stored[name].shape) == 2
    }
    return replace(config, language=replace(config.language, **rows))


def _empty_model(config: InstructSegConfig, tokenizer: TextTokenizer, *, lm_head: bool) -> InstructSeg:
    """Build the model without allocating a tensor; sizes that do not go together are one line."""
    try:
        with torch.device("meta"):
            return InstructSeg(config, tokenizer=tokenizer, lm_head=lm_head)
    except LeansegError:
        raise
    except Exception as error:  # whatever torch and transformers raise for sizes and names that they cannot use
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"the sizes in config.json make no model ({type(error).__name__}: {reason}); expected those of the "
            "weights beside it; fetch the file again"
        ) from error


def _converted(name: str, tensor: Tensor, compute: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        if name.endswith("relative_position_index"):
            return tensor
        raise WeightsError(
            f"the weight {name} is stored as {tensor.dtype}; expected floating point; fetch the files again"
        )
    # Copied, so that no parameter stays a window into a file that somebody may replace.
    return tensor.to(compute if is_language_weight(name) else torch.float32, copy=True)


def _stored(name: str, tensor: Tensor, storage: str) -> Tensor:
    if storage == "as_is" or not tensor.is_floating_point():
        return tensor
    if storage == "mixed":
        return tensor.to(torch.float16 if is_language_weight(name) else torch.float32)
    return tensor.to(DTYPES[storage])


def _fill_buffers(model: InstructSeg, device: torch.device) -> None:
    """Recompute the buffers that no checkpoint stores, left without content by the allocation-free construction."""
    embeddings = model.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand(1, -1)
    rotary: Any = model.language_model.rotary_emb
    with device:
        model.language_model.rotary_emb = type(rotary)(rotary.config)
    model.vision_tower_mask.restore_buffers(device)
    empty = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        raise RuntimeError(f"no content for {', '.join(empty)}: a newer transformers has further buffers")

"""A VLTP folder: config.json, the tokenizer and safetensors under the model's own names.

`dtype` is the compute type of guide, image encoder and prune decoder. What turns embeddings into masks is small and
sensitive (the positions' frequencies among it), and always computes in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from leanseg.errors import InputError, LeansegError, WeightsError
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg import files
from leanseg.models.instructseg.weights import DTYPES, MAX_SHARD_BYTES, compute_dtype
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.tokenizer import GuideTokenizer, load_guide_tokenizer

_COMPUTED = ("mllm.", "sam.image_encoder.", "prune_decoder.")


def load_pretrained(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
) -> VLTP:
    """Load a model folder or a hub repository, ready for inference.

    Names and shapes of all tensors are checked from the files' headers before anything is allocated; missing tensors
    are one error that names all of them, unexpected ones are logged.
    """
    compute, target = compute_dtype(dtype), resolve_device(device)
    folder = files.model_folder(name_or_path, revision=revision, local_files_only=local_files_only)
    config = VLTPConfig.from_dict(files.read_json(folder / files.CONFIG_FILE))
    stored = files.stored_tensors(folder)
    check_depth(config, len(stored))
    model = empty_model(config, load_guide_tokenizer(folder))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wanted = files.fitting(stored, expected, folder)
    fill(model, files.read_tensors(wanted, target), compute)
    return model


def save_pretrained(
    model: VLTP, directory: str | Path, *, storage: str = "as_is", max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a folder that `load_pretrained` reads: every file is complete before it replaces an older one.

    `storage` "mixed" stores as float16 what `dtype` is for, and the rest as float32; a type's name stores all weights
    in it, "as_is" keeps each tensor's own.
    """
    state = model.state_dict()
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


def check_depth(config: VLTPConfig, n_tensors: int) -> None:
    """Refuse a configuration of far more layers than there are tensors, which would take any time to build."""
    guide, sam = config.guide, config.sam
    layers = max(guide.language.num_hidden_layers, guide.vision.num_hidden_layers, sam.depth, sam.decoder_depth)
    if max(layers, sam.multimasks) > n_tensors:
        raise WeightsError(
            f"config.json asks for {max(layers, sam.multimasks)} layers, the files hold {n_tensors} tensors; "
            "expected one model's files"
        )


def empty_model(config: VLTPConfig, tokenizer: GuideTokenizer) -> VLTP:
    """Build the model without allocating a tensor; sizes that do not go together are one line."""
    rows = config.guide.language.vocab_size
    if tokenizer.vocab_size > rows:
        raise WeightsError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the embedding table {rows} rows; expected a row per "
            "token; take both from one model"
        )
    try:
        with torch.device("meta"):
            return VLTP(config, tokenizer=tokenizer)
    except LeansegError:
        raise
    except Exception as error:  # whatever torch and transformers raise for sizes and names that they cannot use
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"the sizes in config.json make no model ({type(error).__name__}: {reason}); expected those of the "
            "weights beside it; fetch the file again"
        ) from error


def fill(model: VLTP, tensors: Iterable[tuple[str, Tensor]], compute: torch.dtype) -> None:
    """Give an empty model its weights, each in its compute type, and the buffers that no file stores."""
    model.load_state_dict({name: _converted(name, tensor, compute) for name, tensor in tensors}, assign=True)
    device = model.device
    embeddings = model.mllm.model.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand(1, -1)
    rotary = model.mllm.model.language_model.rotary_emb
    with device:
        model.mllm.model.language_model.rotary_emb = type(rotary)(rotary.config)
    empty = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        raise RuntimeError(f"no content for {', '.join(empty)}: a newer transformers has further buffers")
    model.eval()


def compute_type(name: str, compute: torch.dtype) -> torch.dtype:
    """Return the type in which a weight computes."""
    return compute if name.startswith(_COMPUTED) else torch.float32


def _converted(name: str, tensor: Tensor, compute: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        raise WeightsError(
            f"the weight {name} is stored as {tensor.dtype}; expected floating point; fetch the files again"
        )
    # Copied, so that no parameter stays a window into a file that somebody may replace.
    return tensor.to(compute_type(name, compute), copy=True)


def _stored(name: str, tensor: Tensor, storage: str) -> Tensor:
    if storage == "as_is":
        return tensor
    return tensor.to(compute_type(name, torch.float16) if storage == "mixed" else DTYPES[storage])

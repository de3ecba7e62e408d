"""Low-rank adapters on the language model's q_proj and v_proj, through peft: added for training, saved, loaded, merged.

They serve every model of this package with a `language_model`: InstructSeg's Phi, and the LLaMA that guides VLTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Linear

from leanseg.errors import WeightsError, unknown_name
from leanseg.models.instructseg import files

ADAPTER = "default"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# How adapters of the release's language model are named; a model saved as a bare PhiModel has one "model." less.
PREFIX = "base_model.model.model."
BARE_PREFIX = "base_model.model."
# Settings under which the same tensors mean other weights.
_NOT_PLAIN = (
    "alpha_pattern", "fan_in_fan_out", "layers_to_transform", "lora_bias", "modules_to_save", "rank_pattern",
    "use_dora", "use_rslora",
)  # fmt: skip


@runtime_checkable
class Adaptable(Protocol):
    """A model with a language model inside."""

    training: bool

    @property
    def language_model(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    def named_parameters(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """The release's recipe; `targets` are linear layers of the language model."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


def add_adapters(model: Adaptable, options: LoraOptions | None = None) -> list[str]:
    """Put trainable adapters, equal to nothing at first, beside the target layers; return their parameter names.

    The base weights of the language model are frozen by this, all other modules are left as they are.
    """
    chosen = options or LoraOptions()
    peft = _peft()
    layers = {
        name.rpartition(".")[2] for name, part in model.language_model.named_modules() if isinstance(part, Linear)
    }
    for target in chosen.targets:
        if target not in layers:
            raise WeightsError(unknown_name("linear layer to adapt", target, layers))
    config = peft.LoraConfig(
        r=chosen.rank,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=list(chosen.targets),
        bias="none",
    )
    peft.inject_adapter_in_model(config, model.language_model, adapter_name=ADAPTER)
    model.language_model.train(model.training)  # new layers, and their dropout, start in training mode
    return [name for name, _ in model.named_parameters() if "lora_" in name]


def merge_adapters(model: Adaptable) -> None:
    """Add every adapter to its base weight and put the plain layer back."""
    from peft.tuners.lora import LoraLayer

    adapted: list[Any] = [module for module in model.language_model.modules() if isinstance(module, LoraLayer)]
    if not adapted:
        raise WeightsError("the model has no adapters to merge; expected add_adapters or load_adapters before")
    for module in adapted:
        module.merge(safe_merge=True)
    remove_adapters(model)


def save_adapters(model: Adaptable, directory: str | Path, options: LoraOptions | None = None) -> None:
    """Write the adapters in peft's layout under the released names."""
    chosen = options or LoraOptions()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {PREFIX + name: tensor.detach().contiguous().cpu() for name, tensor in _adapter_tensors(model)}
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    content = {
        "peft_type": "LORA",
        "r": chosen.rank,
        "lora_alpha": chosen.alpha,
        "lora_dropout": chosen.dropout,
        "target_modules": list(chosen.targets),
        "bias": "none",
    }
    files.write_json(directory / CONFIG_FILE, content)


def load_adapters(model: Adaptable, directory: str | Path, *, merge: bool = True) -> None:
    """Read adapters from a folder (safetensors only) and merge them, or leave them in place to be trained on."""
    directory = Path(directory)
    options = _read_options(directory)
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise WeightsError(
            f"{directory} has no {WEIGHTS_FILE}; expected adapters as safetensors; convert a .bin file first"
        )
    stored = files.tensors_of_file(path)
    # Before anything is allocated: the file bounds the rank that its configuration may ask for.
    ranks = sorted({tensor.shape[0] for name, tensor in stored.items() if ".lora_A." in name and tensor.shape})
    if ranks != [options.rank]:
        raise WeightsError(
            f"{directory / CONFIG_FILE} gives rank {options.rank}, {path.name} holds ranks {ranks}; "
            "expected one rank in both; fetch both files of one model"
        )
    add_adapters(model, options)
    expected = {PREFIX + name: tensor for name, tensor in _adapter_tensors(model)}
    found = {_released_name(name): name for name in stored}
    missing, strange = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = sorted(
        f"{name} {list(stored[found[name]].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and stored[found[name]].shape != tuple(tensor.shape)
    )
    if missing or strange or wrong:
        parts = {"missing": missing, "unexpected": strange, "of another shape": wrong}
        problem = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        remove_adapters(model)
        raise WeightsError(f"{path} does not fit the language model; expected the adapters of its layers. {problem}")
    with torch.no_grad():
        for name, tensor in files.read_tensors(stored, model.device):
            expected[_released_name(name)].copy_(tensor)
    if merge:
        merge_adapters(model)


def remove_adapters(model: Adaptable) -> None:
    """Put the plain layers back and forget the adapters."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.language_model.named_modules()):
        if isinstance(module, LoraLayer):
            parent, _, child = name.rpartition(".")
            layer: Any = module
            setattr(model.language_model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model.language_model, "peft_config"):
        del model.language_model.peft_config


def _adapter_tensors(model: Adaptable) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.language_model.named_parameters():
        if "lora_" in name:
            yield name.replace(f".{ADAPTER}.", "."), parameter


def _released_name(name: str) -> str:
    if name.startswith(PREFIX):
        return name
    return PREFIX + name.removeprefix(BARE_PREFIX) if name.startswith(BARE_PREFIX) else name


def _read_options(directory: Path) -> LoraOptions:
    content = files.read_json(directory / CONFIG_FILE)
    try:
        unlike = sorted(key for key in _NOT_PLAIN if content.get(key))
        if content.get("peft_type", "LORA") != "LORA" or unlike or content.get("bias", "none") != "none":
            raise ValueError(f"only plain LoRA adapters are supported, without {', '.join(unlike) or 'other kinds'}")
        if not isinstance(content["target_modules"], list):
            raise ValueError(f"target_modules is {content['target_modules']!r} and not a list")
        return LoraOptions(
            rank=int(content["r"]),
            alpha=int(content["lora_alpha"]),
            dropout=float(content.get("lora_dropout", 0.0)),
            targets=tuple(str(target) for target in content["target_modules"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{directory / CONFIG_FILE} is no LoRA configuration ({error}); expected r, lora_alpha, target_modules"
        ) from error


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise WeightsError("adapters need the package peft; install it with: pip install 'leanseg[train]'") from error
    return peft

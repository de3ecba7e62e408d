"""The folders of golden/vltp, found by what is there, and the models that their weights make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.golden_cases import GOLDEN
from torch import Tensor

from leanseg.models.sam.config import SamConfig

ROOT = GOLDEN / "vltp"
MODULE_TOLERANCE, CHAIN_TOLERANCE = 1e-5, 1e-4


def cases(family: str, keys: Callable[[Path], Iterable[str]] = lambda folder: ("all",)) -> list[object]:
    """Return one pytest parameter (folder, key) per case of every folder whose name starts with `family`."""
    found = sorted(path.parent for path in ROOT.glob(f"{family}*/config.json")) if ROOT.is_dir() else []
    if not found:
        skip = pytest.mark.skip(reason=f"no folder {family}* below {ROOT}")
        return [pytest.param(None, None, marks=skip, id=f"{family}/absent")]
    return [pytest.param(folder, key, id=f"{folder.name}/{key}") for folder in found for key in keys(folder)]


def exactly(family: str, keys: Callable[[Path], Iterable[str]] = lambda folder: ("all",)) -> list[object]:
    """Return the cases of the folder of exactly this name."""
    return [each for each in cases(family, keys) if each.id.partition("/")[0] == family]  # type: ignore[attr-defined]


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def weights(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    state = load_file(folder / "weights.safetensors")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def io(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "io.safetensors")


def sam_config(given: dict[str, Any], **more: Any) -> SamConfig:
    """Return our configuration for a fixture's sizes."""
    names = {
        "image_size": "image_size", "patch_size": "patch_size", "embed_dim": "width", "depth": "depth",
        "num_heads": "heads", "window_size": "window", "mlp_ratio": "mlp_ratio", "out_chans": "dim",
        "decoder_heads": "decoder_heads", "decoder_mlp_dim": "decoder_hidden", "mask_in_chans": "mask_channels",
    }  # fmt: skip
    sizes = {ours: given[theirs] for theirs, ours in names.items() if theirs in given}
    if "global_attn_indexes" not in given:  # a decoder's own depth
        sizes["decoder_depth"] = sizes.pop("depth", 2)
    else:
        sizes["global_blocks"] = tuple(given["global_attn_indexes"])
    return SamConfig(**{"score_hidden": given.get("out_chans", 256), **sizes, **more})


def near(actual: Tensor, expected: Tensor, tolerance: float = MODULE_TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)

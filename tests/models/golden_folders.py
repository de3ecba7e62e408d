"""The folders of golden/instructseg, found by what is there: more of them, of other sizes and names, run as well."""

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

ROOT = GOLDEN / "instructseg"
ABSOLUTE, RELATIVE = 1e-5, 1e-5
MAX_FLIPPED = 1e-3  # share of pixels of a thresholded mask that may differ, for logits next to zero


def folders(family: str, marker: str = "config.json") -> list[Path]:
    """Return every folder that holds `marker` and is, or lies in, a folder whose name starts with `family`."""
    found = sorted(path.parent for path in ROOT.rglob(marker)) if ROOT.is_dir() else []
    return [folder for folder in found if any(part.startswith(family) for part in folder.relative_to(ROOT).parts)]


def golden(
    family: str, keys: Callable[[Path], Iterable[str]] = lambda folder: ("all",), marker: str = "config.json"
) -> list[object]:
    """Return one pytest parameter (folder, key) per case, with id `<folder>/<key>`; a skipped one if there is none."""
    cases = [(folder, key) for folder in folders(family, marker) for key in keys(folder)]
    if not cases:
        skip = pytest.mark.skip(reason=f"no folder {family}* below {ROOT}")
        return [pytest.param(None, None, marks=skip, id=f"{family}/absent")]
    return [pytest.param(folder, key, id=f"{folder.relative_to(ROOT)}/{key}") for folder, key in cases]


def tensors(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def suffixes(folder: Path, stem: str, name: str = "inputs") -> list[str]:
    """Return the tensor names of a file that are `stem` or `stem_...`."""
    return [key for key in tensors(folder, name) if key == stem or key.startswith(f"{stem}_")]


def close(actual: Tensor, expected: Tensor, absolute: float = ABSOLUTE) -> None:
    torch.testing.assert_close(actual, expected, atol=absolute, rtol=RELATIVE)


def same_mask(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    flipped = (actual.bool() != expected.bool()).float().mean().item()
    assert flipped <= MAX_FLIPPED, f"{flipped:.3%} of the pixels differ"

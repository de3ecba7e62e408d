"""Where the golden fixtures are, and how a test finds its cases: by the files present, never by a list."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(os.environ.get("LEANSEG_GOLDEN", Path(__file__).parent / "golden"))


def cases(folder: str, pattern: str = "*") -> list[object]:
    """Return one pytest parameter per file or folder of `GOLDEN/folder` that fits `pattern`, id `<last folder>/<stem>`.

    A family whose folder is absent yields one skipped parameter; a folder without a fitting file fails the collection.
    """
    root = GOLDEN / folder
    if not root.is_dir():
        absent = pytest.mark.skip(reason=f"no folder {folder} below {GOLDEN}")
        return [pytest.param(None, marks=absent, id=f"{root.name}/absent")]
    found = sorted(root.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{root} holds nothing that fits {pattern!r}")
    return [pytest.param(path, id=f"{root.name}/{path.stem}") for path in found]


def chosen_cases(folder: str, pattern: str, *, prefix: str = "", but: str = "\0") -> list[object]:
    """Return those of `cases` whose stem starts with `prefix` and not with `but`; perhaps none, which pytest skips."""
    names = [(each, each.id.partition("/")[2]) for each in cases(folder, pattern)]
    return [each for each, name in names if name.startswith(prefix) and not name.startswith(but)]


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file as tensors."""
    import numpy as np
    import torch

    with np.load(path) as case:
        return {name: torch.from_numpy(case[name]) for name in case.files}


def facts(path: Path, name: str) -> dict[str, Any]:
    """Return what `name`.json above the folder of a fixture says of it; nothing where it says nothing."""
    page = path.parent.parent / f"{name}.json"
    return json.loads(page.read_text()).get(path.parent.name, {}).get(path.stem, {}) if page.is_file() else {}

"""Where the golden fixtures are, and how a test finds its cases: by the files present, never by a list."""

from __future__ import annotations

import os
from pathlib import Path

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

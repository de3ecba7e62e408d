"""Output folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from leanseg.errors import InputError

RESULT = "result.json"


def check_replaceable(folder: Path, command: str) -> None:
    """Refuse a path that holds anything but an earlier result of `command`, so that nobody's files are lost.

    Raises:
        InputError: the path is a file, or a folder that is neither empty nor an earlier result.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"--out {folder} is a file; give a folder")
    if next(folder.iterdir(), None) is None:
        return
    with suppress(OSError, ValueError):
        earlier = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if isinstance(earlier, dict) and earlier.get("command") == command:
            return
    raise InputError(
        f"--out {folder} holds files that `leanseg {command}` did not write; give a new folder, or empty this one"
    )


@contextmanager
def whole_folder(folder: Path, command: str) -> Iterator[Path]:
    """Give an empty folder beside `folder`; it takes its place when the block ends well and vanishes when it raises."""
    check_replaceable(folder, command)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    staging = folder.with_name(f".{folder.name}-{mark}.partial")
    staging.mkdir()
    try:
        yield staging
        _take_place(staging, folder, aside=folder.with_name(f".{folder.name}-{mark}.earlier"))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _take_place(staging: Path, folder: Path, *, aside: Path) -> None:
    if folder.exists():
        folder.rename(aside)
    try:
        staging.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)

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
# Lists what was written, so that a later run replaces that and nothing else.
RECORD = ".leanseg.json"


def check_replaceable(folder: Path, command: str) -> None:
    """Refuse a path that holds anything but an earlier result of `command`, so that nobody's files are lost.

    Raises:
        InputError: the path is a file, or a folder with a file that the earlier run did not write.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"--out {folder} is a file; give a folder")
    strange = sorted(_files(folder) - _written(folder, command))
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise InputError(
            f"--out {folder} holds files that `leanseg {command}` did not write: {strange[0]}{more}; "
            "give a new folder, or move them away"
        )


def _files(folder: Path) -> set[str]:
    """Return everything below `folder` but folders, as relative paths; a link is not followed."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}


def _written(folder: Path, command: str) -> set[str]:
    """Return what an earlier run of `command` recorded as its own; nothing if there is no such record."""
    with suppress(OSError, ValueError):
        earlier = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if isinstance(earlier, dict) and earlier.get("command") == command and isinstance(earlier.get("files"), list):
            return {RECORD, *(str(name) for name in earlier["files"])}
    return set()


@contextmanager
def whole_folder(folder: Path, command: str) -> Iterator[Path]:
    """Give an empty folder beside `folder`; it takes its place when the block ends well and vanishes when it raises."""
    check_replaceable(folder, command)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    staging = folder.with_name(f".{folder.name}-{mark}.partial")
    staging.mkdir()
    try:
        yield staging
        record = {"command": command, "files": sorted(_files(staging))}
        (staging / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        check_replaceable(folder, command)  # again: a file may have come while the models ran
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

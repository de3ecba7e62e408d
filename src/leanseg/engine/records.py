"""Records: every published number is one JSON file with its command, its environment and its single values."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from leanseg.errors import DataError

_PACKAGES = ("leanseg", "torch", "transformers", "numpy", "pillow", "safetensors")


def environment() -> dict[str, Any]:
    """Return what a reader needs to judge a record: versions, processor kind, commit; no host or path names."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, or None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def record(kind: str, command: str, **content: Any) -> dict[str, Any]:
    """Return a record of the given kind with its provenance filled in."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%d")
    return {
        "kind": kind,
        "command": command,
        "date": stamp,
        "commit": commit(),
        "environment": environment(),
        **content,
    }


def weights_hash(folder: Path) -> str | None:
    """Return the SHA-256 of a model folder's safetensors files in the order of their names; None where there are none.

    It tells a record's model from another one of the same name.
    """
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else None


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically: a reader sees the whole file or the old one.

    Each item of a list `samples` stands on a line of its own, so that a record of thousands stays small and readable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(_text(content) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _text(content: object) -> str:
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(samples, list) or not samples:
        return json.dumps(content, indent=1)
    rows = ",\n".join(f"  {json.dumps(sample, separators=(',', ':'))}" for sample in samples)
    members = [
        f" {json.dumps(name)}: [\n{rows}\n ]" if name == "samples" else json.dumps({name: value}, indent=1)[2:-2]
        for name, value in content.items()
    ]
    return "{\n" + ",\n".join(members) + "\n}"


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """Read a record and check its kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no record at {path}; expected a record of kind {kind!r}; give the path of one") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no JSON record ({error}); expected one of kind {kind!r}, or a name that is free"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path} holds {found!r}; expected a record of kind {kind!r}")
    return content

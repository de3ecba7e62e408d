"""What a run's folder was made for, kept beside its checkpoints: a finished stage is no answer to another request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanseg.engine.records import write_json
from leanseg.errors import TrainingError
from leanseg.models.instructseg.files import read_json

ASKED_FILE = "request.json"
DIFFERENCES_SHOWN = 4


def check_asked(out: Path, asked: Mapping[str, Any]) -> None:
    """Refuse a folder that another request was started in; one without a request holds what a user brought there."""
    if not (out / ASKED_FILE).exists():
        return
    before, now = _flat(read_json(out / ASKED_FILE)), _flat(_plain(asked))
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if names:
        told = [f"{name} {before.get(name)!r} there, {now.get(name)!r} here" for name in names[:DIFFERENCES_SHOWN]]
        more = f" and {len(names) - len(told)} more" if len(names) > len(told) else ""
        raise TrainingError(
            f"--out {out} holds the training of another request ({'; '.join(told)}{more}); expected the same to go on "
            "with it: choose another --out; finished stage files that are copied there are taken"
        )


def keep_asked(out: Path, asked: Mapping[str, Any]) -> None:
    """Write what decides a run's weights into its folder, unless another request is there."""
    check_asked(out, asked)
    write_json(out / ASKED_FILE, _plain(asked))


def _plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as its file has it: tuples are lists, paths are words."""
    plain: dict[str, Any] = json.loads(json.dumps(asked, default=str))
    return plain


def _flat(asked: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in asked.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat

"""The two channels of the command line: results on stdout, messages on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console


def results(*, columns: int | None = None) -> Console:
    """Return the console of results (stdout); with `columns`, tables take up to that many, also into a pipe."""
    return Console(soft_wrap=columns is None, highlight=False, width=columns)


def messages() -> Console:
    """Return the console of messages, progress bars and notes (stderr)."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document, the only thing on stdout under `--json`."""
    print(json.dumps(document, indent=2, ensure_ascii=False))

"""The two channels of the command line: results on stdout, messages on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console


def results(*, columns: int | None = None) -> Console:
    """Return the console of results (stdout); with `columns`, tables take up to that many, also into a pipe."""
    return Console(soft_wrap=columns is None, highlight=False, width=columns)


def messages() -> Console:
    """Return the console of messages, progress bars and notes (stderr)."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


class _Stderr(logging.Handler):
    """Prints to what stderr is at that time, so that a line stands above a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextmanager
def shown_log() -> Iterator[None]:
    """Show meanwhile on stderr what the library logs, on a terminal or not: that a run resumes, what failed."""
    logger, handler = logging.getLogger("leanseg"), _Stderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document, the only thing on stdout under `--json`."""
    print(json.dumps(document, indent=2, ensure_ascii=False))

"""What every run that goes on where an earlier one stopped says in the log, in one form."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def log_resumed(source: Path, done: str) -> None:
    """Log where a run goes on from, and what of it is done; of several processes one says so."""
    logger.info("resumed from %s: %s", source, done)

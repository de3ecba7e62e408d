"""The studies by name: one file each, one line here."""

from __future__ import annotations

from leanseg.engine.study.base import Study
from leanseg.engine.study.retention import Retention
from leanseg.errors import InputError, unknown_name

STUDIES: dict[str, type[Study]] = {
    "retention": Retention,
}


def find(name: str) -> Study:
    """Return a study by its name.

    Raises:
        InputError: there is none of this name; the message lists those that there are.
    """
    if name not in STUDIES:
        raise InputError(unknown_name("study", name, STUDIES))
    return STUDIES[name]()

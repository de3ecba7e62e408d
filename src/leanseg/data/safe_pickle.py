"""Reads a pickle of plain data without running any of it: RefCOCO's `refs(<splitBy>).p` are pickles of Python 2.

A pickle is a program, and `pickle.load` runs it. Here is a machine of our own that knows only the instructions that
build None, bool, int, float, str, bytes, list, tuple and dict. Whatever names a class, calls, or refers to something
outside of the file stops it with the instruction's name and place. Nothing is imported; work and memory are bounded by
the length of the file, the number of values and their depth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leanseg.data.pickle_machine import MAX_DEPTH, SCALARS, Machine
from leanseg.data.pickle_steps import STEPS
from leanseg.errors import DataError

MAX_BYTES = 256 * 1024 * 1024


def read(path: Path) -> Any:
    """Return the plain data of a pickle file; text of Python 2 is read as Latin-1.

    Raises:
        DataError: the file is missing, too large, truncated or damaged, or asks for more than plain data.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                f"{path} has {size} bytes; expected a pickle of at most {MAX_BYTES}; get the file again from where the "
                "data set is published"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no such file: {path}; give the path of a pickle, such as refs(unc).p") from None
    return loads(data, path.name)


def loads(data: bytes, name: str = "the pickle") -> Any:
    r"""Return the plain data of a pickle of any protocol; `name` is what errors call it.

    >>> loads(b"(lp0\nI7\naS'seven'\na.")
    [7, 'seven']
    """
    value = Machine(data, name).run(STEPS)
    _check_depth(value, name)
    return value


def _check_depth(value: Any, name: str) -> None:
    """Refuse values nested deeper than any annotation, before anything recursive sees them."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for entry in level:
            if type(entry) is dict:
                inner += entry.values()
            elif type(entry) in (list, tuple):
                inner += entry
        level = [entry for entry in inner if type(entry) not in SCALARS]
        if not level:
            return
    raise DataError(f"{name} nests values more than {MAX_DEPTH} deep; that is no annotation file; get it again")

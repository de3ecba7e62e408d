"""Fields of strangers' records, fetched with their type checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanseg.errors import DataError

_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
    bool: "true or false",
    object: "a value",
}
_REQUIRED = object()


def field(record: Any, key: str, kind: type, what: str, default: Any = _REQUIRED) -> Any:
    """Return `record[key]`, which must be of `kind` (a float may be whole, an int is no bool).

    >>> field({"frames": []}, "frames", list, "video 3")
    []

    Raises:
        DataError: `record` is no table, lacks the key (and there is no `default`), or the value is of another kind.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{what} is {type(record).__name__}; expected a table with {key!r}; mend the file")
    if key not in record:
        if default is not _REQUIRED:
            return default
        raise DataError(f"{what} has no {key!r}; expected {_NAMES[kind]}; mend the file")
    return record[key] if kind is object else of_kind(record[key], kind, f"{key!r} of {what}")


def of_kind(value: Any, kind: type, what: str) -> Any:
    """Return `value`, which must be of `kind`."""
    fits = type(value) in (int, float) if kind is float else type(value) is kind
    if not fits:
        raise DataError(f"{what} is {_short(value)}; expected {_NAMES[kind]}; mend the file")
    return value


def list_of(record: Any, key: str, kind: type, what: str) -> list[Any]:
    """Return `record[key]`, which must be a list of `kind`."""
    values: list[Any] = field(record, key, list, what)
    for value in values:
        of_kind(value, kind, f"an entry of {key!r} of {what}")
    return values


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return the value of an option, which must be one of `allowed`."""
    if value not in allowed:
        raise DataError(f"option {name} is {value!r}; expected one of {', '.join(allowed)}; choose one")
    return str(value)


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float | bool | None) else type(value).__name__

"""Reading sizes from a stranger's config.json: each value is checked against the type of the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from leanseg.errors import WeightsError

Part = TypeVar("Part")
# Numbers that may be zero or negative; their classes check them.
CHECKED_ELSEWHERE = ("select_layer", "global_blocks")


def mapping(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object at `key`, an empty one where it is absent."""
    value = source.get(key) or {}
    if not isinstance(value, Mapping):
        raise WeightsError(
            f"{key} in config.json is {value!r}; expected an object; the file is damaged or of another model"
        )
    return value


def read_part(part: type[Part], source: Mapping[str, Any], where: str) -> Part:
    """Build a config class from the keys it knows, checking each value against the type of the default."""
    values: dict[str, Any] = {}
    for known in fields(part):  # type: ignore[arg-type]
        if known.name not in source:
            continue
        given = source[known.name]
        default = known.default if not callable(known.default_factory) else known.default_factory()
        values[known.name] = _checked(given, default, f"{known.name} in {where}")
    return part(**values)


def _checked(given: Any, default: Any, what: str) -> Any:
    expected = type(default)
    if expected is tuple and isinstance(given, list | tuple) and all(type(item) is int for item in given):
        return tuple(_positive(item, what) for item in given)
    if expected is float and type(given) in (int, float):
        return float(given)
    if type(given) is expected:
        return _positive(given, what) if expected is int else given
    raise WeightsError(f"{what} is {given!r}; expected {expected.__name__} such as {default!r}; correct config.json")


def _positive(given: int, what: str) -> int:
    if given < 1 and not what.startswith(CHECKED_ELSEWHERE):
        raise WeightsError(f"{what} is {given}; expected a whole number of at least 1; correct config.json")
    return given

"""What a measure over a data set says, together with the rules by which it was measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a protocol found: every choice that the numbers hang on, the numbers, and those of each sample."""

    protocol: Mapping[str, Any]
    scores: Mapping[str, float]
    samples: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data; a mean over nothing is None."""
        content: dict[str, Any] = plain({"protocol": self.protocol, "scores": self.scores, "samples": self.samples})
        return content


def plain(value: Any) -> Any:
    """Return nested mappings and sequences as dictionaries and lists, NaN as None.

    >>> plain({"a": (1, math.nan)})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

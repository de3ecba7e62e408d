"""The figures that VLTP's paper prints for SAM's image encoder, beside what its rule and the exact count give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from leanseg.costs.sam import sam


@dataclass(frozen=True)
class Published:
    """A row of the paper's Tables 3 to 8: stages as fractions kept, and 1e9 multiply-adds.

    `follows_rule` is False for rows that neither the rule of all other rows nor any other tried gives.
    """

    table: str
    size: str
    stages: dict[int, float] = field(hash=False)
    printed: int
    follows_rule: bool = True
    remark: str = ""
    is_guided: bool = True

    @property
    def by_rule(self) -> float:
        """What the paper's rule gives, in 1e9 multiply-adds."""
        return sam(self.size, self.stages).total * 1e3

    @property
    def exact(self) -> float:
        """What is really run, in 1e9 multiply-adds, with the prune decoder where it chooses."""
        cost = sam(self.size, self.stages, "exact")
        return (cost.total - (0 if self.is_guided else cost.parts["prune"])) * 1e3

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; figures are in 1e12 multiply-adds."""
        return {
            "table": self.table,
            "size": self.size,
            "stages": [{"after_block": place, "keep_ratio": ratio} for place, ratio in self.stages.items()],
            "printed": self.printed / 1e3,
            "by_rule": self.by_rule / 1e3,
            "exact": self.exact / 1e3,
            "remark": self.remark,
        }


PUBLISHED = (
    Published("3, 8", "h", {}, 2976),
    Published("3, 5, 6, 8", "h", {16: 0.5, 24: 0.5}, 2227),
    Published("4, 6", "h", {16: 0.3, 24: 0.3}, 1930),
    Published("4 to 8", "h", {16: 0.2, 24: 0.2}, 1782),
    Published("4", "h", {16: 0.1, 24: 0.1}, 1636),
    Published("5", "h", {8: 0.8}, 2529),
    Published("5", "h", {8: 0.6}, 2083),
    Published("5", "h", {8: 0.8, 16: 0.6}, 2232),
    Published("5", "h", {8: 0.8, 16: 0.4}, 1783, False),
    Published("5", "h", {8: 0.8, 16: 0.6, 24: 0.6}, 2232),
    Published("5", "h", {8: 0.8, 16: 0.6, 24: 0.4}, 1853, False),
    Published("5", "h", {8: 0.5, 16: 0.5, 24: 0.5}, 1860),
    Published("6", "h", {16: 0.5}, 2221),
    Published("6", "h", {16: 0.3}, 1923),
    Published("6", "h", {16: 0.2}, 1775),
    Published("7", "h", {16: 0.5}, 2297, False, "random choice", False),
    Published("8", "h", {16: 0.5, 24: 0.5}, 2224, True, "RIO uncommon"),
    Published("8", "h", {16: 0.5, 24: 0.5}, 2219, True, "COCO-Tasks"),
    Published("8", "h", {16: 0.2, 24: 0.2}, 1774, True, "RIO uncommon"),
    Published("8", "h", {16: 0.2, 24: 0.2}, 1771, True, "COCO-Tasks"),
    Published("8", "l", {}, 1491),
    Published("8", "l", {12: 0.5, 18: 0.5}, 1118),
    Published("8", "l", {12: 0.5, 18: 0.5}, 1121, True, "RIO uncommon"),
    Published("8", "l", {12: 0.5, 18: 0.5}, 1127, True, "COCO-Tasks"),
    Published("8", "l", {12: 0.2, 18: 0.2}, 895),
    Published("8", "l", {12: 0.2, 18: 0.2}, 901, True, "RIO uncommon"),
    Published("8", "l", {12: 0.2, 18: 0.2}, 905, True, "COCO-Tasks"),
)

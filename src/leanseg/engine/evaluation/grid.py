"""The rows of an evaluation: pruners at keep ratios, and the unpruned ones that belong into every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanseg.pruners import pruner

# What a row's name says behind the pruner's where kept tokens keep the mass of those they stand for.
MASS = ", mass kept"
UNPRUNED = ("ovp_only", "blind")
UNPRUNED_LABELS = {"all": "all tokens", "ovp_only": "ovp-only", "blind": "blind"}
"""What tables call the rows without a pruner."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the grid: a pruner spec with its keep ratio, or an unpruned visual mode.

    `options` go to `segment` in this row only, over those of the whole evaluation: `site`, `position_ids`, ...
    """

    name: str
    pruner: str | None = None
    keep_ratio: float | None = None
    visual: str = "all"
    options: Mapping[str, Any] = field(default_factory=dict)


def grid(
    pruners: Sequence[str],
    keep_ratios: Sequence[float],
    *,
    mass_preserving: bool = False,
    unpruned: Sequence[str] = UNPRUNED,
) -> tuple[Row, ...]:
    """Return all tokens, every pruner at every ratio, and the `unpruned` modes. Specs are checked before any work.

    A spec that sets its own keep ratio gives one row. `mass_preserving` adds each pruned row once more with it.
    """
    rows: dict[tuple[str, bool], Row] = {}
    for spec in pruners:
        for mass in (False, True) if mass_preserving else (False,):
            for ratio in keep_ratios or (None,):
                made = pruner(spec, keep_ratio=ratio, allow_files=False)
                row = Row(
                    name=f"{spec}{MASS if mass else ''}@{made.keep_ratio:g}", pruner=made.spec(),
                    keep_ratio=made.keep_ratio, options={"mass_preserving": True} if mass else {},
                )  # fmt: skip
                rows.setdefault((made.spec(), mass), row)
    return (Row(name="all", keep_ratio=1.0), *rows.values(), *(Row(name=mode, visual=mode) for mode in unpruned))

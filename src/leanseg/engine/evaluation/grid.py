"""The rows of an evaluation: pruners at keep ratios, and the unpruned ones that belong into every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanseg.core.budget import check_ratio
from leanseg.pruners import Pruner, pruner
from leanseg.pruners.registry import LEARNED

FAMILY_UNPRUNED = {"instructseg": ("ovp_only", "blind"), "vltp": ("blind",)}
# What a row's name says behind the pruner's where kept tokens keep the mass of those they stand for.
MASS = ", mass kept"
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


def chosen(row: Row) -> Pruner | str | None:
    """Return the pruner of a row, None where all is kept; the spec of one whose weights are inside the model."""
    if row.pruner is None or _is_learned(row.pruner):
        return row.pruner
    return pruner(row.pruner, allow_files=False)


def _is_learned(spec: str) -> bool:
    return spec.partition("(")[0].strip() in LEARNED


def grid(
    pruners: Sequence[str],
    keep_ratios: Sequence[float],
    *,
    mass_preserving: bool = False,
    family: str = "instructseg",
    unpruned: Sequence[str] | None = None,
) -> tuple[Row, ...]:
    """Return all tokens, every pruner at every ratio, and the `unpruned` modes (None: all of the family's).

    Specs are checked here, before any work.

    A spec that sets its own keep ratio gives one row. `mass_preserving` adds each pruned row once more with it. Of
    VLTP, "vltp" is the choice that it was trained to make; its all tokens are SAM without stages.
    """
    rows: dict[tuple[str, bool], Row] = {}
    for spec in pruners:
        if family == "vltp" and spec in LEARNED:
            for share in map(check_ratio, keep_ratios):
                row = Row(name=f"{spec}@{share:g}", pruner=f"{spec}(keep_ratio={share:g})", keep_ratio=share)
                rows[str(row.pruner), False] = row
            continue
        for mass in (False, True) if mass_preserving else (False,):
            for ratio in keep_ratios or (None,):
                made = pruner(spec, keep_ratio=ratio, allow_files=False)
                row = Row(
                    name=f"{spec}{MASS if mass else ''}@{made.keep_ratio:g}", pruner=made.spec(),
                    keep_ratio=made.keep_ratio, options={"mass_preserving": True} if mass else {},
                )  # fmt: skip
                rows.setdefault((made.spec(), mass), row)
    everything: dict[str, Any] = {"stages": ()} if family == "vltp" else {}
    modes = FAMILY_UNPRUNED[family] if unpruned is None else unpruned
    blind = (Row(name=mode, visual=mode, options=everything) for mode in modes)
    return (Row(name="all", keep_ratio=1.0, options=everything), *rows.values(), *blind)

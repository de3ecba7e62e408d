"""The comparisons as data: which models are fine-tuned from which, and which rows are measured for which table.

Places mirror the paper's: 2, 4 and 6 of 8 blocks are its 8, 16 and 24 of 32. Ratios are fractions KEPT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Stages = tuple[tuple[int, float], ...]
BASE, HALF = "base", "half"
"""The model before any stage was learnt, and the one that learnt to keep half: the shipped one."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A fine-tune of `start` to `stages`; `prune` = what moves (`train.vltp.stages.PRUNING`).

    `seed` is that of the pictures, of their order and of new weights.
    """

    name: str
    stages: Stages
    start: str = HALF
    method: str = "vltp"
    prune: str = "both"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of table `table`: a model with stages; `guidance`: "own", or a control.

    Controls: "zero"; "shuffled" = another picture's, for stages and mask alike; "shuffled at stages" = there only.
    """

    table: str
    label: str
    model: str
    stages: Stages
    reactivate: bool = True
    guidance: str = "own"
    pruner: str | None = None
    """Who chooses instead of the model's own method, of `ENCODERS`."""

    @property
    def name(self) -> str:
        """What tells the row from all others."""
        return f"{self.table}: {self.label}"


def both(keep: float) -> Stages:
    """Return the headline's two stages."""
    return ((4, keep), (6, keep))


# The model of 80 % is the one that methods are compared with.
_RATES = (("50", 0.5, HALF), ("70", 0.3, "keep30"), ("80", 0.2, "vltp-80"), ("90", 0.1, "keep10"))

_POSITIONS: dict[str, Stages] = {
    "{2} 20": ((2, 0.8),),
    "{2} 40": ((2, 0.6),),
    "{2, 4} 20, 40": ((2, 0.8), (4, 0.6)),
    "{2, 4} 20, 60": ((2, 0.8), (4, 0.4)),
    "{2, 4, 6} 20, 40, 40": ((2, 0.8), (4, 0.6), (6, 0.6)),
    "{2, 4, 6} 20, 40, 60": ((2, 0.8), (4, 0.6), (6, 0.4)),
    "{2, 4, 6} 50, 50, 50": ((2, 0.5), (4, 0.5), (6, 0.5)),
}

# Two rates each. Those of CTS and SViT are chosen for the multiply-adds of VLTP's 50 and 80 %.
_METHODS: dict[str, tuple[str, Stages]] = {
    "vltp, 50 %": ("vltp", both(0.5)),
    "vltp, 80 %": ("vltp", both(0.2)),
    "random, 50 %": ("random", both(0.5)),
    "random, 80 %": ("random", both(0.2)),
    "cts, 22 % from the start": ("cts", ((0, 0.78),)),
    "cts, 34 % from the start": ("cts", ((0, 0.66),)),
    "svit, 35 % asked for": ("svit", ((4, 0.65),)),
    "svit, 60 % asked for": ("svit", ((4, 0.4),)),
}


def _slug(label: str) -> str:
    """Return a folder's name.

    >>> _slug("{2, 4} 20, 60")
    '2-4-20-60'
    """
    return re.sub("[^a-z0-9]+", "-", label).strip("-")


def _of_seed(label: str, seed: int) -> str:
    return f"{label}, seed {seed}" if seed else label


TUNINGS: tuple[Tuning, ...] = (
    Tuning(name="half_decoder", stages=both(0.5), start=BASE, prune="decoder"),
    Tuning(name="keep30", stages=both(0.3)),
    Tuning(name="keep10", stages=both(0.1)),
    *(Tuning(name=_slug(label), stages=stages) for label, stages in _POSITIONS.items()),
    *(
        Tuning(name=_slug(_of_seed(label, seed)), stages=stages, method=method, seed=seed)
        for seed in (0, 1)
        for label, (method, stages) in _METHODS.items()
    ),
    Tuning(name="dtop", stages=((2, 1.0), (5, 1.0)), method="dtop"),
)

ROWS: tuple[Row, ...] = (
    Row(table="training", label="no pruning", model=HALF, stages=()),
    Row(table="training", label="no pruning, before stages were learnt", model=BASE, stages=()),
    Row(table="training", label="direct: prune decoder of random weights", model=BASE, stages=both(0.5)),
    Row(table="training", label="prune decoder alone", model="half_decoder", stages=both(0.5)),
    Row(table="training", label="prune decoder and mask decoder", model=HALF, stages=both(0.5)),
    *(Row(table="rates", label=f"{rate} % zero shot", model=HALF, stages=both(keep)) for rate, keep, _ in _RATES),
    *(Row(table="rates", label=f"{rate} % fine-tuned", model=own, stages=both(keep)) for rate, keep, own in _RATES[1:]),
    *(Row(table="positions", label=label, model=_slug(label), stages=stages) for label, stages in _POSITIONS.items()),
    Row(table="positions", label="{4, 6} 50, 50", model=HALF, stages=both(0.5)),
    Row(table="positions", label="{4, 6} 80, 80", model="vltp-80", stages=both(0.2)),
    *(
        Row(table="reactivation", label=f"{rate} % {what}", model=own, stages=stages, reactivate=again)
        for rate, keep, own in _RATES[:3]
        for what, stages, again in (
            ("at {4}", ((4, keep),), True),
            ("at {4, 6}", both(keep), True),
            ("at {4, 6}, nobody comes back", both(keep), False),
        )
    ),
    *(
        Row(table=table, label=label, model=_slug(_of_seed(label, seed)), stages=stages)
        for seed, table in enumerate(("methods", "methods_again"))
        for label, (_, stages) in _METHODS.items()
    ),
    Row(table="methods", label="dtop", model="dtop", stages=((2, 1.0), (5, 1.0))),
    *(
        Row(table="untrained", label=f"{spec}, {rate} %", model=HALF, stages=both(keep), pruner=spec)
        for spec in ("guidance_similarity", "evtp", "kcenter")
        for rate, keep in (("50", 0.5), ("80", 0.2))
    ),
    *(
        Row(table="guidance", label=f"{kind}, {rate} %", model=own, stages=both(keep), guidance=kind)
        for rate, keep, own in (_RATES[0], _RATES[2])
        for kind in ("own", "shuffled at stages", "shuffled", "zero")
    ),
)

"""What pruning can save at most: the share of each stage, and the speed-up of the whole that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from leanseg.costs.cost import Cost
from leanseg.costs.profile import UNIFORM, Profile


@dataclass(frozen=True, kw_only=True)
class StageShare:
    """One stage of an unpruned answer; `saved` is what each budget takes off it, all as fractions of the whole.

    `pruned` says whether the stage's work depends on the number of visual tokens. The selection's own work is negative.
    """

    stage: str
    share: float
    pruned: bool
    saved: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Amdahl:
    """The stages, and for each budget the expected speed-up of the whole answer.

    `limit` is the speed-up if every pruned stage were free; `floor` that with one visual token left, which no pruner
    can pass: text, temporal tokens and mask queries stay in the pruned stages.
    """

    dataset: str
    mode: str
    profile: str
    total_s: float
    stages: tuple[StageShare, ...]
    budgets: tuple[int, ...]
    speedups: tuple[float, ...]
    limit: float
    floor: float

    @property
    def pruned_share(self) -> float:
        """Fraction of the unpruned whole that is spent in pruned stages."""
        return sum(stage.share for stage in self.stages if stage.pruned)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "pruned_share": self.pruned_share}


def amdahl(full: Cost, least: Cost, budgets: Sequence[Cost], profile: Profile = UNIFORM) -> Amdahl:
    """Compare the costs of all tokens, of one token and of some budgets on a machine.

    The uniform profile gives every multiply-add the same time, so that shares are shares of the count.
    """
    whole, one = profile.seconds(full), profile.seconds(least)
    total = sum(whole.values())
    pruned = [profile.seconds(cost) for cost in budgets]
    stages = tuple(
        StageShare(
            stage=stage,
            share=seconds / total,
            pruned=one[stage] < seconds and stage != "select",
            saved=tuple((seconds - each[stage]) / total for each in pruned),
        )
        for stage, seconds in whole.items()
    )
    rest = 1 - sum(stage.share for stage in stages if stage.pruned)
    return Amdahl(
        dataset=full.dataset,
        mode=full.mode,
        profile=profile.name,
        total_s=total,
        stages=stages,
        budgets=tuple(cost.visual_tokens for cost in budgets),
        speedups=tuple(total / sum(each.values()) for each in pruned),
        limit=1 / rest,
        floor=total / sum(one.values()),
    )

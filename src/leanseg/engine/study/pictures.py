"""The evaluation that studies of pictures share: EVTP and its rivals at ten keep ratios, on the test scenes."""

from __future__ import annotations

from leanseg.engine.evaluation.request import DEFAULT_PRUNERS, Request
from leanseg.engine.study.base import Setup

KEEP_RATIOS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)


def pictures(setup: Setup) -> dict[str, Request]:
    """Return the evaluation of the test scenes, an instruction each."""
    return {"pictures": dense(setup, "pictures", "test")}


def dense(setup: Setup, key: str, split: str) -> Request:
    """Return an evaluation at all ten keep ratios of a split of the generated scenes, with the targets' areas."""
    return setup.request(
        key, data=f"scenes:{split}", pruners=DEFAULT_PRUNERS, keep_ratios=KEEP_RATIOS, facts=("target",)
    )

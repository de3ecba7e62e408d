"""The evaluation that studies of pictures share: EVTP and its rivals at ten keep ratios, on the test scenes."""

from __future__ import annotations

from leanseg.engine.evaluation.request import DEFAULT_PRUNERS, Request
from leanseg.engine.study.base import Setup

KEEP_RATIOS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
PAPER_RATIOS = (0.2, 0.1, 0.05)
"""Those that the paper reports."""


def pictures(setup: Setup) -> dict[str, Request]:
    """Return the evaluation of the test scenes, an instruction each."""
    return {"pictures": scenes(setup, "pictures", "test", KEEP_RATIOS, 450)}


def scenes(
    setup: Setup, key: str, split: str, keep_ratios: tuple[float, ...] = PAPER_RATIOS, count: int | None = None
) -> Request:
    """Return an evaluation of a split of the generated scenes, the first `count` of them, with the targets' areas."""
    return setup.request(
        key, scenes=count, data=f"scenes:{split}", pruners=DEFAULT_PRUNERS, keep_ratios=keep_ratios, facts=("target",)
    )

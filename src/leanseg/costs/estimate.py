"""The public functions, one per model: from names and options to a checked `Cost`."""

from __future__ import annotations

from typing import Any

from leanseg.core.budget import keep_count
from leanseg.costs import instructseg_exact, instructseg_paper, readings
from leanseg.costs.cost import Cost
from leanseg.costs.datasets import find
from leanseg.costs.readings import READINGS, ExactReadings, PaperReadings
from leanseg.errors import BudgetError, InputError, unknown_name

DEFAULT_VISUAL_TOKENS = 146
MODES = tuple(READINGS)


def instructseg(
    dataset: str = "refcoco",
    visual_tokens: int | None = None,
    mode: str = "paper",
    *,
    keep_ratio: float | None = None,
    **options: Any,
) -> Cost:
    """Return what InstructSeg costs for one answer on a typical input of a data set.

    `visual_tokens` is K per frame (146 if neither it nor `keep_ratio` is given). Mode "paper" evaluates the closed
    forms of the paper's supplement, options `PaperReadings`; mode "exact" counts what is run, options `ExactReadings`.

    >>> round(instructseg("refcoco", 729).total, 4), round(instructseg("refcoco", keep_ratio=0.2).total, 4)
    (2.5599, 0.9082)
    """
    kind = find(dataset)
    if mode not in READINGS:
        raise InputError(unknown_name("mode", str(mode), READINGS))
    if mode == "paper":
        paper = readings.read(PaperReadings, options)
        kept = _kept(visual_tokens, keep_ratio, instructseg_paper.N)
        return Cost(
            model="instructseg",
            dataset=dataset,
            mode=mode,
            text_tokens=kind.text_tokens,
            visual_tokens=kept,
            n_tokens=instructseg_paper.N,
            frames=kind.frames,
            sequence_length=instructseg_paper.sequence_length(kind, kept, paper),
            counts=tuple(instructseg_paper.counts(kind, kept, paper).items()),
            readings=readings.stated(paper),
        )
    exact = readings.read(ExactReadings, options)
    kept = _kept(visual_tokens, keep_ratio, exact.sizes.n_tokens)
    return Cost(
        model="instructseg",
        dataset=dataset,
        mode=mode,
        text_tokens=instructseg_exact.text_tokens(kind, exact),
        visual_tokens=kept,
        n_tokens=exact.sizes.n_tokens,
        frames=instructseg_exact.n_references(kind, exact.sizes),
        sequence_length=instructseg_exact.sequence_length(kind, kept, exact),
        counts=tuple(instructseg_exact.counts(kind, kept, exact).items()),
        readings=readings.stated(exact),
    )


def _kept(visual_tokens: int | None, keep_ratio: float | None, n_tokens: int) -> int:
    if visual_tokens is not None and keep_ratio is not None:
        raise BudgetError(
            f"visual_tokens={visual_tokens} and keep_ratio={keep_ratio} are both given; expected one: drop the other"
        )
    if keep_ratio is not None:
        return keep_count(n_tokens, keep_ratio)
    if visual_tokens is None:
        return min(DEFAULT_VISUAL_TOKENS, n_tokens)
    if isinstance(visual_tokens, bool) or not isinstance(visual_tokens, int) or not 1 <= visual_tokens <= n_tokens:
        raise BudgetError(f"visual_tokens is {visual_tokens!r}; expected a whole number of 1 to {n_tokens} per frame")
    return visual_tokens

"""How studies write numbers and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leanseg.engine.evaluation.grid import UNPRUNED_LABELS


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(table(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def label(row: str) -> str:
    """Return what tables call a row.

    >>> label("ovp_only"), label("evtp")
    ('ovp-only', 'evtp')
    """
    return UNPRUNED_LABELS.get(row, row)


def percent(keep_ratio: float) -> str:
    """Return a keep ratio as a reader sees it.

    >>> percent(0.05)
    '5 %'
    """
    return f"{100 * keep_ratio:g} %"


def with_half(interval: Mapping[str, float]) -> str:
    """Return a mean and half its interval.

    >>> with_half({"mean": 0.5, "low": 0.4, "high": 0.6})
    '0.500 ± 0.100'
    """
    return f"{interval['mean']:.3f} ± {(interval['high'] - interval['low']) / 2:.3f}"


def with_ends(interval: Mapping[str, float]) -> str:
    """Return a difference and the ends of its interval, bold where 0 is outside.

    >>> with_ends({"mean": 0.02, "low": 0.01, "high": 0.03})
    '**+0.020** (+0.010 to +0.030)'
    """
    mean = f"{interval['mean']:+.3f}"
    return f"{f'**{mean}**' if excludes_zero(interval) else mean} ({interval['low']:+.3f} to {interval['high']:+.3f})"


def excludes_zero(interval: Mapping[str, float]) -> bool:
    """Return whether an interval lies on one side of 0."""
    return interval["low"] > 0 or interval["high"] < 0


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"

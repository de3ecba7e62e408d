"""Rows of one evaluation compared by sample, and what the differences say in a table and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leanseg.engine.study.markdown import label, listed
from leanseg.engine.study.measured import Array
from leanseg.metrics.comparison import compare

Difference = dict[str, Any]
"""`first` - `second`: `mean`, `low` and `high` of this difference alone, corrected `p`, and whether it stands."""
BOLD = "bold where it stands after Holm's correction"
_NOTHING = "nothing"
_DIGITS = 5


def differences(
    values: Mapping[str, Array], pairs: Sequence[tuple[str, str]], *, n_resamples: int = 10_000
) -> list[Difference]:
    """Return first - second of each pair of rows, paired by sample, Holm-corrected over all the pairs together.

    p is the larger of the corrected ones of the bootstrap and of Student's t.
    """
    series = {f"{first} - {second}": values[first] - values[second] for first, second in pairs}
    nothing = np.zeros(len(values[pairs[0][0]]))
    found = compare({_NOTHING: nothing, **series}, against=_NOTHING, n_resamples=n_resamples)
    return [
        {
            "first": first,
            "second": second,
            "mean": round(each.difference, _DIGITS),
            "low": round(each.low, _DIGITS),
            "high": round(each.high, _DIGITS),
            "p": float(f"{max(each.p_bootstrap_adjusted, each.p_t_adjusted):.3g}"),
            "significant": each.significant,
        }
        for (first, second), each in zip(pairs, found, strict=True)
    ]


def cell(difference: Mapping[str, Any]) -> str:
    """Return a difference with its own interval, bold where it stands among all that it was corrected with.

    >>> cell({"mean": 0.02, "low": 0.01, "high": 0.03, "significant": True})
    '**+0.020** (+0.010 to +0.030)'
    """
    mean = f"{difference['mean']:+.3f}"
    bold = f"**{mean}**" if difference["significant"] else mean
    return f"{bold} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def verdict(found: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Return in words which rows are better than what they are compared with, which worse, which not told apart.

    `names` says how a row is called where its name is not to be shown.

    >>> one = {"first": "a", "mean": 0.1, "significant": True}
    >>> verdict([one, {**one, "first": "b", "significant": False}])
    'better: a; worse: none; not told apart: b'
    """
    groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for each in found:
        group = "not told apart" if not each["significant"] else "better" if each["mean"] > 0 else "worse"
        groups[group].append((names or {}).get(each["first"], label(each["first"])))
    return "; ".join(f"{group}: {listed(members)}" for group, members in groups.items())

"""Coverage radii in studies: what they are called, and their correlations in records and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leanseg.engine.study.markdown import excludes_zero, listed
from leanseg.metrics.comparison import adjusted
from leanseg.metrics.correlation import Correlation

RADII = {
    f"{space}_{what}": f"{word} {name} distance"
    for space, name in (("feature", "feature"), ("spatial", "grid"), ("joint", "joint"))
    for what, word in (("max", "largest"), ("mean", "mean"))
}
"""What is measured of the distances from each token to its nearest kept token (`leanseg.metrics.coverage`)."""
IN_PLOTS = tuple(f"{space}_{what}" for what in ("max", "mean") for space in ("feature", "spatial", "joint"))
METHODS = ("spearman", "pearson")
LEVEL = 0.05
_DIGITS = 4


def plain(found: Correlation) -> dict[str, Any]:
    """Return a correlation as a record keeps it."""
    items = found.to_json().items()
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in items}


def correct(found: Sequence[dict[str, Any]]) -> None:
    """Add to each correlation its p, Holm-corrected over all of these; one that is not defined counts as p = 1."""
    p_values = adjusted([1.0 if each["p"] is None else each["p"] for each in found])
    for each, p in zip(found, p_values, strict=True):
        each["p_adjusted"] = float(f"{p:.3g}")


def signed(coefficient: float | None) -> str:
    """Return a coefficient as tables and titles have it.

    >>> signed(0.5), signed(None)
    ('+0.50', 'not defined')
    """
    return "not defined" if coefficient is None else f"{coefficient:+.2f}"


def with_interval(found: Mapping[str, Any]) -> str:
    """Return a correlation and its interval, bold where 0 is outside.

    >>> with_interval({"coefficient": -0.5, "low": -0.8, "high": -0.1})
    '**-0.50** (-0.80 to -0.10)'
    """
    shown = signed(found["coefficient"])
    if found["coefficient"] is None:
        return shown
    return f"{f'**{shown}**' if excludes_zero(found) else shown} ({found['low']:+.2f} to {found['high']:+.2f})"


def direction(found: Mapping[str, Any]) -> int:
    """Return the sign of a correlation, 0 where its interval holds 0 or nothing is defined."""
    if found["coefficient"] is None or not excludes_zero(found):
        return 0
    return 1 if found["low"] > 0 else -1


def named(radii: Sequence[str]) -> str:
    """Return radii as a sentence lists them.

    >>> named(["feature_max", "joint_mean"]), named(list(RADII))
    ('largest feature distance and mean joint distance', 'all six distances')
    """
    return "all six distances" if len(radii) == len(RADII) else listed([RADII[radius] for radius in radii])

"""What the plots of studies have in common: a figure, a mark and a colour for each pruner, a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanseg.engine.bench.select_plot import check_plot

SUBJECT = "instructseg-nano on generated scenes"
STYLES = {
    "evtp": ("o", "#1f5fa8"), "kcenter": ("s", "#5aa0dc"), "divprune": ("^", "#2a9d62"), "visionzip": ("D", "#c2563a"),
    "vispruner": ("v", "#e0923f"), "tome": ("P", "#8a5aa8"), "uniform": ("X", "#555555"), "random": ("*", "#999999"),
}  # fmt: skip
_OTHERS = ("<", ">", "p", "h", "d", "H")
UNPRUNED_STYLES = {"all": "-", "ovp_only": "--", "blind": ":"}
UNPRUNED_MARKS = {"all": {"marker": "H"}, "ovp_only": {"marker": "+"}, "blind": {"marker": "x"}}

__all__ = ["SUBJECT", "UNPRUNED_MARKS", "UNPRUNED_STYLES", "axes_grid", "check_plot", "save", "style", "write"]


def style(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return how matplotlib draws a pruner's points: the same in every study, others in the order of `names`."""
    if name in STYLES:
        marker, colour = STYLES[name]
        return {"marker": marker, "color": colour}
    others = [each for each in names if each not in STYLES]
    number = others.index(name)
    return {"marker": _OTHERS[number % len(_OTHERS)], "color": f"C{number % 10}"}


def axes_grid(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, list[Any]]:
    """Return a figure of this size in inches and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = [each for row in figure.subplots(rows, columns, squeeze=False, **options) for each in row]
    for each in axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, axes: Any, path: Path, columns: int = 6) -> None:
    """Put the legend of `axes` below the figure and write the file."""
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    write(figure, path)


def write(figure: Any, path: Path) -> None:
    """Write the file, and its folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

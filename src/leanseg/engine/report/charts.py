"""The plots of a report, as SVG text that stands in the page itself."""

from __future__ import annotations

import io
from typing import Any

from leanseg.engine.tables import UNPRUNED_LABELS
from leanseg.errors import InputError

_LINES = {"all": "-", "ovp_only": "--", "blind": ":"}
_MARKS = ("o-", "s-", "^-", "v-", "D-", "P-", "X-", "<-", ">-", "*-")


def retention_chart(summary: list[dict[str, Any]], label: str) -> str:
    """Draw each pruner's score against the share of tokens kept, with the interval of the mean over samples."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError('plots need matplotlib; install it with: pip install "leanseg[train]"') from error
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row["name"].rsplit("@", 1)[0] for row in summary if row["pruner"]))
    for number, name in enumerate(names):
        mine = sorted(
            (row for row in summary if row["pruner"] and row["name"].rsplit("@", 1)[0] == name),
            key=lambda row: float(row["keep_ratio"]),
        )
        ratios, scores = [100 * row["keep_ratio"] for row in mine], [row["score"] for row in mine]
        axes.plot(ratios, scores, _MARKS[number % len(_MARKS)], label=name, markersize=4, linewidth=1.3)
        axes.fill_between(ratios, [row["low"] for row in mine], [row["high"] for row in mine], alpha=0.07)
    for row in summary:
        if row["name"] in _LINES:
            said = UNPRUNED_LABELS[row["name"]]
            axes.axhline(row["score"], color="0.35", linestyle=_LINES[row["name"]], linewidth=1.2, label=said)
    axes.set(xlabel="tokens kept, %", ylabel=label)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]

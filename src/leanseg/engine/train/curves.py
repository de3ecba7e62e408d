"""Draws the loss curves of a run from its logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a stage's log; a half-written last line is left out."""
    rows = []
    for text in path.read_text().splitlines():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    return rows


def draw_curves(logs: Sequence[Path], out: Path) -> Path:
    """Draw one panel per stage: every loss against steps, on a logarithmic axis."""
    from matplotlib.figure import Figure

    present = [path for path in logs if path.exists()]
    columns = min(4, max(1, len(present)))
    lines = -(-max(1, len(present)) // columns)
    figure = Figure(figsize=(5 * columns, 4 * lines), layout="constrained")
    for index, path in enumerate(present):
        rows = [row for row in read_log(path) if "total" in row]
        axes = figure.add_subplot(lines, columns, index + 1)
        for name in sorted({key for row in rows for key in row} - {"step", "seconds", "learning_rate", "norm"}):
            points = [(row["step"], row[name]) for row in rows if row.get(name, 0) > 0]
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=2 if name == "total" else 1)
        axes.set(title=path.stem, xlabel="step", ylabel="loss", yscale="log")
        if rows:
            axes.legend(fontsize=7)
    figure.savefig(out, dpi=110)
    return out

"""The plot of the record that `leanseg bench select` writes: time against the number of points, and of picks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from leanseg.engine.bench.select_tables import OURS, part
from leanseg.errors import InputError

_STYLES = ("o-", "s--", "^--", "v--", "D--", "P--", "X--")


def check_plot(path: Path) -> None:
    """Check that a plot can be drawn into a file of this name.

    Raises:
        InputError: matplotlib is not installed, or the name's ending is none that it can draw.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"the plot is {path.name!r}; expected a name that ends in .png, .svg or .pdf")
    if find_spec("matplotlib") is None:
        raise InputError('plots need matplotlib; install it with: pip install "leanseg[bench]"')


def plot_select(record: dict[str, Any], path: Path) -> None:
    """Draw the engines' times on smooth points: on the left against N at a fifth kept, on the right against K."""
    check_plot(path)
    from matplotlib.figure import Figure

    samples = [s for s in part(record, "engines") if s["points"] == "smooth" and "error" not in s]
    picture = record["sizes"]["side"] ** 2
    names = list(dict.fromkeys(sample["name"] for sample in samples))
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    largest = {n: max(s["k"] for s in samples if s["n"] == n) for n in {s["n"] for s in samples}}
    for style, name in zip(_STYLES, names, strict=False):
        mine = [sample for sample in samples if sample["name"] == name]
        by_n = sorted((s["n"], s["cpu_ms"]) for s in mine if s["k"] == largest[s["n"]])
        by_k = sorted((s["k"], s["cpu_ms"]) for s in mine if s["n"] == picture)
        for axes, points in ((left, by_n), (right, by_k)):
            axes.plot(*zip(*points, strict=True), style, label=name, linewidth=2.4 if name == OURS else 1.2)
    share = f"{max(largest.values()) / max(largest):.0%}"
    left.set(xscale="log", yscale="log", xlabel=f"points N, of which {share} are picked", ylabel="one CPU thread, ms")
    right.set(xlabel=f"picks K of {picture} points")
    left.set_xticks(sorted(largest), labels=[str(n) for n in sorted(largest)], minor=False)
    left.minorticks_off()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    right.set_ylim(bottom=None)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

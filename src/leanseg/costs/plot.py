"""Costs as a picture: one bar per budget, one colour per part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanseg.costs.report import Row
from leanseg.errors import InputError

# Bars: label, colour and parts; what is too thin to be seen stands together.
BARS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("language model", "#35618f", ("lm",)),
    ("SigLIP", "#e0a526", ("vision",)),
    ("Swin", "#b2524d", ("swin",)),
    ("pixel decoder", "#d78a86", ("pixel_decoder",)),
    ("OVP, VMTF, mask decoder, projector, selection", "#555555", ("temporal", "vmtf", "mask", "projector", "prune")),
)
SUFFIXES = (".png", ".svg", ".pdf")


def draw(panels: Sequence[tuple[str, Sequence[Row]]], out: Path) -> Path:
    """Draw one panel per (title, rows) on a common scale and write the file."""
    check_target(out)
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise InputError('drawing needs matplotlib; install it with: pip install "leanseg[train]"') from error
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6 * columns, 0.6 + 2.2 * lines), layout="constrained")
    most = max(row.cost.total for _, rows in panels for row in rows)
    for index, (title, rows) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        for place, row in enumerate(reversed(rows)):
            start = 0.0
            for _, colour, parts in BARS:
                value = sum(row.cost.parts.get(part, 0.0) for part in parts)
                axes.barh(place, value, left=start, color=colour, height=0.72)
                start += value
            text = (
                f"{start:.2f}" if row.speedup == 1 else f"{start:.2f}  (x{row.speedup:.2f}, LM x{row.lm_speedup:.2f})"
            )
            axes.text(start + 0.01 * most, place, text, va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [str(row.cost.visual_tokens) for row in reversed(rows)])
        axes.set_xlim(0, 1.32 * most)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel("tokens kept", fontsize=8, labelpad=7)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if index >= len(panels) - columns:
            axes.set_xlabel("$10^{12}$ multiply-adds per answer (times 2 = TFLOPs)", fontsize=8)
    patches = [Patch(color=colour, label=label) for label, colour, _ in BARS]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(out, dpi=130)
    return out


def check_target(out: Path) -> None:
    """Refuse a file that cannot be drawn, before any work."""
    if out.suffix not in SUFFIXES:
        raise InputError(f"cannot draw {out.name!r}; expected a name that ends in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise InputError(f"no folder {out.parent} for {out.name}; make it first")

"""The Markdown table of the record that `leanseg bench metrics` writes."""

from __future__ import annotations

from typing import Any

KIND = "bench_metrics"
OURS = "leanseg"


def metrics_table(record: dict[str, Any]) -> str:
    """Return each task with the times of leanseg and of the public way, and by how much they differ."""
    named = {(sample["task"], sample["name"]): sample for sample in record["samples"]}
    names = list(dict.fromkeys(name for _, name in named))
    lines = ["| what is scored | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for task in dict.fromkeys(task for task, _ in named):
        cells = [_cell(named.get((task, name)), named[task, OURS]) for name in names]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(sample: dict[str, Any] | None, ours: dict[str, Any]) -> str:
    if sample is None:
        return ""
    time = sample["cpu_ms"]
    shown = f"{time:.2f} ms" if time < 10 else f"{time:.0f} ms"
    if sample is ours:
        return shown
    same = "" if sample["largest_difference"] == 0 else f", differs by {sample['largest_difference']:.0e}"
    return f"{shown} ({time / ours['cpu_ms']:.1f} x{same})"

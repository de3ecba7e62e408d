"""Markdown tables of the record that `leanseg bench select` writes."""

from __future__ import annotations

from typing import Any

KIND = "bench_select"
Sample = dict[str, Any]
OURS = "leanseg"
# What each kind of made-up points is called where a reader sees it.
POINTS = {"smooth": "smooth, much like an encoder's tokens", "normal": "standard normal, the hard case"}


def part(record: dict[str, Any], name: str) -> list[Sample]:
    """Return the samples of one part of the record."""
    return [sample for sample in record["samples"] if sample["part"] == name]


def speed_table(record: dict[str, Any]) -> str:
    """Return farthest-first by every engine: milliseconds, and how many times those of leanseg."""
    tables = []
    for kind, label in POINTS.items():
        samples = [sample for sample in part(record, "engines") if sample["points"] == kind]
        sizes = sorted({(sample["n"], sample["k"]) for sample in samples})
        named = {(sample["name"], sample["n"], sample["k"]): sample for sample in samples}
        lines = [
            f"| points: {label} | " + " | ".join(f"{k} of {n}" for n, k in sizes) + " |",
            "|---" * (len(sizes) + 1) + "|",
        ]
        for name in dict.fromkeys(sample["name"] for sample in samples):
            cells = [_compared(named.get((name, *size)), named.get((OURS, *size))) for size in sizes]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def methods_table(record: dict[str, Any]) -> str:
    """Return every method with its milliseconds, and beside two of them what published code takes."""
    samples = part(record, "methods")
    published = {(s["name"], s["n"], s["k"]): s for s in part(record, "published")}
    sizes = sorted({(sample["n"], sample["k"]) for sample in samples})
    named = {(sample["name"], sample["n"], sample["k"]): sample for sample in samples}
    lines = ["| method | " + " | ".join(f"{k} of {n}" for n, k in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name in dict.fromkeys(sample["name"] for sample in samples):
        lines.append(f"| {name} | " + " | ".join(_time(named.get((name, *size))) for size in sizes) + " |")
        rivals = [_compared(published.get((name, *size)), named.get((name, *size))) for size in sizes]
        if any(rivals):
            lines.append(f"| {name}, as published | " + " | ".join(rivals) + " |")
    return "\n".join(lines)


def attention_table(record: dict[str, Any]) -> str:
    """Return received attention in chunks beside the whole map of all pairs."""
    lines = ["| received attention | time | memory at its peak | largest difference |", "|---|---|---|---|"]
    for sample in part(record, "attention"):
        size = f"{sample['heads']} heads, {sample['n']} tokens, width {sample['d']}"
        if "error" in sample:
            lines.append(f"| {sample['name']}, {size} | failed | | |")
            continue
        memory, difference = f"{sample['peak_mib']:.1f} MiB", f"{sample['largest_difference']:.0e}"
        lines.append(f"| {sample['name']}, {size} | {_time(sample)} | {memory} | {difference} |")
    return "\n".join(lines)


def details_table(record: dict[str, Any]) -> str:
    """Return the rest: first picks, batches, what a process's first selection takes, and what failed."""
    lines = ["| what | measured |", "|---|---|"]
    for sample in part(record, "starts"):
        lines.append(f"| {sample['name']} of {sample['n']} points ({sample['points']}) | {_time(sample)} |")
    batches = {sample["batch"]: sample for sample in part(record, "batches") if "error" not in sample}
    if set(batches) == {1, 4}:
        times = batches[4]["cpu_ms"] / batches[1]["cpu_ms"]
        lines.append(f"| a batch of 4, {batches[4]['k']} of {batches[4]['n']} each | {times:.2f} x a batch of 1 |")
    for name, seconds in record["first_call_s"].items():
        label = "machine code kept from an earlier process" if name == "kept" else "compiling"
        lines.append(
            f"| first selection of a process, {label} | {'failed' if seconds is None else f'{seconds:.1f} s'} |"
        )
    for sample in part(record, "cuda"):
        lines.append(
            f"| {sample['name']}, {sample['k']} of {sample['n']}, batch {sample['batch']} | "
            + (
                f"{sample['cuda_ms']:.3f} ms, {sample['synchronisations']} waits |"
                if "cuda_ms" in sample
                else "failed |"
            )
        )
    failed = [sample for sample in record["samples"] if "error" in sample]
    lines += [f"| {s['name']}, {s.get('k', '')} of {s['n']} | {s['error']} |".replace("\n", " ") for s in failed]
    return "\n".join(lines)


def _time(sample: Sample | None) -> str:
    if sample is None:
        return ""
    if "error" in sample:
        return "failed"
    value = sample["cpu_ms"]
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def _compared(sample: Sample | None, ours: Sample | None) -> str:
    if sample is None or sample is ours or ours is None or "error" in sample or "error" in ours:
        return _time(sample)
    text = f"{_time(sample)} ({sample['cpu_ms'] / ours['cpu_ms']:.1f} x)"
    if "kept_agreed" in sample:
        return text if sample["kept_agreed"] == sample["k"] else f"{text}, {sample['kept_agreed']} tokens the same"
    return text if sample["picks_agreed"] == sample["k"] else f"{text}, the first {sample['picks_agreed']} picks equal"

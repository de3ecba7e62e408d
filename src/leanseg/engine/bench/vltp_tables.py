"""Markdown tables of the record that `leanseg bench vltp` writes."""

from __future__ import annotations

from statistics import median
from typing import Any

KIND = "bench_vltp"
DECODER = "mask decoder"
# Of the multiply-adds that are saved, so much at least must be saved in time.
GATE = 0.8
# Table 1 of the paper (arXiv:2409.08464): one picture, one text, an RTX A6000, SAM of size h.
PAPER_MS = {"guide": 71.0, "image encoder": 97.7, DECODER: 8.9}
Sample = dict[str, Any]


def settings(record: dict[str, Any]) -> list[list[Sample]]:
    """Return the encoder's samples, all repeats of one setting together, in the order in which they were made."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in record["samples"]:
        if sample["part"] == "encoder":
            groups.setdefault((sample["size"], *sample["after"], sample["dropped"]), []).append(sample)
    return list(groups.values())


def saved(samples: list[Sample], clock: str) -> list[float]:
    """Return of each repeat the share of time that the stages saved; of `macs`, that of multiply-adds."""
    return [1 - _sum(sample["staged"][clock]) / _sum(sample["plain"][clock]) for sample in samples]


def realised(samples: list[Sample], clock: str) -> float:
    """Return how much of the saved multiply-adds is saved in time, by the median of the repeats."""
    return median(saved(samples, clock)) / median(saved(samples, "macs"))


def speed_table(record: dict[str, Any]) -> str:
    """Return every setting: times, what is saved in time and in multiply-adds, and their quotient beside the gate."""
    clock = record["clock"]
    lines = [
        "| SAM | dropped after block | kept of "
        + " / ".join(dict.fromkeys(str(group[0]["n"]) for group in settings(record)))
        + f" | all tokens | with stages | of it prune decoder | saved multiply-adds | saved time (least to most) | "
        f"saved wall time | time / multiply-adds | at least {GATE:g} |",
        "|---" * 11 + "|",
    ]
    for group in settings(record):
        first, shares, quotient = group[0], saved(group, clock), realised(group, clock)
        plain, staged = (median(_sum(sample[way][clock]) for sample in group) for way in ("plain", "staged"))
        prune = median(sample["staged"][clock]["prune decoder"] for sample in group)
        cells = [
            first["size"],
            ", ".join(f"{place}: {first['dropped']:.0%}" for place in first["after"]),
            ", ".join(str(kept) for kept in first["kept"]),
            _time(plain),
            _time(staged),
            _time(prune),
            f"{median(saved(group, 'macs')):.1%}",
            f"{median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})",
            f"{median(saved(group, 'wall_ms')):.1%}",
            f"{quotient:.2f}",
            "yes" if quotient >= GATE else "no",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def breakdown_table(record: dict[str, Any]) -> str:
    """Return where the work and the time of one answer are: the guide, then each SAM at its first stages, most dropped.

    Counted, measured and the paper's figures stand in columns of their own.
    """
    tables = [_guide_table(record)]
    for size in dict.fromkeys(group[0]["size"] for group in settings(record)):
        groups = [group for group in settings(record) if group[0]["size"] == size]
        after = groups[0][0]["after"]
        chosen = max((g for g in groups if g[0]["after"] == after), key=lambda group: group[0]["dropped"])
        tables.append(_size_table(record, chosen))
    return "\n\n".join(tables)


def _guide_table(record: dict[str, Any]) -> str:
    clock = record["clock"]
    lines = ["| guide (LLaVA) | counted, 1e9 multiply-adds | measured |", "|---|---|---|"]
    samples = [sample for sample in record["samples"] if sample["part"] == "guide"]
    for name in dict.fromkeys(sample["name"] for sample in samples):
        mine = [sample for sample in samples if sample["name"] == name]
        times = [sample[clock] for sample in mine if clock in sample]
        lines.append(f"| {name} | {_count(mine[0]['macs'])} | {_time(median(times)) if times else 'not run'} |")
    return "\n".join(lines)


def _size_table(record: dict[str, Any], group: list[Sample]) -> str:
    clock, first = record["clock"], group[0]
    paper = PAPER_MS if first["size"] == "h" else {}
    stages = ", ".join(f"{place}: {first['dropped']:.0%}" for place in first["after"])
    header = [f"SAM {first['size']}, dropped after block {stages}", "counted, 1e9 multiply-adds: all tokens",
              "with stages", "measured: all tokens", "with stages"]  # fmt: skip
    header += ["printed in the paper, RTX A6000: all tokens"] if paper else []
    decoder = [s for s in record["samples"] if s["part"] == DECODER and s["size"] == first["size"]]
    rows = [_row(group, name, clock) for name in first["staged"]["macs"]]
    rows.append(["image encoder", *_row(group, None, clock)[1:]])
    count, time = _count(decoder[0]["macs"]), _time(median(sample[clock] for sample in decoder))
    rows.append([DECODER, count, count, time, time])
    if paper:
        rows.append(["guide", "", "", "", ""])
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows:
        printed = [f"{paper[row[0]]:.1f} ms" if row[0] in paper else ""] if paper else []
        lines.append("| " + " | ".join([*row, *printed]) + " |")
    return "\n".join(lines)


def _row(group: list[Sample], name: str | None, clock: str) -> list[str]:
    """One part of the encoder, None = all of it: counted and measured, as it is and with stages."""
    cells = []
    for kind, shown in (("macs", _count), (clock, _time)):
        for way in ("plain", "staged"):
            values = [sample[way][kind] for sample in group]
            if name is not None and name not in values[0]:
                cells.append("")
                continue
            cells.append(shown(median(_sum(each) if name is None else each[name] for each in values)))
    return [name or "", *cells]


def _sum(parts: dict[str, float]) -> float:
    return sum(parts.values())


def _count(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _time(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"

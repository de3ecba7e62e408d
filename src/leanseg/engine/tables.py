"""Markdown tables made from records, and the places in the documents where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.bench.metrics_tables import KIND as BENCH_METRICS
from leanseg.engine.bench.metrics_tables import metrics_table
from leanseg.engine.bench.select_tables import KIND as BENCH_SELECT
from leanseg.engine.bench.select_tables import attention_table, details_table, methods_table, speed_table
from leanseg.engine.bench.vltp_tables import KIND as BENCH_VLTP
from leanseg.engine.bench.vltp_tables import breakdown_table
from leanseg.engine.bench.vltp_tables import speed_table as staged_speed_table
from leanseg.engine.evaluation.grid import MASS, UNPRUNED_LABELS
from leanseg.engine.evaluation.scorings import scoring_of
from leanseg.engine.records import read_record, write_json
from leanseg.engine.study.base import KIND as STUDY
from leanseg.engine.study.page import study_section
from leanseg.engine.vltp_rows.tables import KIND as VLTP_ROWS
from leanseg.engine.vltp_rows.tables import TITLES as VLTP_TABLES
from leanseg.engine.vltp_rows.tables import rows_table
from leanseg.errors import DataError
from leanseg.metrics.result import plain
from leanseg.metrics.significance import bootstrap_mean, paired_bootstrap

Summary = dict[str, Any]


def summarise(record: dict[str, Any]) -> list[Summary]:
    """Return of each row the scoring's measure: its value, the 95 % interval and the loss against all tokens.

    `score` is the protocol's value over the whole data set, `low` and `high` the bootstrap interval of the mean over
    samples, `loss` is paired by sample; `scores` are all that the protocol says.
    """
    scoring, lines = scoring_of(record), record["samples"]
    everything = scoring.series(lines, "all")
    summaries = []
    for row in record["rows"]:
        values = scoring.series(lines, row["name"])
        mean, loss = bootstrap_mean(values), paired_bootstrap(everything, values)
        scores = {name: round(float(value), 4) for name, value in scoring.result(lines, row["name"]).scores.items()}
        summaries.append({
            **row,
            "measure": scoring.measure,
            "score": scores[scoring.measure],
            "low": round(float(mean.low), 4),
            "high": round(float(mean.high), 4),
            "loss": round(float(loss.mean), 4),
            "loss_low": round(float(loss.low), 4),
            "loss_high": round(float(loss.high), 4),
            "scores": plain(scores),
            "failures": sum(row["name"] in line.get("failures", ()) for line in lines),
        })  # fmt: skip
    return summaries


def by_kind(record: dict[str, Any], row: str = "all") -> dict[str, dict[str, float]]:
    """Return the measure and the count of every kind of instruction under one row."""
    values = scoring_of(record).series(record["samples"], row)
    kinds = np.array([str(line["kind"]) for line in record["samples"]])
    return {
        kind: {"n": int((kinds == kind).sum()), "score": round(float(values[kinds == kind].mean()), 4)}
        for kind in sorted(set(kinds))
    }


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return ""
    half, scores = (summary["high"] - summary["low"]) / 2, summary["scores"]
    second = f"{scores['ciou']:.3f}" if summary["measure"] == "giou" else f"{scores['J']:.3f} / {scores['F']:.3f}"
    return f"{summary['score']:.3f} ± {half:.3f} / {second}"


def retention_cells(record: dict[str, Any]) -> str:
    """Return what the cells of `retention_table` are, in words."""
    if record["summary"][0]["measure"] == "giou":
        return "gIoU ± half of its 95 % interval / cIoU"
    return "J&F ± half of its 95 % interval / J / F"


def retention_table(record: dict[str, Any]) -> str:
    """Return one Markdown table: a row per pruner, a column per keep ratio; cells are `gIoU ± half interval / cIoU`,
    of clips `J&F ± half interval / J / F`.
    """
    summaries: list[Summary] = record["summary"]
    ratios = sorted({s["keep_ratio"] for s in summaries if s["pruner"]}, reverse=True)
    names = list(dict.fromkeys(s["name"].rsplit("@", 1)[0] for s in summaries if s["pruner"]))
    named = {s["name"]: s for s in summaries}
    lines = [
        "| tokens kept | " + " | ".join(f"{100 * ratio:g} %" for ratio in ratios) + " |",
        "|---" * (len(ratios) + 1) + "|",
    ]
    for name in names:
        cells = [_cell(named.get(f"{name}@{ratio:g}")) for ratio in ratios]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, label in UNPRUNED_LABELS.items():
        if name in named:
            lines.append(f"| {label} | {_cell(named[name])} |" + " |" * (len(ratios) - 1))
    return "\n".join(lines)


def mass_table(record: dict[str, Any]) -> str:
    """Return what keeping mass changes in gIoU: a row per pruner, a column per keep ratio, paired by sample.

    Intervals are 95 % for all cells together (Bonferroni over the cells); those without 0 are bold.
    """
    scoring, lines = scoring_of(record), record["samples"]
    kept = {row["name"]: row for row in record["rows"] if row["options"].get("mass_preserving")}
    ratios = sorted({row["keep_ratio"] for row in kept.values()}, reverse=True)
    names = list(dict.fromkeys(name.rsplit(MASS, 1)[0] for name in kept))
    table = [
        "| change by kept mass | " + " | ".join(f"{100 * ratio:g} %" for ratio in ratios) + " |",
        "|---" * (len(ratios) + 1) + "|",
    ]
    level = 1 - 0.05 / len(kept)
    for name in names:
        cells = []
        for ratio in ratios:
            values = (scoring.series(lines, f"{name}{mass}@{ratio:g}") for mass in (MASS, ""))
            change = paired_bootstrap(*values, confidence=level)
            cell = f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            cells.append(f"**{cell}**" if change.low > 0 or change.high < 0 else cell)
        table.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(table)


def kind_table(record: dict[str, Any]) -> str:
    """Return gIoU by kind of instruction, all tokens and blind."""
    kinds, blind = record["kinds"], record["kinds_blind"]
    lines = ["| kind | samples | all tokens | blind |", "|---|---|---|---|"]
    lines += [
        f"| {kind} | {row['n']} | {row['score']:.3f} | {blind[kind]['score']:.3f} |" for kind, row in kinds.items()
    ]
    return "\n".join(lines)


GATES = (
    (
        "gIoU with all tokens",
        0.50,
        0.70,
        lambda named: (named["all"]["score"], named["all"]["low"], named["all"]["high"]),
    ),
    ("all tokens minus blind", 0.12, 0.25, lambda named: _difference(named["blind"])),
    ("all tokens minus random at 5 %", 0.03, 0.05, lambda named: _difference(named["random@0.05"])),
)
"""What was asked of the small model before it was trained: on two CPU cores, and where a GPU is at hand."""


def _difference(summary: Summary) -> tuple[float, float, float]:
    return summary["loss"], summary["loss_low"], summary["loss_high"]


def gate_table(record: dict[str, Any]) -> str:
    """Return the gates with what was measured: the value and its 95 % bootstrap interval, paired for differences."""
    named = {summary["name"]: summary for summary in record["summary"]}
    lines = ["| gate | asked (CPU) | asked (GPU) | measured | met |", "|---|---|---|---|---|"]
    for name, low, high, measure in GATES:
        value, lower, upper = measure(named)
        met = "both" if value >= high else "CPU" if value >= low else "none"
        lines.append(f"| {name} | {low:.2f} | {high:.2f} | {value:.3f} ({lower:.3f} to {upper:.3f}) | {met} |")
    return "\n".join(lines)


RENDERERS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "retention": ("evaluation", retention_table),
    "kinds": ("evaluation", kind_table),
    "mass": ("evaluation", mass_table),
    "gates": ("evaluation", gate_table),
    "select_speed": (BENCH_SELECT, speed_table),
    "select_methods": (BENCH_SELECT, methods_table),
    "select_attention": (BENCH_SELECT, attention_table),
    "select_details": (BENCH_SELECT, details_table),
    "metrics_speed": (BENCH_METRICS, metrics_table),
    "vltp_speed": (BENCH_VLTP, staged_speed_table),
    "vltp_breakdown": (BENCH_VLTP, breakdown_table),
    "study": (STUDY, study_section),
    **{f"vltp_{table}": (VLTP_ROWS, rows_table(table)) for table in VLTP_TABLES},
}
"""The tables by name: the kind of record that each reads, and what makes the table from it."""

_BLOCK = re.compile(r"(<!-- table: (\S+) (\S+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)


def render_document(text: str, root: Path) -> str:
    """Fill every `<!-- table: KIND RECORD -->...<!-- /table -->` block of a document from its record below `root`."""

    def fill(match: re.Match[str]) -> str:
        kind, path = match[2], match[3]
        if kind not in RENDERERS:
            raise DataError(f"unknown table kind {kind!r}; expected one of {', '.join(sorted(RENDERERS))}")
        record_kind, table = RENDERERS[kind]
        return f"{match[1]}{table(read_record(root / path, record_kind))}\n{match[5]}"

    return _BLOCK.sub(fill, text)


def update_documents(paths: list[Path], root: Path) -> list[Path]:
    """Rewrite the documents whose tables differ from their records; return those that changed."""
    changed = []
    for path in paths:
        text = path.read_text()
        rendered = render_document(text, root)
        if rendered != text:
            path.write_text(rendered)
            changed.append(path)
    return changed


def add_summary(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with the summaries computed from its samples."""
    blind = any(row["name"] == "blind" for row in record["rows"])
    return {
        **record,
        "summary": summarise(record),
        "kinds": by_kind(record),
        **({"kinds_blind": by_kind(record, "blind")} if blind else {}),
    }


__all__ = [
    "RENDERERS",
    "UNPRUNED_LABELS",
    "add_summary",
    "by_kind",
    "render_document",
    "summarise",
    "update_documents",
    "write_json",
]

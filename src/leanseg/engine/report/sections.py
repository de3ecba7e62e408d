"""The sections of a report that stand in the record: scores, what was noted of the answers, how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leanseg.engine.evaluation.grid import Row
from leanseg.engine.report.charts import retention_chart
from leanseg.engine.tables import UNPRUNED_LABELS, by_kind, retention_cells, retention_table

LABELS = {"giou": "gIoU", "J&F": "J&F"}
"""What the measures are called."""


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it: words, then HTML that this package made."""

    title: str
    text: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)
    svg: str = ""
    figures: list[tuple[str, str]] = field(default_factory=list)
    """(Caption, JPEG in base 64)."""


def scores(record: dict[str, Any], shown: list[Row]) -> list[Section]:
    """Return tables and plot of the scores; by kind of instruction of rows like the `shown` ones."""
    return [_results(record), _chart(record), *_kinds(record, shown)]


def circumstances(record: dict[str, Any]) -> list[Section]:
    """Return what was noted of the answers, and how they were made."""
    return [*_facts(record), *_failures(record), _protocol(record), _environment(record)]


def _results(record: dict[str, Any]) -> Section:
    unpruned = (
        "ovp-only: the key frame's tokens do not enter the language model; blind: no visual token does."
        if any(row["name"] == "ovp_only" for row in record["rows"])
        else "blind: the language model does not see the picture, the image encoder does."
    )
    text = (
        f"{len(record['samples'])} samples. Cells: {retention_cells(record)}; the interval is the bootstrap's over "
        f"samples. {unpruned}"
    )
    return Section("Results", text, [markdown_cells(retention_table(record))])


def _chart(record: dict[str, Any]) -> Section:
    label = LABELS[record["summary"][0]["measure"]]
    return Section("Quality and tokens kept", svg=retention_chart(record["summary"], f"{label} (95 % interval)"))


def _kinds(record: dict[str, Any], shown: list[Row]) -> list[Section]:
    """Return the score by kind: of the unpruned rows, and of all that keep as many tokens as those whose cases show."""
    ratios = sorted({row.keep_ratio for row in shown if row.keep_ratio is not None}, reverse=True)
    names = [row["name"] for row in record["rows"] if not row["pruner"] or row["keep_ratio"] in ratios]
    found = {name: by_kind(record, name) for name in names}
    if len(found["all"]) < 2:
        return []
    table = [["", *(f"{kind} ({row['n']})" for kind, row in found["all"].items())]]
    for name, kinds in found.items():
        table.append([UNPRUNED_LABELS.get(name, name), *(f"{row['score']:.3f}" for row in kinds.values())])
    text = f"{LABELS[record['summary'][0]['measure']]}; in brackets the number of samples."
    if ratios:
        text += f" Of the pruned rows those at {', '.join(f'{100 * ratio:g} %' for ratio in ratios)} are shown."
    return [Section("By kind of instruction", text, [table])]


def _facts(record: dict[str, Any]) -> list[Section]:
    """Return the means of what was noted of every answer."""
    noted: dict[str, dict[str, list[float]]] = {}
    for line in record["samples"]:
        for row, facts in line.get("facts", {}).items():
            for group in ("coverage", "stability"):
                for name, value in facts.get(group, {}).items():
                    noted.setdefault(row, {}).setdefault(f"{group} {name}", []).append(value)
    if not noted:
        return []
    names = list(dict.fromkeys(name for values in noted.values() for name in values))
    table = [["", *names]]
    for row, values in noted.items():
        means = [f"{sum(values[name]) / len(values[name]):.3f}" if name in values else "" for name in names]
        table.append([row, *means])
    return [Section("Noted of the answers", "Means over samples.", [table])]


def _failures(record: dict[str, Any]) -> list[Section]:
    failed = [line for line in record["samples"] if line.get("failures")]
    if not failed:
        return []
    table = [["sample", "row", "what happened"]]
    table += [[line["id"], row, text] for line in failed[:50] for row, text in line["failures"].items()]
    text = f"{len(failed)} samples have answers that failed; they count as nothing found. At most 50 are listed."
    return [Section("Failures", text, [table])]


def _protocol(record: dict[str, Any]) -> Section:
    named = {
        "data": record["data"], "data options": record.get("data_options", {}), "scoring": record["scoring"],
        "options": record["options"], **record.get("protocol", {}),
    }  # fmt: skip
    return Section("Protocol", tables=[_named(named)])


def _environment(record: dict[str, Any]) -> Section:
    known = {
        "command": "command", "date": "date", "commit": "commit", "model": "model", "weights (SHA-256)": "weights",
        "device": "device",
    }  # fmt: skip
    named = {name: record.get(key) or "not recorded" for name, key in known.items()}
    named |= dict(sorted(record.get("environment", {}).items()))
    return Section("Environment", tables=[_named(named)])


def _named(values: Mapping[str, Any]) -> list[list[str]]:
    """Return a table of names and values, options as on the command line: `name=value`."""
    return [["", ""], *([name, _said(value)] for name, value in values.items())]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_said(each)}" for name, each in value.items()) or "none"
    return "none" if value is None else str(value)


def markdown_cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table without its rule.

    >>> markdown_cells("| a | b |" + chr(10) + "|---|---|" + chr(10) + "| 1 | 2 |")
    [['a', 'b'], ['1', '2']]
    """
    lines = table.splitlines()
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in (lines[0], *lines[2:])]
    return [row + [""] * (len(rows[0]) - len(row)) for row in rows]

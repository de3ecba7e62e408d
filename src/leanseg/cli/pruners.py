"""`leanseg pruners`: every way of choosing visual tokens, from the registry."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from leanseg.cli.console import print_json, results

EPILOG = 'Use one: leanseg segment picture.png "the red apple" --pruner "evtp(keep_ratio=0.1, spatial_weight=0)"'


def pruners(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/cli.md) instead of a table.")] = False,
) -> None:
    """List the ways of choosing visual tokens, the evidence they need, their source and their options."""
    rows = describe()
    if as_json:
        print_json({"schema": 1, "command": "pruners", "pruners": rows})
        return
    from rich.table import Table

    table = Table("name", "what it does", "needs", "source", "options", box=None, pad_edge=False)
    for row in rows:
        cues, options = row["cues"], row["options"]
        assert isinstance(cues, list) and isinstance(options, dict)
        written = ", ".join(f"{name}={value!r}" for name, value in options.items())
        table.add_row(str(row["name"]), str(row["summary"]), ", ".join(cues) or "-", str(row["paper"] or "-"), written or "-")
    results().print(table)


def describe() -> list[dict[str, object]]:
    """Return one JSON-ready row per registered pruner; `options` maps a field to its default."""
    from leanseg.pruners import PRUNERS

    return [
        {
            "name": name,
            "summary": (kind.__doc__ or "").strip().split("\n")[0],
            "cues": [str(cue) for cue in kind.cues],
            "paper": kind.paper,
            "scope": kind.scope,
            "nested": kind.nested,
            "merges": kind.merges,
            "options": {
                field.name: None if field.default is dataclasses.MISSING else field.default
                for field in dataclasses.fields(kind)
                if field.name != "keep_ratio"
            },
        }
        for name, kind in PRUNERS.items()
    ]

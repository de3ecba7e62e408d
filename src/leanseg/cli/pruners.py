"""`leanseg pruners`: every way of choosing visual tokens, from the registry."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

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
    out = results()
    for row in rows:
        cues, options = row["cues"], row["options"]
        written = ", ".join(f"{name}={value!r}" for name, value in options.items())
        out.print(f"[bold]{row['name']}[/bold]  {row['summary']}")
        for name, value in (("needs", ", ".join(cues)), ("source", row["paper"]), ("options", written)):
            if value:
                out.print(f"  {name}: {value}", markup=False)


def describe() -> list[dict[str, Any]]:
    """Return one JSON-ready row per registered pruner; `options` maps a field to its default."""
    from leanseg.pruners import PRUNERS

    return [
        {
            "name": name,
            "summary": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
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

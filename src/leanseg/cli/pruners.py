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
    """List the ways of choosing visual tokens: the evidence they need, source, licence, laws and options."""
    rows = describe()
    if as_json:
        print_json({"schema": 1, "command": "pruners", "pruners": rows})
        return
    out = results()
    for row in rows:
        out.print(f"[bold]{row['name']}[/bold]  {row['summary']}")
        required = [f"{name}=..." for name in row["required"]]
        defaults = [f"{name}={value!r}" for name, value in row["options"].items()]
        facts = {
            "needs": ", ".join(row["needs"]),
            "source": f"{row['paper']} (code: {row['licence']})",
            "laws": ", ".join(row["laws"]),
            "wraps": ", ".join(row["wraps"]),
            "options": ", ".join([*required, *defaults]),
        }
        for name, value in facts.items():
            if value:
                out.print(f"  {name}: {value}", markup=False)


def describe() -> list[dict[str, Any]]:
    """Return one JSON-ready row per registered pruner and wrapper.

    `options` maps a field to its default, `required` are those without one; pruners inside are `wraps`.
    """
    from leanseg.pruners import PRUNERS, WRAPPERS, Pruner

    rows = []
    for name, kind in {**PRUNERS, **WRAPPERS}.items():
        own = [field for field in dataclasses.fields(kind) if field.name != "keep_ratio"]
        plain = [field for field in own if field.type is not Pruner]
        rows.append({
            "name": name,
            "summary": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "needs": _needs(kind),
            "paper": kind.paper,
            "licence": kind.licence,
            "extension": kind.extension,
            "laws": _laws(kind),
            "wraps": [field.name for field in own if field.type is Pruner],
            "required": [field.name for field in plain if field.default is dataclasses.MISSING],
            "options": {field.name: field.default for field in plain if field.default is not dataclasses.MISSING},
        })  # fmt: skip
    return rows


def _needs(kind: Any) -> list[str]:
    return [
        "attention of the language model" if cue == "attention" and kind.attention_from == "language" else str(cue)
        for cue in kind.cues
    ]


def _laws(kind: Any) -> list[str]:
    """Say in words what holds of every selection of a method, beyond what holds of all methods."""
    return [
        "exact count" if kind.fixed_budget else "a count of its own",
        *(["nested"] if kind.nested else []),
        *(["merges"] if kind.merges else []),
        "a clip's frames together" if kind.scope == "clip" else "each frame by itself",
    ]

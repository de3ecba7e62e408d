"""`leanseg data`: what of the public data sets lies below a folder, what it holds, and RefCOCO's pickles as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leanseg.cli.console import messages, print_json, results

EPILOG = "Example: leanseg data check datasets --data refcoco --data revos"
data = typer.Typer(
    help="Check, count and convert public data sets that lie on this machine. Each of the three has --json.",
    epilog=EPILOG,
)

Root = Annotated[Path, typer.Argument(help="The folder that holds the data sets, or one of them.")]
Names = Annotated[
    list[str] | None, typer.Option("--data", help="A data set's name; repeat for several. (default: all)")
]
Links = Annotated[bool, typer.Option("--links", help="Follow symbolic links that lead out of the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (docs/cli.md) instead of text.")]
_COLOURS = {"whole": "green", "partial": "cyan", "incomplete": "yellow", "malformed": "red", "absent": "dim"}
_LISTED = 10


@data.command(epilog="Exit code 1 if a data set that is there is incomplete or malformed.")
def check(
    root: Root,
    names: Names = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every picture and every mask, too.")] = False,
    links: Links = False,
    as_json: Json = False,
) -> None:
    """Report what is there, what is missing and what is malformed; where to get it, and its licence."""
    from leanseg.data.inspection import inspect
    from leanseg.errors import DataError

    report = _with_bar(lambda tell: inspect(root, names or (), links=links, deep=deep, tell=tell))
    if all(entry["state"] == "absent" for entry in report):
        raise DataError(
            f"{root} holds none of: {', '.join(entry['name'] for entry in report)}; expected a folder laid out as "
            "docs/data.md shows; give another"
        )
    if as_json:
        print_json({"schema": 1, "command": "data check", "root": str(root), "deep": deep, "datasets": report})
    else:
        _print_report(report)
    if any(entry["state"] in ("incomplete", "malformed") for entry in report):
        raise typer.Exit(1)


def _print_report(report: list[dict[str, Any]]) -> None:
    out = results()
    for entry in report:
        colour = _COLOURS[entry["state"]]
        absent = [split for split in entry["splits"] if split["state"] == "absent"]
        # What is whole lacks at most another layout of the same.
        lacks = absent and entry["state"] != "whole"
        lacking = f", {len(absent)} of {len(entry['splits'])} splits not there" if lacks else ""
        out.print(f"[bold]{entry['title']}[/bold] ({entry['name']}): [{colour}]{entry['state']}[/{colour}]{lacking}")
        _print_some([f"  not there: {split['split']} (no {split['missing'][0]})" for split in absent])
        for split in entry["splits"]:
            if split["state"] == "absent":
                continue
            hidden = "" if split["annotated"] in (True, None) else ", without published targets"
            count = "" if split["samples"] is None else f", {split['samples']} samples{hidden}"
            out.print(f"  {split['split']}: {split['state']}{count}", markup=False)
            _print_some([f"    missing: {path}" for path in split["missing"]])
            if split["problem"]:
                out.print(f"    {split['problem']}", markup=False)
        out.print(f"  from: {entry['where']}", markup=False)
        out.print(f"  licence: {entry['licence']}", markup=False)


def _print_some(lines: list[str]) -> None:
    """Print the first of what may be very many lines."""
    for line in lines[:_LISTED]:
        results().print(line, markup=False)
    if len(lines) > _LISTED:
        results().print(f"    and {len(lines) - _LISTED} more (--json lists all)", markup=False)


def _with_bar(work: Any) -> Any:
    """Return the result of `work(tell)`, showing a bar on a terminal meanwhile."""
    from rich.progress import MofNCompleteColumn, Progress

    console = messages()
    with Progress(
        *Progress.get_default_columns()[:-1], MofNCompleteColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    ) as bars:  # fmt: skip
        bar = bars.add_task("files", total=None)
        return work(lambda name, done, total: bars.update(bar, description=name, completed=done, total=total))


@data.command()
def stats(root: Root, names: Names = None, links: Links = False, as_json: Json = False) -> None:
    """Count videos, objects, expressions and frames, beside the paper's table (its columns are marked "paper")."""
    from leanseg.data.statistics import ROWS, cell, statistics
    from leanseg.errors import DataError

    found = statistics(root, names or (), links=links)
    if not found:
        raise DataError(f"{root} holds no data set that can be counted; see `leanseg data check {root}`")
    if as_json:
        print_json({"schema": 1, "command": "data stats", "root": str(root), "datasets": found})
        return
    from rich.table import Table

    out = results(columns=120)
    for entry in found:
        table = Table(title=f"{entry['name']} ({', '.join(entry['splits'])})", title_justify="left")
        table.add_column("statistic")
        table.add_column("measured")
        if entry["paper"]:
            table.add_column("paper")
        for name, label in ROWS.items():
            values = [entry["measured"].get(name), *([entry["paper"].get(name)] if entry["paper"] else [])]
            if any(value is not None for value in values):
                table.add_row(label, *(cell(name, value) for value in values))
        out.print(table)


@data.command(epilog='Example: leanseg data convert "refer_seg/refcoco/refs(unc).p"')
def convert(
    source: Annotated[Path, typer.Argument(help="A pickle of refs, or a folder: then every refs(*).p below it.")],
    out: Annotated[Path | None, typer.Option(help="The JSON file to write. (default: beside each pickle)")] = None,
    as_json: Json = False,
) -> None:
    """Turn RefCOCO's pickles into JSON, once; nothing that stands in a pickle is run."""
    from leanseg.data.refcoco import convert as convert_refs
    from leanseg.errors import DataError

    pickles = sorted(source.rglob("refs(*).p")) if source.is_dir() else [source]
    if not pickles:
        raise DataError(f"no refs(*).p below {source}; give a pickle of refs, or the folder that holds refcoco/")
    if out is not None and len(pickles) > 1:
        raise DataError(
            f"--out names one file and {source} holds {len(pickles)} pickles; give one of them, or no --out"
        )
    written = []
    for path in pickles:
        target = path.with_suffix(".json") if out is None else out
        written.append({"source": str(path), "out": str(target), "refs": convert_refs(path, target)})
    if as_json:
        print_json({"schema": 1, "command": "data convert", "written": written})
    else:
        for entry in written:
            results().print(f"{entry['out']}: {entry['refs']} refs", markup=False)

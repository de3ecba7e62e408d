"""`leanseg report`: one self-contained page about one evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: leanseg report evaluation.json --row evtp@0.2 --out report.html"


def report(
    run: Annotated[Path, typer.Argument(help="The record that leanseg eval wrote.")],
    out: Annotated[Path | None, typer.Option(help="The page. (default: beside the record, .html)")] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            help="A pruned row whose cases are shown, as evtp@0.2; repeatable. (default: one at a fifth kept)"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The evaluated model, where it is not in the package.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of the data set's files.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto: where cases and latency are run.")] = "cpu",
    no_cases: Annotated[bool, typer.Option("--no-cases", help="Leave out cases, costs and latency.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print where the page is as JSON.")] = False,
) -> None:
    """Write a page with tables, plots, cases chosen by rule, protocol, costs, latency and environment."""
    from leanseg.cli.console import messages, print_json, results
    from leanseg.engine.evaluation.request import KIND
    from leanseg.engine.records import read_record
    from leanseg.engine.report.page import ReportRequest, build

    page = out or run.with_suffix(".html")
    record = read_record(run, KIND)
    request = ReportRequest(
        record=record, model=model, root=root, rows=tuple(row or ()), device=device, cases=not no_cases
    )
    with messages().status("report") as status:
        text = build(request, status.update)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    if json:
        print_json({"schema": 1, "command": "report", "page": str(page), "bytes": len(text.encode())})
    else:
        results().print(f"page in {page}", markup=False)

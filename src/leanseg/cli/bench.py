"""`leanseg bench`: how long choosing tokens takes on this machine, beside other ways to do it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leanseg.errors import InputError, unknown_name

EPILOG = "Example: leanseg bench select --out results/bench_select.json --plot docs/images/bench_select.png"
SUBJECTS = ("select",)


def bench(
    subject: Annotated[str, typer.Argument(help="What is timed: select, the choosing of tokens.")] = "select",
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: does everything run? The times say little.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The record.")] = Path("bench_select.json"),
    plot: Annotated[Path | None, typer.Option(help="Draw time against N and K into this .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of tables.")] = False,
) -> None:
    """Time every way of choosing tokens, the published loops and other libraries, on one thread; about five minutes."""
    from leanseg.cli.console import messages, print_json, results
    from leanseg.engine.bench.select_plot import check_plot, plot_select
    from leanseg.engine.records import write_json

    if subject not in SUBJECTS:
        raise InputError(unknown_name("subject", subject, SUBJECTS))
    if plot is not None:
        check_plot(plot)
    record = _measured(quick)
    write_json(out, record)
    if plot is not None:
        plot_select(record, plot)
    if json:
        print_json(record)
    else:
        from leanseg.engine.bench import select_tables as tables

        for table in (tables.speed_table, tables.methods_table, tables.attention_table, tables.details_table):
            results().print(table(record), markup=False)
            results().print()
    failed = sorted({f"{s['name']} ({s['error']})" for s in record["samples"] if "error" in s})
    if failed:
        messages().print(f"failed: {'; '.join(failed)}", markup=False)


def _measured(quick: bool) -> dict[str, Any]:
    """Return the record, showing on a terminal what is timed meanwhile."""
    from leanseg.cli.console import messages
    from leanseg.engine.bench.select import QUICK, Sizes, measure_select

    console = messages()
    command = "leanseg bench select --quick" if quick else "leanseg bench select"
    if not console.is_terminal:
        return measure_select(QUICK if quick else Sizes(), command=command)
    with console.status("timing") as status:
        return measure_select(
            QUICK if quick else Sizes(), command=command, tick=lambda name: status.update(f"timing {name}")
        )

"""`leanseg bench`: how long choosing tokens takes here, beside other ways to do it, and how long an answer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leanseg.errors import InputError, unknown_name

EPILOG = "Example: leanseg bench select --out results/bench_select.json --plot docs/images/bench_select.png"
SUBJECTS = ("select", "stages", "metrics")


def bench(
    subject: Annotated[
        str, typer.Argument(help="What is timed: select, the choosing of tokens; stages, an answer; metrics.")
    ] = "select",
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: does everything run? The times say little.")
    ] = False,
    model: Annotated[str, typer.Option(help="For stages: a model in the package, or a folder.")] = "instructseg-nano",
    pruner: Annotated[str, typer.Option(help="For stages: which tokens stay.")] = "evtp(keep_ratio=0.2)",
    frames: Annotated[int, typer.Option(min=1, help="For stages: frames of the input.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The record. (default: bench_<subject>.json)")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw time against N and K into this .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of tables.")] = False,
) -> None:
    """Time every way of choosing tokens (three minutes on one thread), each stage of an answer, or the metrics."""
    from leanseg.cli.console import messages, print_json, results
    from leanseg.engine.bench.select_plot import check_plot, plot_select
    from leanseg.engine.records import write_json

    if subject not in SUBJECTS:
        raise InputError(unknown_name("subject", subject, SUBJECTS))
    file = out or Path(f"bench_{subject}.json")
    if subject == "stages":
        record = _stages(model, pruner, frames, quick)
        write_json(file, record)
        _show_stages(record, as_json=json)
        return
    if subject == "metrics":
        from leanseg.engine.bench import metrics, metrics_tables

        sizes = metrics.QUICK if quick else metrics.Sizes()
        record = metrics.measure_metrics(sizes, command=f"leanseg bench metrics{' --quick' if quick else ''}")
        write_json(file, record)
        if json:
            print_json(record)
        else:
            results().print(metrics_tables.metrics_table(record), markup=False)
        return
    if plot is not None:
        check_plot(plot)
    record = _measured(quick)
    write_json(file, record)
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


def _stages(model: str, spec: str, frames: int, quick: bool) -> dict[str, Any]:
    from leanseg.engine.bench.stages import measure_stages
    from leanseg.engine.segmenter import load
    from leanseg.pruners import pruner

    made = pruner(spec, allow_files=False)
    repeats, warm_up = (1, 0) if quick else (10, 2)
    return measure_stages(load(model), pruner=made, frames=frames, repeats=repeats, warm_up=warm_up)


def _show_stages(record: dict[str, Any], *, as_json: bool) -> None:
    from leanseg.cli.console import print_json, results

    if as_json:
        print_json(record)
        return
    total = sum(record["seconds"].values())
    for stage, seconds in record["seconds"].items():
        results().print(f"{stage:12} {1000 * seconds:9.2f} ms {seconds / total:7.1%}", markup=False)

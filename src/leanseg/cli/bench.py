"""`leanseg bench`: how long choosing tokens takes here, beside other ways to do it, and how long an answer takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from leanseg.errors import InputError, unknown_name

EPILOG = "Example: leanseg bench select --out results/bench_select.json --plot docs/images/bench_select.png"
SUBJECTS = ("select", "stages", "metrics", "vltp")
# The record, and what of it is shown.
Measured = tuple[dict[str, Any], list[str]]


def bench(
    subject: Annotated[
        str,
        typer.Argument(
            help="What is timed: select, the choosing of tokens; stages, an answer; metrics; vltp, SAM with stages."
        ),
    ] = "select",
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: does everything run? The times say little.")
    ] = False,
    model: Annotated[str, typer.Option(help="For stages: a model in the package, or a folder.")] = "instructseg-nano",
    pruner: Annotated[str, typer.Option(help="For stages: which tokens stay.")] = "evtp(keep_ratio=0.2)",
    frames: Annotated[int, typer.Option(min=1, help="For stages: frames of the input.")] = 1,
    size: Annotated[
        list[str] | None, typer.Option(help="For vltp: b, l, h or nano; may be repeated. (default: b)")
    ] = None,
    device: Annotated[str, typer.Option(help="For vltp: cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The record. (default: bench_<subject>.json)")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="For select: draw time against N and K into this .png, .svg or .pdf.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of tables.")] = False,
) -> None:
    """Time every way of choosing tokens (three minutes on one thread), each stage of an answer, or the metrics.

    Or, with vltp, what stages save inside SAM at its released sizes (b: a quarter of an hour).
    """
    from leanseg.cli.console import messages, print_json, results
    from leanseg.engine.bench.select_plot import check_plot, plot_select
    from leanseg.engine.records import write_json

    if subject not in SUBJECTS:
        raise InputError(unknown_name("subject", subject, SUBJECTS))
    drawn = plot if subject == "select" else None
    if drawn is not None:
        check_plot(drawn)
    if subject == "select":
        record, shown = _select(quick)
    elif subject == "stages":
        record, shown = _stages(model, pruner, frames, quick)
    elif subject == "metrics":
        record, shown = _metrics(quick)
    else:
        record, shown = _vltp(quick, size or ["b"], device)
    write_json(out or Path(f"bench_{subject}.json"), record)
    if drawn is not None:
        plot_select(record, drawn)
    if json:
        print_json(record)
    else:
        for part in shown:
            results().print(part, markup=False)
            results().print()
    failed = sorted({f"{s['name']} ({s['error']})" for s in record["samples"] if "error" in s})
    if failed:
        messages().print(f"failed: {'; '.join(failed)}", markup=False)


def _ticking(measure: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return the record, showing on a terminal what is timed meanwhile."""
    from leanseg.cli.console import messages

    console = messages()
    if not console.is_terminal:
        return measure()
    with console.status("timing") as status:
        return measure(tick=lambda name: status.update(f"timing {name}"))


def _command(subject: str, quick: bool, *options: str) -> str:
    return " ".join(["leanseg bench", subject, *(["--quick"] if quick else options)])


def _select(quick: bool) -> Measured:
    from leanseg.engine.bench import select_tables as tables
    from leanseg.engine.bench.select import QUICK, Sizes, measure_select

    sizes = QUICK if quick else Sizes()
    record = _ticking(partial(measure_select, sizes, command=_command("select", quick)))
    shown = (tables.speed_table, tables.methods_table, tables.attention_table, tables.details_table)
    return record, [table(record) for table in shown]


def _metrics(quick: bool) -> Measured:
    from leanseg.engine.bench.metrics import QUICK, Sizes, measure_metrics
    from leanseg.engine.bench.metrics_tables import metrics_table

    sizes = QUICK if quick else Sizes()
    record = _ticking(partial(measure_metrics, sizes, command=_command("metrics", quick)))
    return record, [metrics_table(record)]


def _vltp(quick: bool, names: list[str], device: str) -> Measured:
    from leanseg.engine.bench.vltp import QUICK, Sizes, measure_vltp
    from leanseg.engine.bench.vltp_tables import breakdown_table, speed_table

    sizes = QUICK if quick else Sizes(names=tuple(dict.fromkeys(names)))
    options = [*(f"--size {name}" for name in sizes.names), *([f"--device {device}"] if device != "cpu" else [])]
    command = _command("vltp", quick, *options)
    record = _ticking(partial(measure_vltp, sizes, device=device, command=command))
    return record, [speed_table(record), breakdown_table(record)]


def _stages(model: str, spec: str, frames: int, quick: bool) -> Measured:
    from leanseg.engine.bench.stages import measure_stages
    from leanseg.engine.segmenter import load
    from leanseg.pruners import pruner

    made = pruner(spec, allow_files=False)
    repeats, warm_up = (1, 0) if quick else (10, 2)
    record = measure_stages(load(model), pruner=made, frames=frames, repeats=repeats, warm_up=warm_up)
    total = sum(record["seconds"].values())
    lines = [
        f"{stage:12} {1000 * seconds:9.2f} ms {seconds / total:7.1%}" for stage, seconds in record["seconds"].items()
    ]
    return record, ["\n".join(lines)]

"""`leanseg eval`: gIoU and cIoU of a model under a grid of pruners and keep ratios."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leanseg.engine.evaluation_request import Request

EPILOG = "Example: leanseg eval --data scenes:test --pruner evtp --pruner random --keep-ratio 0.2 --out test.json"


def eval(
    model: Annotated[str, typer.Option(help="A model's name, or a folder.")] = "instructseg-nano",
    data: Annotated[str, typer.Option(help="A data set: scenes:SPLIT.")] = "scenes:test",
    scenes: Annotated[int | None, typer.Option(min=1, help="Only the first scenes of the split.")] = None,
    per_scene: Annotated[int, typer.Option(min=1, help="Instructions asked of each scene.")] = 1,
    pruner: Annotated[
        list[str] | None,
        typer.Option(
            help="A pruner spec; repeat for several. (default: evtp, its rivals in the paper, and simple ones)"
        ),
    ] = None,
    keep_ratio: Annotated[
        list[float] | None, typer.Option(help="A keep ratio; repeat for several. (default: 0.5, 0.2, 0.1, 0.05)")
    ] = None,
    position_ids: Annotated[str, typer.Option(help="compact or original.")] = "compact",
    mass_preserving: Annotated[
        bool, typer.Option("--mass-preserving", help="Measure every pruned row with kept mass as well.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The record; its lines beside it let a killed run resume.")] = Path(
        "evaluation.json"
    ),
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the samples.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Evaluate a model on a data set; every table in the documents is made from such a record."""
    from leanseg.cli.console import print_json, results
    from leanseg.engine.evaluation_request import DEFAULT_KEEP_RATIOS, DEFAULT_PRUNERS, Request
    from leanseg.engine.records import write_json
    from leanseg.engine.tables import add_summary, retention_table

    request = Request(
        model=model, data=data, scenes=scenes, per_scene=per_scene, pruners=tuple(pruner or DEFAULT_PRUNERS),
        keep_ratios=tuple(keep_ratio or DEFAULT_KEEP_RATIOS), position_ids=position_ids,
        mass_preserving=mass_preserving, out=out, processes=processes,
    )  # fmt: skip
    record = add_summary(_evaluated(request))
    write_json(out, record)
    # Whole now: a later run with the same --out, perhaps of a newer model, starts anew.
    request.lines.unlink()
    if json:
        print_json({key: value for key, value in record.items() if key != "samples"})
    else:
        results().print(retention_table(record), markup=False)


def _evaluated(request: Request) -> dict[str, Any]:
    """Return the record, showing a bar on a terminal meanwhile."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from leanseg.cli.console import messages
    from leanseg.engine.evaluation_request import evaluation_record

    console = messages()
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("samples", total=None)
        return evaluation_record(request, lambda done, total: bars.update(bar, completed=done, total=total))

"""`leanseg eval`: gIoU and cIoU of a model under a grid of pruners and keep ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: leanseg eval --data scenes:test --pruner evtp --pruner random --keep-ratio 0.2 --out test.json"


def eval(
    model: Annotated[str, typer.Option(help="A model's name, or a folder.")] = "instructseg-nano",
    data: Annotated[str, typer.Option(help="A data set: scenes:SPLIT.")] = "scenes:test",
    scenes: Annotated[int | None, typer.Option(min=1, help="Only the first scenes of the split.")] = None,
    per_scene: Annotated[int, typer.Option(min=1, help="Instructions asked of each scene.")] = 1,
    pruner: Annotated[list[str] | None, typer.Option(help="A pruner spec; repeat for several.")] = None,
    keep_ratio: Annotated[list[float] | None, typer.Option(help="A keep ratio; repeat for several.")] = None,
    position_ids: Annotated[str, typer.Option(help="compact or original.")] = "compact",
    out: Annotated[Path, typer.Option(help="The record; its lines beside it let a killed run resume.")] = Path(
        "evaluation.json"
    ),
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the samples.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Evaluate a model on a data set; every table in the documents is made from such a record."""
    from leanseg.cli.console import print_json, results
    from leanseg.engine.evaluate import Request, evaluation_record
    from leanseg.engine.records import write_json
    from leanseg.engine.tables import add_summary, retention_table

    request = Request(
        model=model, data=data, scenes=scenes, per_scene=per_scene, pruners=tuple(pruner or ()),
        keep_ratios=tuple(keep_ratio or (0.5, 0.2, 0.1, 0.05)), position_ids=position_ids, out=out, processes=processes,
    )  # fmt: skip
    record = evaluation_record(request)
    record = add_summary(record)
    write_json(out, record)
    if json:
        print_json({key: value for key, value in record.items() if key != "samples"})
    else:
        results().print(retention_table(record), markup=False)

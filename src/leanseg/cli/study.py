"""`leanseg study`: questions about pruning, answered by evaluations, with intervals, tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leanseg.engine.study.base import Setup

EPILOG = "Example: leanseg study retention significance --processes 2"


def study(
    names: Annotated[list[str] | None, typer.Argument(help="Which studies to run; none lists them.")] = None,
    model: Annotated[str, typer.Option(help="A model's name, or a folder.")] = "instructseg-nano",
    out: Annotated[
        Path, typer.Option(help="The folder of records and plots; evaluations there are used again.")
    ] = Path("results/studies"),
    limit: Annotated[
        int | None, typer.Option(min=2, help="At most so many scenes or clips of each data set; intervals need two.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the samples.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure anew what is there already, and lose it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the studies' records as JSON.")] = False,
) -> None:
    """Run studies; a run that was broken off resumes, and studies share the evaluations that they have in common."""
    from leanseg.cli.console import print_json, shown_log
    from leanseg.engine.study.base import Setup

    if not names:
        _list(as_json=json)
        return
    setup = Setup(model=model, out=out, limit=limit, processes=processes, device=device)
    with shown_log():
        records = _run(names, setup, overwrite)
    if json:
        print_json({"schema": 1, "command": "study", "studies": records})
    else:
        _show(records)


def _list(*, as_json: bool) -> None:
    from leanseg.cli.console import print_json, results
    from leanseg.engine.study.registry import STUDIES

    if as_json:
        listed = [{"name": name, "question": each.question} for name, each in STUDIES.items()]
        print_json({"schema": 1, "command": "study", "available": listed})
        return
    width = max(map(len, STUDIES))
    for name, each in STUDIES.items():
        results().print(f"{name:{width}}  {each.question}", markup=False)


def _run(names: list[str], setup: Setup, overwrite: bool) -> list[dict[str, Any]]:
    """Return the records, showing on a terminal a bar per evaluation, with the time left, meanwhile."""
    from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

    from leanseg.cli.console import messages
    from leanseg.engine.study.run import run_studies

    console = messages()
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def show(key: str, done: int, total: int) -> None:
            if key not in known:
                known[key] = bars.add_task(key, total=total)
            bars.update(known[key], completed=done)

        return run_studies(names, setup, show, overwrite=overwrite)


def _show(records: list[dict[str, Any]]) -> None:
    from leanseg.cli.console import results
    from leanseg.engine.study.registry import find

    out = results()
    for record in records:
        made = find(record["study"])
        out.print(f"{made.name}: {made.question}", markup=False)
        for title, text in made.tables(record["analysis"]).items():
            out.print(f"\n{title}\n{text}", markup=False)
        out.print()
        for sentence in made.sentences(record["analysis"]):
            out.print(f"* {sentence}", markup=False)
        out.print()

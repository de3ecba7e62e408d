"""`leanseg eval`: the scores of a model on a data set under a grid of pruners and keep ratios."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leanseg.engine.evaluation.request import Request

Run = Callable[..., Any]
# What each engine calls those that share the samples.
_ENGINES = {"local": "processes", "ray": "workers"}
EPILOG = "Example: leanseg eval --data scenes:test --pruner evtp random --keep-ratio 0.2 0.1 --out test.json"


def eval(
    model: Annotated[str, typer.Option(help="A model's name, or a folder.")] = "instructseg-nano",
    data: Annotated[str, typer.Option(help="A data set, FAMILY:SPLIT: scenes:test, refcoco:val, ...")] = "scenes:test",
    root: Annotated[Path | None, typer.Option(help="The folder that holds the data set's files.")] = None,
    data_option: Annotated[
        list[str] | None, typer.Option(help="An option of the data set, name=value, as unit=ref; repeat for several.")
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="An option of the protocol, name=value, as matching=id; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first samples, or scenes.")] = None,
    per_scene: Annotated[int, typer.Option(min=1, help="Instructions asked of each generated scene.")] = 1,
    pruner: Annotated[
        list[str] | None,
        typer.Option(help="Pruner specs, one or several. (default: evtp, its rivals in the paper, and simple ones)"),
    ] = None,
    keep_ratio: Annotated[
        list[float] | None, typer.Option(help="Keep ratios, one or several. (default: 0.5, 0.2, 0.1, 0.05)")
    ] = None,
    position_ids: Annotated[str, typer.Option(help="compact or original.")] = "compact",
    site: Annotated[str, typer.Option(help="before_projector or after_projector.")] = "before_projector",
    mass_preserving: Annotated[
        bool, typer.Option("--mass-preserving", help="Measure every pruned row with kept mass as well.")
    ] = False,
    fact: Annotated[
        list[str] | None,
        typer.Option(help="Note: target (its area), and per answer kept, coverage, seconds, stability; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda (under torchrun: each rank its own) or auto.")] = "cpu",
    out: Annotated[Path, typer.Option(help="The record; its lines beside it let a killed run resume.")] = Path(
        "evaluation.json"
    ),
    submission: Annotated[
        Path | None, typer.Option(help="Instead of scores, the zip that the server of refyoutube:valid takes.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Lose the finished record or zip that is there, and answer anew.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine that share the samples.")] = 1,
    engine: Annotated[
        str, typer.Option(help="local, or ray: a Ray cluster (RAY_ADDRESS, else this machine).")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Workers on the Ray cluster that share the samples.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Evaluate a model on a data set; every table in the documents is made from such a record."""
    from leanseg.cli.console import shown_log
    from leanseg.engine.evaluation.distributed import local_device
    from leanseg.engine.evaluation.request import DEFAULT_KEEP_RATIOS, Request, default_pruners

    request = Request(
        model=model, data=data, root=root, data_options=_options("--data-option", data_option),
        protocol=_options("--protocol", protocol), limit=limit, per_scene=per_scene,
        pruners=tuple(pruner or default_pruners(model)), keep_ratios=tuple(keep_ratio or DEFAULT_KEEP_RATIOS),
        position_ids=position_ids, site=site, mass_preserving=mass_preserving, facts=tuple(fact or ()),
        device=local_device(device), out=submission or out, submission=submission is not None,
        processes=_sharers(engine, processes=processes, workers=workers),
    )  # fmt: skip
    run = _runner(request, engine)
    with shown_log():
        if submission is not None:
            _submit(request, run, overwrite=overwrite, as_json=json)
        elif (record := _record(request, run, overwrite=overwrite)) is not None:
            _show(record, as_json=json)


def _sharers(engine: str, **given: int) -> int:
    """Return how many share the samples, on this machine or on a cluster."""
    from leanseg.errors import InputError, unknown_name

    if engine not in _ENGINES:
        raise InputError(unknown_name("engine", engine, _ENGINES))
    count = given.pop(_ENGINES[engine])
    for name, other in given.items():
        if other != 1:
            raise InputError(f"--{name} is {other}, and --engine is {engine}; expected --{_ENGINES[engine]}; give that")
    return count


def _runner(request: Request, engine: str) -> Run:
    """Return what evaluates: this machine, a rank of a torchrun, or a Ray cluster."""
    from leanseg.engine.evaluation.distributed import evaluate_ranks, world
    from leanseg.engine.evaluation.run import evaluate

    ranks = world()[1]
    if engine == "local":
        return evaluate_ranks if ranks > 1 else evaluate
    from leanseg.engine.batch import evaluate_on_ray
    from leanseg.errors import InputError

    if ranks > 1:
        raise InputError("--engine is ray under torchrun; expected one of the two; start leanseg itself")
    return partial(evaluate_on_ray, request)


def _record(request: Request, run: Run, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the finished record that is there, or evaluate and write it; None in all ranks of a torchrun but one."""
    from leanseg.engine.evaluation.distributed import world
    from leanseg.engine.evaluation.request import evaluation_record, finished, plan
    from leanseg.engine.records import write_json
    from leanseg.engine.tables import add_summary

    if not overwrite and (found := finished(request, plan(request))) is not None:
        if world()[0]:
            return None
        _say(f"{request.out} holds this very evaluation, finished; --overwrite measures anew")
        return found
    with _bar() as show:
        made = evaluation_record(request, show, run)
    if made is None:
        return None
    record = add_summary(made)
    write_json(request.out, record)
    # Whole now: a later run with the same --out, perhaps of a newer model, starts anew.
    request.lines.unlink()
    return record


def _submit(request: Request, run: Run, *, overwrite: bool, as_json: bool) -> None:
    """Write the zip and say what it holds; only the first rank of a torchrun does."""
    from leanseg.cli.console import print_json, results
    from leanseg.engine.evaluation.request import answered, plan
    from leanseg.engine.evaluation.submission import write_answers
    from leanseg.errors import InputError

    if request.out.exists() and not overwrite:
        raise InputError(f"{request.out} is there already; expected a new file; give another name, or --overwrite")
    evaluation = plan(request)
    with _bar() as show:
        lines = answered(request, evaluation, show, run)
    if lines is None:
        return
    n_masks = write_answers(request.out, evaluation, lines)
    request.lines.unlink()
    failures = {line["id"]: said for line in lines for said in line.get("failures", {}).values()}
    for id, said in failures.items():
        _say(f"{id} failed, and its masks are empty: {said}")
    about = {"submission": str(request.out), "answers": len(lines), "masks": n_masks, "failures": failures}
    if as_json:
        print_json({"schema": 1, "command": "eval", **about})
    else:
        results().print(f"{request.out}: {n_masks} masks of {len(lines)} expressions", markup=False)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left on a terminal, in one rank only; yields what tells it (done, total)."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from leanseg.cli.console import messages
    from leanseg.engine.evaluation.distributed import world

    console = messages()
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    hidden = bool(world()[0]) or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        bar = bars.add_task("samples", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _show(record: dict[str, Any], *, as_json: bool) -> None:
    from leanseg.cli.console import print_json, results
    from leanseg.engine.tables import retention_cells, retention_table

    if record["n_failures"]:
        _say(f"{record['n_failures']} answers failed and count as nothing found; 'failures' in the record says why")
    if as_json:
        print_json({key: value for key, value in record.items() if key != "samples"})
    else:
        about = f"{record['data']}, {record['n_samples']} samples; cells: {retention_cells(record)}"
        results().print(about, markup=False)
        results().print(retention_table(record), markup=False)


def _say(text: str) -> None:
    from leanseg.cli.console import messages

    messages().print(text, markup=False)


def _options(flag: str, given: list[str] | None) -> dict[str, Any]:
    """Return `name=value` words as options; a value that is no Python literal is text."""
    from leanseg.errors import InputError

    options: dict[str, Any] = {}
    for word in given or ():
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise InputError(f"{flag} is {word!r}; expected name=value, as unit=ref")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options

"""Runs studies: the evaluations that are not there yet, then each analysis, record and plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from leanseg.engine.evaluation.request import Request, evaluation_record, finished, plan
from leanseg.engine.records import record, write_json
from leanseg.engine.resuming import log_resumed
from leanseg.engine.study.base import KIND, Setup
from leanseg.engine.study.plots import check_plot
from leanseg.engine.study.registry import find
from leanseg.engine.tables import add_summary
from leanseg.errors import DataError

Progress = Callable[[str, int, int], None]
"""Called with the key of an evaluation, its finished samples and all of them."""


def planned(names: Sequence[str], setup: Setup, *, overwrite: bool = False) -> dict[str, Request]:
    """Return the evaluations that the studies need, by key, after checking all that can be checked before work."""
    check_plot(setup.out / "study.png")
    requests: dict[str, Request] = {}
    for name in names:
        for key, request in find(name).requests(setup).items():
            made_by = None if request.rows is None else command((name,), setup)
            if key not in requests:
                requests[key] = replace(request, made_by=made_by)
            else:
                _check_same(key, name, requests[key], request)
    for request in requests.values():
        evaluation = plan(request)
        if not overwrite:
            finished(request, evaluation)
    return requests


def run_studies(
    names: Sequence[str], setup: Setup, progress: Progress | None = None, *, overwrite: bool = False
) -> list[dict[str, Any]]:
    """Run studies by name and return their records, written to `<out>/<name>.json` with a plot beside each.

    An evaluation that is there, finished, is taken as it is; one that was broken off is resumed. `overwrite` measures
    all anew.

    Raises:
        LeansegError: before any work: an unknown study, a request that cannot be met, two studies that ask different
            things under one key, a finished record of another evaluation where one of these is to stand.
    """
    evaluations: dict[str, dict[str, Any]] = {}
    requests = planned(names, setup, overwrite=overwrite)
    there = 0 if overwrite else sum(request.out.exists() for request in requests.values())
    if there:
        log_resumed(setup.out / "evaluations", f"{there} of {len(requests)} evaluations are done")
    for key, request in requests.items():
        evaluations[key] = _evaluated(key, request, progress, overwrite)
    records = []
    for name in names:
        study = find(name)
        used = {key: evaluations[key] for key in study.requests(setup)}
        made = record(
            KIND,
            command((name,), setup),
            study=study.name,
            question=study.question,
            evaluations={key: _described(key, evaluation) for key, evaluation in used.items()},
            analysis=study.analyse(used),
        )
        write_json(setup.out / f"{name}.json", made)
        study.plot(made["analysis"], setup.out / f"{name}.png")
        records.append(made)
    return records


def command(names: Sequence[str], setup: Setup) -> str:
    """Return the command line that makes the studies again; what cannot change a digit does not show in it."""
    words = ["leanseg", "study", *names]
    words += [] if setup.model == Setup.model else ["--model", setup.model]
    words += [] if setup.limit is None else ["--limit", str(setup.limit)]
    return " ".join([*words, "--out", setup.out.as_posix()])


def _check_same(key: str, study: str, asked: Request, other: Request) -> None:
    """Refuse a key under which a study asks another thing than those before it; who asks makes no difference."""
    for name in (each.name for each in fields(Request) if each.name != "made_by"):
        before, after = getattr(asked, name), getattr(other, name)
        if before != after:
            raise DataError(
                f"the evaluation {key!r} has {name} {after!r} in study {study!r} and {before!r} in one before it; "
                "studies that name the same evaluation must ask the same of it: give one of them another key"
            )


def _evaluated(key: str, request: Request, progress: Progress | None, overwrite: bool) -> dict[str, Any]:
    if not overwrite and (found := finished(request, plan(request))) is not None:
        return found
    tell = None if progress is None else lambda done, total: progress(key, done, total)
    made = evaluation_record(request, tell)
    if made is None:  # only a rank of several has nothing to return
        raise RuntimeError(f"the evaluation {key} returned no record")
    whole = add_summary(made)
    write_json(request.out, whole)
    request.lines.unlink()
    return whole


def _described(key: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    facts = {name: evaluation[name] for name in ("model", "weights", "data", "n_samples", "n_failures", "commit")}
    return {"file": f"evaluations/{key}.json", **facts}

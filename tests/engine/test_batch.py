"""Ray: the lines of one process, whatever happens to the workers; refusals that say what to do."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanseg.engine import batch
from leanseg.engine.batch import RayWorker
from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.errors import DataError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'leanseg[ray]'")


@pytest.fixture
def request_of(model_folder: Path, tmp_path: Path) -> Request:
    model = str(model_folder)
    return Request(out=tmp_path / "r.json", model=model, limit=8, pruners=("random",), keep_ratios=(0.5,))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of two processors on this machine, which nothing outside of it is told of."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    yield ray
    ray.shutdown()


def workers() -> list[int]:
    """The processes below this one in which a worker of the cluster answers."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, name = (path / "stat").read_text(), (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        parents[int(path.name)], names[int(path.name)] = int(stat.rpartition(")")[2].split()[1]), name

    def ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and ours(parents[process]))

    return [process for process, name in names.items() if "RayWorker" in name and ours(process)]


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
@pytest.mark.skipif(sys.platform != "linux", reason="finds its workers in /proc")
def test_a_worker_that_is_killed_changes_nothing(request_of: Request, tmp_path: Path, cluster: Any) -> None:
    # Units long enough that both workers are at one when the first line is back.
    request_of = replace(request_of, limit=12, pruners=("random", "uniform", "evtp", "kcenter"), keep_ratios=(0.5, 0.2))
    planned = plan(request_of)
    alone = evaluate(planned, tmp_path / "alone.jsonl")
    evaluate(replace(planned, indices=planned.indices[:2]), request_of.lines)
    killed: list[int] = []
    seen: list[int] = []

    def progress(count: int) -> None:
        seen.append(count)
        if count == 3:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    lines = batch.evaluate_on_ray(request_of, planned, request_of.lines, processes=2, progress=progress)
    assert killed and lines == alone
    assert seen == list(range(2, 13))
    # Whole without Ray, too.
    assert evaluate(planned, request_of.lines) == alone


def test_a_worker_plans_by_itself_and_answers_unit_by_unit(request_of: Request) -> None:
    alone = evaluate(plan(request_of), request_of.lines)
    worker = RayWorker(request_of)
    for line in (alone[5], alone[0]):
        answered = worker({"index": np.int64(line["index"])})
        assert answered["refused"] == ""
        assert json.loads(answered["line"]) == line


def test_a_worker_says_why_it_cannot_answer(request_of: Request) -> None:
    lost = RayWorker(replace(request_of, data="refcoco:val", limit=None, root=request_of.out.parent))
    answered = lost({"index": 0})
    assert answered["line"] == "" and "refcoco" in answered["refused"]


@needs_ray
def test_what_a_worker_refuses_and_what_a_cluster_gives_up_is_said(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import RayError

    def gives_up(*_: Any) -> None:
        raise RayError("Task failed\nthe worker died")

    monkeypatch.setattr(batch, "_cluster", lambda ray: nullcontext())
    monkeypatch.setattr(batch, "_run", gives_up)
    with pytest.raises(DataError, match=r"gave up \(the worker died\); finished samples are in .*; run .* to resume"):
        batch.evaluate_on_ray(request_of, plan(request_of), request_of.lines, processes=2)


@needs_ray
def test_a_cluster_that_is_not_there_is_said(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: Any) -> None:
        raise ConnectionError("could not connect")

    monkeypatch.setenv("RAY_ADDRESS", "nowhere:6379")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        DataError, match=r"there is no Ray cluster at nowhere:6379 \(could not connect\); start one, or"
    ):
        batch.evaluate_on_ray(request_of, plan(request_of), request_of.lines)
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ

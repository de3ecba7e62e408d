"""One evaluation over the machines of a Ray cluster; the only module that knows Ray."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.lines import Lines, append
from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.worker import Evaluation, Worker, one_thread
from leanseg.errors import DataError, LeansegError

# A unit that ends its worker once more than this often would end any, perhaps for want of memory.
_RETRIES = 3
# One is answered while the next waits; more would wait behind a long clip while other workers are idle.
_UNITS_PER_WORKER = 2
_USAGE_STATISTICS = "RAY_USAGE_STATS_ENABLED"


def evaluate_on_ray(
    request: Request,
    evaluation: Evaluation,
    lines: Path,
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Line]:
    """Evaluate as `evaluate` does, by `processes` workers on a Ray cluster that each plan the `request` anew.

    It must plan to this `evaluation` on every machine: model and data lie under the same paths there. A worker that is
    killed is replaced, and its units are given out again. This process appends the lines as they come: nothing but it
    needs the file, and a killed run resumes, also without Ray. With `cuda` each worker has a GPU of its own.

    The cluster is the one that this process is connected to, or that of RAY_ADDRESS, or else one on this machine.

    Raises:
        DataError: Ray or its cluster is not there, a unit ended its worker again and again, or as `evaluate`.
    """
    if request.device not in ("cpu", "cuda"):
        raise DataError(
            f"--device is {request.device!r}; a Ray cluster expects cpu, or cuda: a GPU of its own for each worker"
        )
    ray = _ray()
    book = Lines(lines, evaluation.about)
    done = book.resume()
    todo = [index for index in evaluation.indices if index not in done]
    n_finished = len(evaluation.indices) - len(todo)

    def take(line: Line | None = None) -> None:
        nonlocal n_finished
        if line is not None and line["index"] not in done:
            append(book.path, line)
            done[line["index"]] = line
            n_finished += 1
        if progress is not None:
            progress(n_finished)

    take()
    if todo:
        try:
            with _cluster(ray), _quiet():
                _run(ray, _absolute(request), todo, processes, take)
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[-1]
            raise DataError(
                f"the Ray cluster gave up ({said}); finished samples are in {book.path}; run the same command again to "
                "resume"
            ) from error
    return [done[index] for index in evaluation.indices]


class RayWorker:
    """Answers units on a machine of the cluster; built there from names and paths when its first unit comes."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Return the unit's `line` as JSON; or `refused`, why there can be none."""
        try:
            if self._worker is None:
                one_thread()
                self._worker = Worker(plan(self._request))
            return {"line": json.dumps(self._worker.line(int(row["index"]))), "refused": ""}
        except LeansegError as error:
            return {"line": "", "refused": str(error)}


def _run(ray: Any, request: Request, todo: Sequence[int], workers: int, take: Callable[[Line], None]) -> None:
    units = ray.data.from_items([{"index": index} for index in todo], override_num_blocks=len(todo))
    # Ours is shown by `progress`.
    units.context.enable_progress_bars = False
    answered = units.map(
        RayWorker,
        fn_constructor_args=(request,),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_UNITS_PER_WORKER),
        num_cpus=1,
        num_gpus=int(request.device == "cuda"),
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )
    for row in answered.iter_rows():
        if row["refused"]:
            raise DataError(row["refused"])
        take(json.loads(row["line"]))


def _absolute(request: Request) -> Request:
    """Return the request with paths that do not depend on where a worker was started."""
    model = Path(request.model).resolve() if Path(request.model).exists() else request.model
    return replace(request, model=str(model), root=None if request.root is None else request.root.resolve())


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("--engine ray needs the package ray; install it with: pip install 'leanseg[ray]'") from error
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; leave it afterwards, unless this process was in it before."""
    if ray.is_initialized():
        yield
        return
    said = os.environ.get(_USAGE_STATISTICS)
    # A cluster that we start tells nobody of its use, unless its user wants it to.
    os.environ.setdefault(_USAGE_STATISTICS, "0")
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise DataError(f"there is no Ray cluster at {where} ({error}); start one, or unset RAY_ADDRESS") from error
    finally:
        if said is None:
            del os.environ[_USAGE_STATISTICS]
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data from writing between our messages: its log has its own folder, and what ends a run is raised."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # Until 2.64 the number of retries has no other way in.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)

"""COCO-Tasks: gIoU and cIoU per task, and their plain means over the fourteen tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics._keyed import KeyedMetric, mean
from leanseg.metrics.protocols.rio import instance_counts, overlap_scores, picture_scores
from leanseg.metrics.result import Result

TASKS = (
    "step on",
    "sit comfortably",
    "place flowers",
    "get potatoes out of fire",
    "water plant",
    "get lemon out of tea",
    "dig hole",
    "open bottle of beer",
    "open parcel",
    "serve wine",
    "pour sugar",
    "smear butter",
    "extinguish fire",
    "pound carpet",
)
"""Task k + 1 of `task_<k + 1>_test.json`; the prompt is "you can use the thing to " and these words."""


@final
@dataclass(kw_only=True, eq=False)
class COCOTasks(KeyedMetric):
    """gIoU and cIoU per task, then the plain mean over tasks. The target is the union of the **preferred** objects.

    A picture without a preferred object stays in, with an empty target: the empty rules of `GIoU` matter here, and an
    empty prediction scores 1. `best_instance` as in `RIO`. A task that was not measured is an error unless it is asked
    for by name, since the mean over fewer tasks is another number.
    """

    best_instance: bool = False

    def update(self, task: int, id: str, gt: npt.ArrayLike, pred: npt.ArrayLike) -> None:
        """Add a picture of a task (1 to 14): `gt` its preferred objects (n, H, W), or their union; `pred` (H, W)."""
        if isinstance(task, bool) or not 1 <= task <= len(TASKS):
            raise InputError(f"task is {task}; expected 1 to {len(TASKS)}, as in task_<k>_test.json")
        self._keep(f"{task}/{id}", instance_counts(gt, pred, self.best_instance), {"task": int(task)})

    def compute(self, tasks: Sequence[int] = tuple(range(1, len(TASKS) + 1))) -> Result:
        """Return means over `tasks`; `samples` holds each task under its number, and each picture `<task>/<id>`."""
        samples = self._seen()
        by_task = {task: [sample.counts for _, sample in samples if sample.facts["task"] == task] for task in tasks}
        names = dict(enumerate(TASKS, start=1))
        missing = [f"{task} ({names.get(task, 'unknown')})" for task, found in by_task.items() if not found]
        if missing or not by_task:
            raise InputError(
                f"no picture of task {', '.join(missing) or 'any'} was measured; name the tasks that the mean is over: "
                "compute(tasks=[1, 2])"
            )
        rows: dict[str, Any] = {
            str(task): overlap_scores(found, self.best_instance) | {"pictures": len(found)}
            for task, found in by_task.items()
        }
        measures = [name for name in rows[str(tasks[0])] if name != "pictures"]
        scores = {name: mean(row[name] for row in rows.values()) for name in measures}
        for id, sample in samples:
            if sample.facts["task"] in by_task:
                rows[id] = picture_scores(sample.counts, self.best_instance)
        protocol = {"target": "union of preferred", "average": "tasks", "tasks": list(by_task), **self.options}
        return Result(protocol=protocol, scores=scores, samples=rows)

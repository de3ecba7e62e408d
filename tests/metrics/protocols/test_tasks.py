"""RIO and COCO-Tasks."""

import json

import numpy as np
import pytest
from tests.golden_cases import GOLDEN
from tests.metrics.golden import arrays_of, expected_of

from leanseg.errors import InputError
from leanseg.metrics import CIoU, GIoU
from leanseg.metrics.protocols import RIO, COCOTasks
from leanseg.metrics.protocols.coco_tasks import TASKS


def rio_cases():
    """One parameter per set of `iou_cases` that holds objects one by one."""
    path = GOLDEN / "metrics/iou_cases.json"
    sets = json.loads(path.read_text())["sets"] if path.is_file() else {}
    found = [pytest.param(name, id=f"iou_cases/{name}") for name, one in sets.items() if "union_mIoU" in one]
    absent = pytest.mark.skip(reason=f"no set with objects in {path}")
    return found or [pytest.param(None, marks=absent, id="iou_cases/absent")]


@pytest.mark.golden
@pytest.mark.parametrize("name", rio_cases())
def test_parity_with_the_two_published_rules(name):
    expected, arrays = expected_of("iou_cases", "sets", name), arrays_of("iou_cases", name)
    metric = RIO(best_instance=True)
    for picture in sorted({key.split("/")[0] for key in arrays}):
        metric.update(picture, arrays[f"{picture}/instances"], arrays[f"{picture}/pred"])
    found = metric.compute()
    assert found.scores["giou"] == pytest.approx(expected["union_mIoU"], abs=2e-5)
    assert found.scores["best_instance"] == pytest.approx(expected["toist_mIoU"], abs=1e-12)
    for row, one in zip(found.samples.values(), expected["per"], strict=True):
        assert row["iou"] == pytest.approx(one["union_iou"], abs=2e-5)
        assert row["best_instance"] == pytest.approx(one["toist_max_instance_iou"], abs=1e-12)


def picture(seed, n=3):
    generator = np.random.default_rng(seed)
    return generator.random((n, 12, 14)) < 0.2, generator.random((12, 14)) < 0.4


def test_rio_is_measured_against_the_union():
    metric, giou, ciou = RIO(), GIoU(), CIoU()
    for n in range(5):
        objects, pred = picture(n)
        metric.update(str(n), objects, pred)
        for one in (giou, ciou):
            one.update(objects.any(axis=0), pred)
    found = metric.compute()
    assert found.scores == {"giou": giou.compute(), "ciou": ciou.compute()}
    assert [row["iou"] for row in found.samples.values()] == giou.values()
    assert found.protocol == {"target": "union", "best_instance": False}
    union = RIO()
    for n in range(5):
        union.update(str(n), picture(n)[0].any(axis=0), picture(n)[1])
    assert union.compute().to_json() == found.to_json()


def test_a_picture_without_objects_wants_an_empty_mask():
    metric, none = RIO(best_instance=True), np.zeros((0, 4, 4))
    metric.update("a", none, np.zeros((4, 4)))
    metric.update("b", none, np.ones((4, 4)))
    assert metric.compute().scores == {"giou": 0.5, "ciou": 0.0, "best_instance": 0.5}


def measured(tasks, kind=COCOTasks, **options):
    metric = kind(**options)
    for task in tasks:
        for n in range(task % 3 + 1):
            metric.update(task, f"image_{n}", *picture(10 * task + n))
    return metric


def test_coco_tasks_are_averaged_task_by_task():
    found = measured(range(1, 15), best_instance=True).compute()
    for name in ("giou", "ciou", "best_instance"):
        values = [found.samples[str(task)][name] for task in range(1, 15)]
        assert found.scores[name] == pytest.approx(np.mean(values), abs=1e-15)
    alone = RIO()
    for n in range(3):
        alone.update(f"image_{n}", *picture(50 + n))
    assert {name: found.samples["5"][name] for name in ("giou", "ciou")} == alone.compute().scores
    assert found.samples["5"]["pictures"] == 3 and set(found.samples["5/image_2"]) == {"iou", "best_instance"}
    assert found.protocol["tasks"] == list(range(1, 15)) and found.protocol["average"] == "tasks"


def test_the_same_picture_may_serve_several_tasks():
    metric = measured([1, 2])
    assert metric.compute(tasks=[1, 2]).samples.keys() >= {"1/image_0", "2/image_0"}
    assert metric.compute(tasks=[2]).protocol["tasks"] == [2]


def test_tasks_may_be_split_and_merged_in_any_order():
    whole, parts = measured(range(1, 15)), [measured(range(9, 15)), measured(range(1, 9)), measured([4, 12])]
    restored = COCOTasks.from_state(json.loads(json.dumps(parts[0].state)))
    for part in parts[1:]:
        restored.merge(part)
    assert restored.compute().to_json() == whole.compute().to_json()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RIO().update("a", np.ones(4), np.ones((4, 4))), r"gt is float64 \(4,\)"),
        (lambda: RIO().update("a", np.ones((1, 1, 4, 4)), np.ones((4, 4))), r"expected objects \(n, H, W\) or their"),
        (lambda: RIO().update("a", np.ones((2, 4, 4)), np.ones((4, 5))), r"gt has shape \(4, 4\) and pred \(4, 5\)"),
        (lambda: RIO().update("a", np.full((4, 4), 3), np.ones((4, 4))), "gt holds values other than 0 and 1"),
        (
            lambda: RIO(best_instance=True).update("a", np.ones((4, 4)), np.ones((4, 4))),
            r"gt has shape \(4, 4\); best_instance=True needs the objects one by one",
        ),
        (lambda: RIO().compute(), "RIO has seen no sample"),
        (lambda: COCOTasks().update(15, "a", np.ones((4, 4)), np.ones((4, 4))), "task is 15; expected 1 to 14"),
        (
            lambda: measured([1, 3]).compute(tasks=[1, 2, 3, 20]),
            r"no picture of task 2 \(sit comfortably\), 20 \(unknown\)",
        ),
        (lambda: measured([1]).compute(tasks=[]), "no picture of task any was measured"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_there_are_fourteen_tasks():
    assert len(TASKS) == len(set(TASKS)) == 14

import inspect
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden_cases import GOLDEN

from leanseg.errors import InputError
from leanseg.metrics import CIoU, GIoU, jaccard


def golden(stem, key):
    """One parameter per case of `metrics/<stem>.json`, or one that is skipped where the file is absent."""
    path = GOLDEN / "metrics" / f"{stem}.json"
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {path}"), id=f"{stem}/absent")]
    found = json.loads(path.read_text())[key]
    assert found, f"{path} holds no case"
    return [pytest.param(name, id=f"{stem}/{name}") for name in found]


def expected_of(stem, key, name):
    return json.loads((GOLDEN / "metrics" / f"{stem}.json").read_text())[key][name]


def arrays_of(stem, name):
    """The arrays of one case: `<case>/<part>` as {part: array}."""
    with np.load(GOLDEN / "metrics" / f"{stem}.npz") as file:
        found = {key[len(name) + 1 :]: file[key] for key in file.files if key.startswith(f"{name}/")}
    assert found, f"{stem}.npz holds no {name}"
    return found


def pairs_of(name, expected):
    """Target with labels 0, 1, 255, and prediction, of each picture of an iou case."""
    arrays = arrays_of("iou_cases", "res" if name == "res_as_lisa" else name)
    for picture in sorted({key.split("/")[0] for key in arrays}):
        pred = arrays[f"{picture}/pred"]
        if "selected_query" in expected:
            query = int(arrays[f"{picture}/scores"].argmax())
            assert query == expected["selected_query"][int(picture)]
            pred = pred[query]
        if f"{picture}/instances" in arrays:
            yield arrays[f"{picture}/instances"], pred
        else:
            yield arrays[f"{picture}/gt"], pred


@pytest.mark.golden
@pytest.mark.parametrize("name", golden("iou_cases", "sets"))
def test_parity_with_the_reference_overlap(name):
    expected = expected_of("iou_cases", "sets", name)
    pairs = list(pairs_of(name, expected))
    giou, ciou = GIoU(), CIoU()
    if "union_mIoU" in expected:
        for instances, pred in pairs:
            giou.update(instances.any(axis=0), pred)
        best = [max(jaccard(instance, pred) for instance in instances) for instances, pred in pairs]
        assert giou.values() == pytest.approx([one["union_iou"] for one in expected["per"]], abs=2e-5)
        assert giou.compute() == pytest.approx(expected["union_mIoU"], abs=2e-5)
        assert best == pytest.approx([one["toist_max_instance_iou"] for one in expected["per"]], abs=1e-12)
        assert np.mean(best) == pytest.approx(expected["toist_mIoU"], abs=1e-12)
        return
    for target, pred in pairs:
        for metric in (giou, ciou):
            metric.update(target == 1, pred == 1, ignore=target == 255)
    state = giou.state
    if "oIoU" in expected:  # here an empty union counts 0, and nothing is added to the divisor
        counts = list(zip(state["intersections"], state["unions"], strict=True))
        overlaps = [inter / union if union else 0.0 for inter, union in counts]
        assert (state["intersections"], state["unions"]) == (expected["per_I"], expected["per_U"])
        assert overlaps == pytest.approx(expected["per_iou"], abs=1e-12)
        assert np.mean(overlaps) == pytest.approx(expected["mIoU"], abs=2e-5)
        assert ciou.compute() == pytest.approx(expected["oIoU"], abs=2e-5)
        for key in (key for key in expected if key.startswith("prec@")):
            assert np.mean(np.array(overlaps) >= float(key[5:])) == pytest.approx(expected[key], abs=2e-5)
        return
    n_masks = len(state["unions"])
    before = expected.get("giou_before_all_reduce", expected["giou"])
    assert giou.compute() == pytest.approx(before, abs=2e-5)
    assert giou.compute() * n_masks / (n_masks + 1e-5) == pytest.approx(expected["giou"], abs=2e-5)
    assert ciou.compute() == pytest.approx(expected["ciou"], abs=2e-5)
    assert ciou.compute() == pytest.approx(expected.get("ciou_before_all_reduce", expected["ciou"]), abs=2e-5)
    if "per_mask_inter_union_iou" in expected:
        rows = np.array(expected["per_mask_inter_union_iou"])
        assert state == {"intersections": rows[:, 0].tolist(), "unions": rows[:, 1].tolist()}
        assert giou.values() == pytest.approx(rows[:, 2].tolist(), abs=2e-5)


@pytest.mark.golden
@pytest.mark.parametrize("name", golden("jf_cases", "cases"))
def test_parity_with_the_reference_region_measure(name):
    expected, arrays = expected_of("jf_cases", "cases", name), arrays_of("jf_cases", name)
    gt, pred, void = arrays["gt"], arrays["pred"], arrays.get("void")
    assert jaccard(gt, pred, void) == pytest.approx(expected["J"], abs=1e-12)
    if expected["union"]:
        assert expected["inter"] / expected["union"] == pytest.approx(expected["J"], abs=1e-12)


def masks(seed, count=5, size=(7, 9)):
    generator = np.random.default_rng(seed)
    return generator.random((2, count, *size)) < generator.random((2, count, 1, 1))


def test_jaccard_is_vectorised_over_frames():
    gt, pred = masks(0)
    together = jaccard(gt, pred)
    assert together.shape == (5,) and together.dtype == np.float64
    assert together.tolist() == [jaccard(one, other) for one, other in zip(gt, pred, strict=True)]
    nested = jaccard(gt.reshape(1, 5, 7, 9), pred.reshape(1, 5, 7, 9))
    assert nested.shape == (1, 5)


def test_jaccard_of_the_empty_and_of_the_void():
    empty, full = np.zeros((4, 4)), np.ones((4, 4))
    assert jaccard(empty, empty) == 1.0 and jaccard(empty, full) == 0.0 and jaccard(full, empty) == 0.0
    assert jaccard(full, empty, void=full) == 1.0
    corner = full.copy()
    corner[1:, 1:] = 0
    assert jaccard(full, 1 - corner, void=corner) == 1.0
    both = jaccard(np.stack([full, full]), np.stack([empty, full]), void=np.stack([full, empty]))
    assert both.tolist() == [1.0, 1.0]
    assert jaccard(np.stack([full, full]), np.stack([empty, full]), void=corner).tolist() == [0.0, 1.0]


def test_the_rules_for_empty_masks_and_ignored_pixels():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    giou, ciou = GIoU(), CIoU()
    for metric in (giou, ciou):
        metric.update(empty, empty)
        assert metric.compute() == (1.0 if metric is giou else 0.0)
        metric.update(empty, full)
        metric.update(full, empty)
        metric.update(full, full, ignore=full)
    assert giou.values() == [1.0, 0.0, 0.0, 1.0]
    assert giou.compute() == 0.5 and ciou.compute() == 0.0
    assert giou.state == {"intersections": [0, 0, 0, 0], "unions": [0, 16, 16, 0]}


def test_parts_that_overlap_are_one_object():
    parts = np.zeros((2, 3, 3), int)
    parts[0, :2], parts[1, 1:] = 1, 1
    metric = GIoU()
    metric.update(parts.any(axis=0), np.ones((3, 3)))
    assert metric.compute() == pytest.approx(1.0, abs=2e-6)
    with pytest.raises(InputError, match="gt holds values other than 0 and 1"):
        metric.update(parts.sum(axis=0), np.ones((3, 3)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(6)), st.integers(0, 6))
def test_any_partition_merged_in_any_order_is_exactly_the_same(seed, order, cut):
    gt, pred = masks(seed, count=6)
    for kind in (GIoU, CIoU):
        whole = kind()
        whole.update(gt, pred)
        first, second = kind(), kind()
        for place, index in enumerate(order):
            (first if place < cut else second).update(gt[index], pred[index])
        restored = kind.from_state(json.loads(json.dumps(second.state)))
        restored.merge(first)
        assert restored.compute() == whole.compute()


def test_counts_stay_exact_beyond_float32():
    metric = CIoU.from_state({"intersections": [2**24, 1], "unions": [2**24, 2]})
    assert metric.compute() == (2**24 + 1) / (2**24 + 2 + 1e-10)
    many = GIoU.from_state({"intersections": [1] * 10, "unions": [3] * 10})
    assert many.compute() == math.fsum(many.values()) / 10 == many.values()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 4)), np.ones((4, 3))), r"gt has shape \(3, 4\) and pred \(4, 3\)"),
        ((np.ones(3), np.ones(3)), r"gt is float64 \(3,\); expected a mask \(..., H, W\)"),
        ((np.ones((3, 4)), np.array([["a"]])), "pred is <U1"),
        ((np.ones((3, 4)), np.full((3, 4), 0.7)), "pred holds values other than 0 and 1; threshold a soft mask"),
        ((np.full((3, 4), 255), np.ones((3, 4))), "gt holds values other than 0 and 1"),
        (
            (np.ones((3, 4)), np.ones((3, 4)), np.ones((2, 4))),
            r"ignore has shape \(2, 4\); expected \(3, 4\) or \(3, 4\)",
        ),
    ],
)
def test_bad_masks_are_refused(arguments, message):
    for metric in (GIoU(), CIoU()):
        with pytest.raises(InputError, match=message):
            metric.update(*arguments)


def test_other_misuse_is_refused():
    for kind in (GIoU, CIoU):
        with pytest.raises(InputError, match=f"{kind.__name__} has seen no mask; call update first"):
            kind().compute()
        with pytest.raises(InputError, match="1 intersections and 2 unions do not pair up"):
            kind.from_state({"intersections": [1], "unions": [1, 2]})
    with pytest.raises(InputError, match="cannot merge CIoU into GIoU"):
        inspect.unwrap(GIoU.merge)(GIoU(), CIoU())
    with pytest.raises(InputError, match=r"void has shape \(2, 2\)"):
        jaccard(np.ones((3, 4)), np.ones((3, 4)), void=np.ones((2, 2)))

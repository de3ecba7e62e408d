import inspect
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.golden import arrays_of, expected_of, golden

from leanseg.errors import InputError
from leanseg.metrics import CIoU, GIoU, MIoU, OIoU, PrecisionAt, jaccard


def pairs_of(name, expected):
    """Target with labels 0, 1, 255, and prediction, of each picture of an iou case."""
    arrays = arrays_of("iou_cases", name.removesuffix("_as_lisa"))
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
    if "oIoU" in expected:  # here an empty union counts 0, and nothing is added to a divisor
        mean, overall, precision = (kind.from_state(state) for kind in (MIoU, OIoU, PrecisionAt))
        assert (state["intersections"], state["unions"]) == (expected["per_I"], expected["per_U"])
        assert mean.values() == pytest.approx(expected["per_iou"], abs=1e-12)
        assert mean.compute() == pytest.approx(expected["mIoU"], abs=1e-12)
        assert overall.compute() == pytest.approx(expected["oIoU"], abs=1e-12)
        assert ciou.compute() == pytest.approx(expected["oIoU"], abs=2e-5)
        shares = {key: float(key[5:]) for key in expected if key.startswith("prec@")}
        found = precision.compute(shares.values())
        for key, threshold in shares.items():  # a float32 mean in the reference
            assert found[threshold] == pytest.approx(expected[key], abs=1e-6)
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


KINDS = (GIoU, CIoU, MIoU, OIoU, PrecisionAt)


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
    for kind in KINDS:
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
        ((np.ones((3, 0)), np.ones((3, 0))), r"gt has shape \(3, 0\), no pixel at all"),
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
    for kind in KINDS:
        with pytest.raises(InputError, match=f"{kind.__name__} has seen no mask; call update first"):
            kind().compute()
        with pytest.raises(InputError, match="1 intersections and 2 unions do not pair up"):
            kind.from_state({"intersections": [1], "unions": [1, 2]})
        with pytest.raises(InputError, match="1 ids and 2 unions do not pair up; give one per mask"):
            kind.from_state({"intersections": [1, 2], "unions": [1, 2], "ids": ["a"]})
    with pytest.raises(InputError, match="cannot merge CIoU into GIoU"):
        inspect.unwrap(GIoU.merge)(GIoU(), CIoU())
    with pytest.raises(InputError, match="threshold is 50; expected an IoU above 0"):
        PrecisionAt.from_state({"intersections": [1], "unions": [1]}).compute([50])
    with pytest.raises(InputError, match=r"void has shape \(2, 2\)"):
        jaccard(np.ones((3, 4)), np.ones((3, 4)), void=np.ones((2, 2)))


def test_referring_segmentation_counts_nothing_for_an_empty_target():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    pairs = [(empty, empty), (empty, full), (full, full)]
    metrics = {kind: kind() for kind in KINDS}
    for metric in metrics.values():
        for gt, pred in pairs:
            metric.update(gt, pred)
    assert metrics[MIoU].values() == [0.0, 0.0, 1.0] and metrics[MIoU].compute() == 1 / 3
    assert metrics[GIoU].compute() == pytest.approx(2 / 3, abs=1e-6)
    assert metrics[OIoU].compute() == pytest.approx(metrics[CIoU].compute()) == 0.5
    assert metrics[PrecisionAt].compute() == dict.fromkeys((0.5, 0.6, 0.7, 0.8, 0.9), 1 / 3)
    nothing = OIoU()
    nothing.update(empty, empty)
    assert nothing.compute() == 0.0


@pytest.mark.parametrize("tenths", range(1, 11))
def test_an_iou_exactly_at_the_threshold_counts(tenths):
    metric = PrecisionAt.from_state({"intersections": [tenths], "unions": [10]})
    assert metric.compute([tenths / 10]) == {tenths / 10: 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_with_an_id_counts_once(kind):
    gt, pred = masks(3)
    metric, other = kind(), kind()
    for name in ("a", "b", "a"):
        metric.update(gt, pred, id=name)
    metric.update(gt[0], pred[0])
    other.update(gt, pred, id="a")
    other.update(gt[1], pred[1], id="c")
    metric.merge(kind.from_state(json.loads(json.dumps(other.state))))
    metric.merge(kind())
    assert metric.state["ids"] == ["a"] * 5 + ["b"] * 5 + [None, "c"]
    assert len(metric.state["unions"]) == 12
    with pytest.raises(InputError, match=r"sample 'c' was measured before, with other counts: .* and now"):
        metric.update(~gt[1], pred[1], id="c")
    assert len(metric.state["unions"]) == 12


def test_samples_without_an_id_each_count_also_when_a_metric_is_merged_into_itself():
    gt, pred = masks(4)
    metric = GIoU()
    metric.update(gt, pred)
    metric.merge(metric)
    assert len(metric.values()) == 10

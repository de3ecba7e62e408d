import inspect
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.golden import expected_of, golden

from leanseg.errors import InputError
from leanseg.metrics import JF, boundary_f, jaccard, sequence_statistics
from leanseg.metrics.protocols import Davis
from leanseg.metrics.result import Result


@pytest.mark.golden
@pytest.mark.parametrize("name", golden("jf_cases", "db_statistics"))
def test_parity_with_the_reference_statistics(name):
    expected = expected_of("jf_cases", "db_statistics", name)
    found = sequence_statistics([math.nan if value is None else value for value in expected["values"]])
    assert found.mean == pytest.approx(expected["mean"], abs=1e-12)
    assert found.recall == pytest.approx(expected["recall"], abs=1e-12)
    # From 256 frames on the reference's decay is broken; there ours is compared with the definition only.
    if len(expected["values"]) < 256:
        assert found.decay == pytest.approx(expected["decay"], abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 255, 256, 257, 1000])
def test_decay_is_first_quarter_less_last_quarter_at_any_length(n):
    values = np.linspace(1.0, 0.0, n)
    quarter = round((n - 1) / 4 + 1e-10) + 1
    decay = sequence_statistics(values).decay
    assert decay == pytest.approx(values[:quarter].mean() - values[-quarter:].mean(), abs=2.0 / n)
    assert decay > 0 if n > 1 else decay == 0.0


def test_undefined_frames_are_left_out_of_the_mean_and_count_against_recall():
    found = sequence_statistics([math.nan, 1.0, 1.0, 1.0])
    assert (found.mean, found.recall) == (1.0, 0.75)
    nothing = sequence_statistics([math.nan] * 3)
    assert math.isnan(nothing.mean) and nothing.recall == 0.0
    assert nothing.to_json() == {"mean": None, "recall": 0.0, "decay": None}


def test_recall_is_strict():
    assert sequence_statistics([0.5, 0.5000001]).recall == 0.5


@pytest.mark.parametrize("values", [[], [[1.0]]])
def test_no_sequence_is_refused(values):
    with pytest.raises(InputError, match="expected one number per frame, and at least one frame"):
        sequence_statistics(values)


def clips(seed, objects=4, frames=6):
    generator = np.random.default_rng(seed)
    return generator.random((2, objects, frames, 12, 70)) < generator.random((2, objects, frames, 1, 1))


def measured(gt, pred, order=None):
    metric = JF()
    for n in order if order is not None else range(len(gt)):
        metric.update(f"clip_{n}", gt[n], pred[n])
    return metric


def test_j_and_f_are_means_over_frames_then_over_objects():
    gt, pred = clips(0)
    result = measured(gt, pred).compute()
    assert result.scores["J"] == pytest.approx(jaccard(gt, pred).mean(), abs=1e-15)
    assert result.scores["F"] == pytest.approx(boundary_f(gt, pred).mean(), abs=1e-15)
    assert result.scores["J&F"] == (result.scores["J"] + result.scores["F"]) / 2
    assert result.scores["J-Recall"] == pytest.approx((jaccard(gt, pred) > 0.5).mean())
    statistics = sequence_statistics(boundary_f(gt[2], pred[2]))
    one = result.samples["clip_2"]
    assert (one["F"], one["F-Recall"], one["F-Decay"]) == (statistics.mean, statistics.recall, statistics.decay)
    assert result.protocol == {"tolerance": 0.008}


def test_a_short_clip_weighs_as_much_as_a_long_one():
    metric = JF()
    metric.update("short", np.ones((1, 4, 4)), np.ones((1, 4, 4)))
    metric.update("long", np.ones((9, 4, 4)), np.zeros((9, 4, 4)))
    assert metric.compute().scores["J"] == 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(4)), st.integers(0, 4))
def test_any_partition_merged_in_any_order_is_exactly_the_same(seed, order, cut):
    gt, pred = clips(seed)
    whole = measured(gt, pred)
    first, second = measured(gt, pred, order[:cut]), measured(gt, pred, order[cut:])
    restored = JF.from_state(json.loads(json.dumps(second.state)))
    restored.merge(first)
    assert restored.compute().to_json() == whole.compute().to_json() and restored.state == whole.state


def test_a_sample_counts_once():
    gt, pred = clips(1)
    metric, other = measured(gt, pred), measured(gt, pred, [3, 1])
    before = metric.state
    metric.update("clip_1", gt[1], pred[1])
    metric.merge(other)
    metric.merge(metric)
    assert metric.state == before


def test_a_sample_that_changed_is_refused():
    gt, pred = clips(2)
    metric = measured(gt, pred)
    with pytest.raises(InputError, match=r"'clip_1' was measured before and is not the same now: counts \[.* frame 0"):
        metric.update("clip_1", gt[1], pred[2])
    with pytest.raises(InputError, match="6 frames before, 2 now"):
        metric.update("clip_1", gt[1, :2], pred[1, :2])
    other = JF()
    other.update("clip_0", gt[1], pred[1])
    before = metric.state
    with pytest.raises(InputError, match="'clip_0' was measured before"):
        metric.merge(other)
    assert metric.state == before


def test_void_counts_in_neither():
    gt, pred = clips(3, objects=1)
    metric = JF(tolerance=2)
    metric.update("a", gt[0], pred[0], void=gt[0] ^ pred[0])
    assert metric.compute().scores["J"] == metric.compute().scores["F"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 4)), np.ones((3, 4))), r"gt has shape \(3, 4\); expected a clip of masks \(T, H, W\)"),
        ((np.ones((0, 3, 4)), np.ones((0, 3, 4))), "with at least one frame"),
        ((np.ones((2, 3, 4)), np.ones((1, 3, 4))), r"gt has shape \(2, 3, 4\) and pred \(1, 3, 4\)"),
        ((np.full((2, 3, 4), 2), np.ones((2, 3, 4), int)), "gt holds values other than 0 and 1"),
    ],
)
def test_what_is_no_clip_of_masks_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        JF().update("a", *arguments)


def test_other_misuse_is_refused():
    with pytest.raises(InputError, match="JF has seen no sample; call update first"):
        JF().compute()
    with pytest.raises(InputError, match="cannot merge Davis into JF"):
        inspect.unwrap(JF.merge)(JF(), Davis())
    with pytest.raises(InputError, match=r"cannot merge a JF with options {'tolerance': 1.0} into one with"):
        JF().merge(JF(tolerance=1.0))


def test_a_result_is_plain_in_json():
    result = Result(protocol={"annotators": (0, 1)}, scores={"J": math.nan}, samples={"a": {"J": 1.0}})
    assert result.to_json() == {"protocol": {"annotators": [0, 1]}, "scores": {"J": None}, "samples": {"a": {"J": 1.0}}}

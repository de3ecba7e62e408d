import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.errors import InputError
from leanseg.metrics import pareto, saturation, smallest_retention

RATIOS = [0.05, 0.1, 0.2, 0.5, 1.0]
integers = st.integers(0, 4)
rows = st.lists(st.tuples(integers, integers), max_size=20)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(integers, min_size=width, max_size=width), min_size=2, max_size=6)
)


def curve(means, n=50, noise=0.005, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(means) + rng.normal(0.0, noise, (n, 1)) + rng.normal(0.0, noise, (n, len(means)))


def test_the_smallest_ratio_that_keeps_the_share_is_found():
    found = smallest_retention(RATIOS, curve([0.3, 0.5, 0.7, 0.75, 0.76]))
    assert (found.keep_ratio, found.low, found.high) == (0.2, 0.2, 0.2)
    assert found.threshold == pytest.approx(0.9 * 0.76, abs=0.01)
    assert smallest_retention(RATIOS, curve([0.3, 0.5, 0.7, 0.75, 0.76]), share=0.6).keep_ratio == 0.1
    assert found.to_json() == {"keep_ratio": 0.2, "low": 0.2, "high": 0.2, "threshold": found.threshold}


def test_the_order_in_which_ratios_are_given_is_free():
    values = curve([0.3, 0.5, 0.68, 0.75, 0.76])
    order = [3, 0, 4, 2, 1]
    mixed = smallest_retention(np.array(RATIOS)[order], values[:, order])
    assert mixed == smallest_retention(RATIOS, values)


def test_a_peak_below_a_dip_is_not_enough():
    values = [[0.6, 0.9, 0.5, 0.95, 1.0], [0.6, 0.9, 0.5, 0.95, 1.0]]
    assert smallest_retention(RATIOS, values).keep_ratio == 0.5
    assert smallest_retention(RATIOS, values, interpolate=True).keep_ratio == pytest.approx(0.2 + 0.3 * 0.4 / 0.45)


def test_better_than_all_tokens_is_enough_and_nothing_else_is_all():
    assert smallest_retention(RATIOS, [[0.6, 0.6, 0.6, 0.6, 0.5]] * 2, share=1.0).keep_ratio == 0.05
    assert smallest_retention(RATIOS, [[0.1, 0.1, 0.1, 0.1, 0.5]] * 2).keep_ratio == 1.0
    assert smallest_retention([1.0], [[0.4], [0.6]]).keep_ratio == 1.0


@pytest.mark.parametrize("interpolate", [False, True])
def test_equal_columns_reach_their_whole_share(interpolate):
    values = np.repeat(np.random.default_rng(1).random((40, 1)), 5, axis=1)
    found = smallest_retention(RATIOS, values, share=1.0, interpolate=interpolate)
    assert (found.keep_ratio, found.low, found.high) == (0.05, 0.05, 0.05)


def test_the_answer_between_ratios_is_on_the_straight_line():
    found = smallest_retention([0.1, 0.3, 1.0], [[0.5, 0.8, 1.0], [0.7, 1.0, 1.0]], share=0.8, interpolate=True)
    assert found.keep_ratio == pytest.approx(0.1 + 0.2 * (0.8 - 0.6) / 0.3)
    assert smallest_retention([0.1, 1.0], [[0.9, 1.0], [0.9, 1.0]], interpolate=True).keep_ratio == 0.1


def test_the_interval_is_that_of_every_resample():
    values = np.array([[0.2, 0.9, 1.0], [0.9, 0.8, 0.8], [0.5, 0.5, 0.9]])
    every = []
    for draw in product(range(3), repeat=3):
        means = values[list(draw)].mean(axis=0)
        enough = means >= 0.85 * means[-1] - 1e-12
        every.append(0.1 if enough.all() else 0.5 if enough[1] else 1.0)
    found = smallest_retention([0.1, 0.5, 1.0], values, share=0.85)
    assert [found.low, found.high] == np.quantile(every, [0.025, 0.975], method="inverted_cdf").tolist() == [0.1, 1.0]


def test_samples_of_one_picture_widen_the_interval():
    rng = np.random.default_rng(2)
    scene = np.repeat(np.arange(8), 30)
    loss = rng.normal(0.1, 0.08, 8)[scene]
    values = np.stack([np.full(240, 0.5), 1.0 - loss, np.ones(240)], axis=1)
    free, clustered = (smallest_retention([0.1, 0.5, 1.0], values, interpolate=True, clusters=c) for c in (None, scene))
    assert free.keep_ratio == clustered.keep_ratio
    assert clustered.high - clustered.low > 2 * (free.high - free.low)


def test_saturation_is_a_share_near_one_or_a_margin():
    values = curve([0.3, 0.5, 0.7, 0.755, 0.76])
    assert saturation(RATIOS, values).keep_ratio == 0.5
    assert saturation(RATIOS, values) == smallest_retention(RATIOS, values, share=0.98)
    assert saturation(RATIOS, values, share=0.9).keep_ratio == 0.2
    wide = saturation(RATIOS, values, margin=0.1)
    assert wide.keep_ratio == 0.2 and wide.threshold == pytest.approx(values[:, -1].mean() - 0.1)
    assert saturation(RATIOS, -values[:, ::-1], margin=0.5).keep_ratio == 0.05


@settings(max_examples=60, deadline=None)
@given(table=tables, share=st.sampled_from([0.25, 0.5, 0.9, 1.0]))
def test_from_the_answer_on_every_ratio_is_enough_and_the_one_before_is_not(table, share):
    ratios, values = np.linspace(0.2, 1.0, len(table[0])) if len(table[0]) > 1 else np.ones(1), np.array(table, float)
    found = smallest_retention(ratios, values, share=share)
    sums = values.sum(axis=0)
    enough = sums >= share * sums[-1]
    at = int(np.flatnonzero(ratios == found.keep_ratio)[0])
    assert enough[at:].all() and (at == 0 or not enough[at - 1])
    between = smallest_retention(ratios, values, share=share, interpolate=True).keep_ratio
    assert between <= found.keep_ratio and (at == 0 or between > ratios[at - 1])
    assert found.low in ratios and found.high in ratios and found.low <= found.high


def test_the_front_is_what_nothing_beats():
    points = [[1.0, 0.3], [2.0, 0.5], [3.0, 0.4], [2.0, 0.4], [4.0, 0.5], [0.5, 0.1], [9.0, 0.9]]
    assert pareto(points).tolist() == [True, True, False, False, False, True, True]
    assert pareto(np.zeros((0, 2))).tolist() == []


@settings(deadline=None)
@given(points=rows)
def test_the_front_is_that_of_comparing_all_pairs(points):
    expected = [
        not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points) for cost, quality in points
    ]
    assert pareto(np.array(points, dtype=float).reshape(-1, 2)).tolist() == expected


GOOD = [[0.5, 0.6], [0.5, 0.6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: smallest_retention([0.1, 0.5], GOOD),
            r"keep_ratios is \[0.1, 0.5\]; expected .* with 1 \(all",
        ),
        (lambda: smallest_retention([1.0, 1.0], GOOD), r"keep_ratios is \[1.0, 1.0\]; expected different numbers"),
        (lambda: saturation([0.0, 1.0], GOOD), r"keep_ratios is \[0.0, 1.0\]"),
        (lambda: saturation([[0.5, 1.0]], GOOD), r"keep_ratios is \[\[0.5, 1.0\]\]"),
        (lambda: saturation([math.nan, 1.0], GOOD), r"keep_ratios is \[nan, 1.0\]"),
        (
            lambda: smallest_retention([0.5, 1.0], [0.5, 0.6]),
            r"values has shape \(2,\); expected at least 2",
        ),
        (lambda: smallest_retention([0.5, 1.0], [[0.5, 0.6]]), r"values has shape \(1, 2\)"),
        (lambda: smallest_retention([0.1, 0.5, 1.0], GOOD), r"values has shape \(2, 2\); .* by 3 keep ratios"),
        (lambda: saturation([0.5, 1.0], [[0.5, 0.6], [0.5, math.nan]]), "values holds values that are NaN or infinite"),
        (lambda: smallest_retention([0.5, 1.0], [[0.5, -0.6], [0.5, 1.0]]), "values with all tokens are below 0"),
        (
            lambda: smallest_retention([0.5, 1.0], GOOD, share=90.0),
            "share is 90.0; it must lie above 0",
        ),
        (lambda: saturation([0.5, 1.0], GOOD, share=0.0), "share is 0.0"),
        (lambda: saturation([0.5, 1.0], GOOD, margin=-0.1), "margin is -0.1; it must be a number from 0 on"),
        (lambda: saturation([0.5, 1.0], GOOD, margin=math.nan), "margin is nan"),
        (lambda: saturation([0.5, 1.0], GOOD, confidence=1.0), "confidence is 1.0"),
        (lambda: saturation([0.5, 1.0], GOOD, clusters=[1, 1]), "all samples are in one cluster, 1"),
        (lambda: pareto([1.0, 2.0]), r"points has shape \(2,\); expected rows \(cost, quality\)"),
        (lambda: pareto([[1.0, math.inf]]), "points holds values that are NaN or infinite; leave those rows out"),
    ],
)
def test_what_cannot_be_weighed_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

import math
from dataclasses import astuple
from itertools import product

import numpy as np
import pytest

from leanseg.errors import InputError
from leanseg.metrics import Interval, _resampling, bootstrap_mean, bootstrap_median, paired_bootstrap, paired_t


def sample(seed, size=200, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, size)


def test_the_interval_is_near_the_normal_one():
    values = sample(0, 400)
    interval = bootstrap_mean(values)
    error = values.std(ddof=1) / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean()) and interval.p is None
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    wide = bootstrap_mean(values, confidence=0.99)
    assert wide.low < interval.low and wide.high > interval.high


def test_few_values_are_resampled_as_an_exact_enumeration_says():
    values = [0.0, 1.0, 5.0]
    means = [np.mean(draw) for draw in product(values, repeat=3)]
    interval = bootstrap_mean(values, confidence=0.8, n_resamples=50_000)
    exact = np.quantile(means, [0.1, 0.9], method="inverted_cdf")
    assert [interval.low, interval.high] == pytest.approx(exact.tolist())


@pytest.mark.parametrize("values", [[0.0, 1.0, 5.0], [3.0, 0.0, 1.0, 7.0]])
def test_resampled_medians_are_those_of_an_exact_enumeration(values):
    medians = [np.median(draw) for draw in product(values, repeat=len(values))]
    exact = np.quantile(medians, [0.1, 0.9], method="inverted_cdf")
    assert bootstrap_median(values, confidence=0.8, n_resamples=50_000) == pytest.approx(tuple(exact.tolist()))


def test_pairs_cancel_what_they_share():
    hard = 10.0 * sample(1)
    a, b = hard + 0.3 + 0.1 * sample(2), hard
    interval = paired_bootstrap(a, b)
    assert interval.mean == pytest.approx((a - b).mean())
    assert 0.25 < interval.low < interval.mean < interval.high < 0.35
    assert interval.p == pytest.approx(2 / 10_001)
    reverse = paired_bootstrap(b, a)
    assert (reverse.mean, reverse.low) == pytest.approx((-interval.mean, -interval.high), abs=1e-3)


def test_no_difference_has_a_large_p():
    a = sample(3)
    same = paired_bootstrap(a, a)
    assert same == Interval(0.0, 0.0, 0.0, 1.0)
    alike = paired_bootstrap(a, a - (s := sample(4)) + s.mean())
    assert alike.p > 0.8 and alike.low < 0 < alike.high


def test_p_is_small_as_often_as_it_says():
    ps = [paired_bootstrap(sample(seed, 40), sample(seed + 500, 40), n_resamples=400).p for seed in range(200)]
    assert 0.01 <= np.mean(np.array(ps) < 0.05) <= 0.11


def test_samples_of_one_cluster_are_drawn_together():
    values = [0.0, 0.0, 1.0, 5.0]
    three = [sum(map(sum, draw)) / sum(map(len, draw)) for draw in product([[0.0, 0.0], [1.0], [5.0]], repeat=3)]
    interval = bootstrap_mean(values, clusters=["a", "a", "b", "c"], confidence=0.8, n_resamples=50_000)
    assert interval.mean == 1.5
    assert [interval.low, interval.high] == pytest.approx(np.quantile(three, [0.1, 0.9]).tolist())


def test_clusters_of_one_sample_change_nothing():
    a, b = sample(7, 60), sample(8, 60)
    ids = list(range(60))
    assert bootstrap_mean(a, clusters=ids) == bootstrap_mean(a)
    assert paired_bootstrap(a, b, clusters=ids) == paired_bootstrap(a, b)
    assert paired_t(a, b, clusters=ids) == paired_t(a, b)


def test_repeating_every_sample_is_no_evidence_where_clusters_are_known():
    a, b = sample(9, 40, 0.3), sample(10, 40)
    twice = [np.repeat(side, 5) for side in (a, b)]
    ids = np.repeat(np.arange(40), 5)
    once, known, taken_as_new = paired_t(a, b), paired_t(*twice, clusters=ids), paired_t(*twice)
    assert astuple(known) == pytest.approx(astuple(once))
    assert taken_as_new.p < once.p and taken_as_new.low > once.low
    assert astuple(paired_bootstrap(*twice, clusters=ids)) == pytest.approx(astuple(paired_bootstrap(a, b)))


@pytest.mark.parametrize(("size", "confidence"), [(2, 0.95), (12, 0.9), (300, 0.99)])
def test_student_is_scipys(size, confidence):
    from scipy.stats import ttest_rel

    a, b = sample(11, size, 0.2), sample(12, size)
    expected = ttest_rel(a, b)
    ends = expected.confidence_interval(confidence)
    interval = paired_t(a, b, confidence=confidence)
    assert astuple(interval) == pytest.approx(((a - b).mean(), ends.low, ends.high, expected.pvalue), rel=1e-9)


def test_the_error_over_clusters_is_that_of_a_regression_on_one():
    rng = np.random.default_rng(13)
    ids = rng.integers(9, size=70)
    difference = rng.normal(size=70) + rng.normal(size=9)[ids]
    mean = difference.mean()
    squares = sum(((difference - mean)[ids == cluster].sum()) ** 2 for cluster in range(9))
    error = math.sqrt(9 / 8 * squares) / 70
    interval = paired_t(difference, np.zeros(70), clusters=ids, confidence=0.5)
    quartile = 0.7063866  # of Student's distribution with 8 degrees of freedom, 0.75
    assert interval.high - mean == pytest.approx(quartile * error, rel=1e-6)


def test_student_knows_no_doubt_where_all_differences_are_alike():
    a = sample(14, 30)
    assert paired_t(a, a) == Interval(0.0, 0.0, 0.0, 1.0)
    moved = paired_t([0.3, 0.5, 0.7], [0.2, 0.4, 0.6])
    assert moved.low == moved.mean == moved.high == pytest.approx(0.1) and moved.p == 0.0
    balanced = paired_t([0.1, -0.1, 0.3, -0.3], [0.0] * 4, clusters=[0, 0, 1, 1])
    assert balanced == Interval(0.0, 0.0, 0.0, 1.0)


def test_means_of_0_but_for_rounding_count_on_both_sides():
    difference = np.array([0.1, 0.2, -0.3])
    assert difference.sum() != 0.0
    draws = [np.array(draw) for draw in product(difference, repeat=3)]
    below = np.mean([round(draw.sum(), 9) <= 0.0 for draw in draws])
    above = np.mean([round(draw.sum(), 9) >= 0.0 for draw in draws])
    interval = paired_bootstrap(difference, [0.0, 0.0, 0.0], n_resamples=100_000)
    assert interval.p == pytest.approx(min(1.0, 2 * min(below, above)), abs=0.01)


def test_it_is_deterministic_and_leaves_the_global_state():
    values = sample(5)
    before = np.random.get_state()[1].copy()
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)
    assert (np.random.get_state()[1] == before).all()


def test_memory_is_bounded_without_changing_the_draws(monkeypatch):
    values = sample(6, 50)
    whole = list(_resampling.draws(50, 500, seed=0))
    mean = bootstrap_mean(values, n_resamples=500)
    monkeypatch.setattr(_resampling, "_CHUNK_VALUES", 120)
    chunks = list(_resampling.draws(50, 500, seed=0))
    assert len(whole) == 1 and len(chunks) == 250
    assert (np.concatenate(chunks) == whole[0]).all() and (whole[0].sum(axis=1) == 50).all()
    assert astuple(bootstrap_mean(values, n_resamples=500))[:3] == pytest.approx(astuple(mean)[:3], abs=1e-14)


def test_it_is_plain_in_json():
    assert bootstrap_mean([1.0, 1.0]).to_json() == {"mean": 1.0, "low": 1.0, "high": 1.0, "p": None}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([1.0]), r"values has shape \(1,\); expected a list of at least 2"),
        (lambda: bootstrap_mean([[1.0, 2.0]]), r"values has shape \(1, 2\)"),
        (lambda: bootstrap_mean([1.0, math.nan]), "values holds values that are NaN or infinite"),
        (lambda: paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0]), "a has 2 values and b 3"),
        (lambda: paired_bootstrap([1.0, 2.0], [1.0, math.inf]), "b holds values that are NaN"),
        (lambda: bootstrap_mean([1.0, 2.0], n_resamples=10), "n_resamples is 10; take at least 100"),
        (lambda: bootstrap_mean([1.0, 2.0], confidence=95.0), "confidence is 95.0; it must lie between 0 and 1"),
        (
            lambda: bootstrap_mean([1.0, 2.0], clusters=[1]),
            r"clusters has shape \(1,\); expected one id for each",
        ),
        (
            lambda: paired_bootstrap([1.0, 2.0], [2.0, 1.0], clusters=["a", "a"]),
            "all samples are in one cluster, a;",
        ),
        (lambda: paired_t([1.0, 2.0], [1.0, 2.0, 3.0]), "a has 2 values and b 3"),
        (lambda: paired_t([1.0, 2.0], [1.0, 3.0], confidence=0.0), "confidence is 0.0"),
        (lambda: paired_t([1.0, 2.0], [1.0, 3.0], clusters=[0, 0]), "all samples are in one cluster, 0; at least 2"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

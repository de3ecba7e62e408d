import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.errors import InputError
from leanseg.metrics import adjusted, compare, paired_bootstrap, paired_t
from leanseg.metrics.comparison import CORRECTIONS

p_lists = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20)


def methods(n=60, seed=0):
    rng = np.random.default_rng(seed)
    hard = rng.normal(0.5, 0.3, n)
    return {name: hard + rng.normal(gain, 0.05, n) for name, gain in (("all", 0.05), ("grid", 0.0), ("random", 0.0))}


def test_each_is_compared_with_each_as_pairs_alone_are():
    values = methods()
    found = compare(values)
    assert [(row.first, row.second) for row in found] == list(combinations(values, 2))
    for row in found:
        alone = paired_bootstrap(values[row.first], values[row.second])
        assert (row.difference, row.low, row.high) == pytest.approx((alone.mean, alone.low, alone.high), abs=1e-12)
        assert row.p_bootstrap == pytest.approx(alone.p)
        assert row.p_t == pytest.approx(paired_t(values[row.first], values[row.second]).p)
        assert row.n == 60
    assert [row.significant for row in found] == [True, True, False]


def test_p_are_adjusted_for_the_number_of_comparisons():
    found = compare(methods(), correction="bonferroni")
    for row in found:
        assert row.p_bootstrap_adjusted == pytest.approx(min(1.0, 3 * row.p_bootstrap))
        assert row.p_t_adjusted == pytest.approx(min(1.0, 3 * row.p_t))
    holm = compare(methods())
    assert [row.p_t_adjusted for row in holm] == pytest.approx(adjusted([row.p_t for row in holm]).tolist())


def test_the_interval_for_all_is_that_of_a_stricter_confidence():
    values = methods()
    for row in compare(values, confidence=0.9):
        strict = paired_bootstrap(values[row.first], values[row.second], confidence=1 - 0.1 / 3)
        assert (row.simultaneous_low, row.simultaneous_high) == pytest.approx((strict.low, strict.high), abs=1e-12)
        assert row.simultaneous_low < row.low < row.high < row.simultaneous_high


def test_against_one_gives_the_gain_of_each_other():
    found = compare(methods(), against="grid")
    assert [(row.first, row.second) for row in found] == [("all", "grid"), ("random", "grid")]
    assert found[0].difference == pytest.approx(0.05, abs=0.03)


def test_differences_that_whole_pictures_share_are_less_certain():
    rng = np.random.default_rng(1)
    scene = np.repeat(np.arange(12), 10)
    gain = rng.normal(0.0, 0.3, 12)[scene] + rng.normal(0.0, 0.02, 120)
    values = {"a": gain, "b": np.zeros(120)}
    [free], [clustered] = compare(values), compare(values, clusters=scene)
    assert free.significant and not clustered.significant
    assert clustered.high - clustered.low > 2 * (free.high - free.low)
    alone = paired_bootstrap(values["a"], values["b"], clusters=scene)
    assert (clustered.low, clustered.high, clustered.p_bootstrap) == pytest.approx((alone.low, alone.high, alone.p))


def test_three_samples_of_one_sign_are_not_significant():
    [row] = compare({"a": [0.5, 0.7, 0.9], "b": [0.4, 0.3, 0.8]})
    assert row.p_bootstrap < 0.001 and row.p_t > 0.05 and not row.significant


def test_equal_methods_are_never_significant():
    values = methods()
    [row] = compare({"a": values["grid"], "b": values["grid"].copy()})
    assert (row.difference, row.low, row.high, row.p_bootstrap, row.p_t) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert not row.significant


def test_among_true_nulls_a_false_finding_is_as_rare_as_promised():
    rng = np.random.default_rng(2)
    found = [
        any(row.significant for row in compare({name: rng.normal(size=40) for name in "abcd"}, n_resamples=500))
        for _ in range(150)
    ]
    assert np.mean(found) <= 0.09


def test_it_is_plain_in_json():
    [row] = compare({"a": [0.1, 0.2, 0.3], "b": [0.2, 0.2, 0.1]})
    content = json.loads(json.dumps(row.to_json()))
    assert content["first"] == "a" and content["n"] == 3 and content["significant"] is False


def test_corrections_are_those_of_the_textbook():
    p = [0.01, 0.02, 0.03, 0.005]
    assert adjusted(p, "bonferroni").tolist() == pytest.approx([0.04, 0.08, 0.12, 0.02])
    assert adjusted(p, "holm").tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert adjusted(p, "benjamini_hochberg").tolist() == pytest.approx([0.02, 0.08 / 3, 0.03, 0.02])
    assert adjusted([0.6, 0.7], "holm").tolist() == [1.0, 1.0]


@settings(deadline=None)
@given(p=p_lists)
def test_the_false_discovery_rate_is_scipys(p):
    from scipy.stats import false_discovery_control

    assert adjusted(p, "benjamini_hochberg").tolist() == pytest.approx(false_discovery_control(p, method="bh").tolist())


@settings(deadline=None)
@given(p=p_lists, data=st.data())
def test_corrections_keep_order_and_bounds_and_know_no_positions(p, data):
    every = {method: adjusted(p, method) for method in CORRECTIONS}
    shuffled = data.draw(st.permutations(range(len(p))))
    for method, values in every.items():
        assert (values >= p).all() and (values <= 1.0).all()
        order = np.argsort(p)
        assert (np.diff(values[order]) >= 0.0).all()
        assert (adjusted(np.array(p)[shuffled], method) == values[shuffled]).all()
    slack = 1e-12
    assert (every["benjamini_hochberg"] <= every["holm"] + slack).all()
    assert (every["holm"] <= every["bonferroni"] + slack).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_swapping_two_methods_mirrors_the_comparison(seed):
    values = methods(20, seed)
    [row] = compare({"a": values["all"], "b": values["grid"]}, n_resamples=200)
    [back] = compare({"b": values["grid"], "a": values["all"]}, n_resamples=200)
    assert (back.difference, back.low, back.high) == pytest.approx((-row.difference, -row.high, -row.low))
    assert (back.p_bootstrap, back.p_t, back.significant) == pytest.approx((row.p_bootstrap, row.p_t, row.significant))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare({"a": [1.0, 2.0]}), r"values holds \['a'\]; at least 2 names are needed"),
        (
            lambda: compare({"grid": [1.0, 2.0], "b": [1.0, 2.0]}, against="gird"),
            "name to compare with 'gird'; did",
        ),
        (lambda: compare({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}), "a has 2 values and b 3; give both for the same"),
        (lambda: compare({"a": [1.0, 2.0], "b": [1.0, math.nan]}), "b holds values that are NaN"),
        (lambda: compare({"a": [1.0, 2.0], "b": [1.0, 2.0]}, clusters=[0]), r"clusters has shape \(1,\)"),
        (lambda: compare({"a": [1.0, 2.0], "b": [1.0, 2.0]}, confidence=95.0), "confidence is 95.0"),
        (
            lambda: compare({"a": [1.0, 2.0], "b": [1.0, 2.0]}, correction="holms"),
            "correction 'holms'; did you",
        ),
        (lambda: compare({"a": [1.0, 2.0], "b": [1.0, 2.0]}, n_resamples=99), "n_resamples is 99; take at least 100"),
        (
            lambda: compare(methods(5), n_resamples=100),
            "among 3 comparisons no adjusted p of 100 resamples can fall",
        ),
        (lambda: adjusted([0.1], "fdr"), "unknown correction 'fdr'"),
        (lambda: adjusted([]), r"p_values is \[\]; expected a list of at least one number from 0 to 1"),
        (lambda: adjusted([0.1, 1.2]), r"p_values is \[0.1, 1.2\]"),
        (lambda: adjusted([0.1, math.nan]), r"p_values is \[0.1, nan\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_resamples_that_the_error_asks_for_are_enough():
    with pytest.raises(InputError, match="take n_resamples of at least 120, or"):
        compare(methods(5), n_resamples=119)
    assert len(compare(methods(5), n_resamples=120)) == 3
    assert len(compare(methods(5), n_resamples=100, correction="benjamini_hochberg")) == 3

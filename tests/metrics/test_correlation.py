import json
import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.errors import InputError
from leanseg.metrics import Correlation, correlation, pearson, spearman, within_groups

METHODS = {"pearson": pearson, "spearman": spearman}
numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=25)


def linked(n, slope, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, slope * x + rng.normal(size=n)


@settings(max_examples=60, deadline=None)
@given(points=numbers)
def test_coefficients_are_scipys_with_ties(points):
    from scipy import stats

    x, y = np.array(points, dtype=float).T
    constant = len(set(x)) == 1 or len(set(y)) == 1
    for name, measure in METHODS.items():
        found = measure(x, y, n_resamples=100)
        if constant:
            assert found == Correlation(len(x), None, None, None, None)
        else:
            expected = stats.pearsonr(x, y) if name == "pearson" else stats.spearmanr(x, y)
            assert found.coefficient == pytest.approx(expected.statistic, abs=1e-12)
            assert -1.0 <= found.low <= found.high <= 1.0 and 0.0 < found.p <= 1.0


@pytest.mark.parametrize("name", METHODS)
def test_p_is_the_share_of_all_pairings_that_are_as_extreme(name):
    from scipy import stats

    x, y = [1.0, 2.0, 2.0, 5.0, 9.0, 4.0], [2.0, 1.0, 4.0, 4.0, 8.0, 3.0]
    statistic = stats.pearsonr if name == "pearson" else stats.spearmanr
    observed = statistic(x, y).statistic
    every = [abs(statistic(x, pairing).statistic) >= abs(observed) - 1e-12 for pairing in permutations(y)]
    assert METHODS[name](x, y, n_resamples=40_000).p == pytest.approx(np.mean(every), abs=0.005)


@pytest.mark.parametrize("name", METHODS)
def test_the_interval_is_that_of_every_resample_measured_anew(name):
    from scipy import stats

    x, y = np.array([1.0, 2.0, 4.0, 9.0]), np.array([1.0, 3.0, 2.5, 4.0])
    statistic = stats.pearsonr if name == "pearson" else stats.spearmanr
    draws = [list(draw) for draw in product(range(4), repeat=4) if len(set(draw)) > 1]
    every = [statistic(x[draw], y[draw]).statistic for draw in draws]
    found = METHODS[name](x, y, n_resamples=100_000, confidence=0.6)
    assert [found.low, found.high] == pytest.approx(np.quantile(every, [0.2, 0.8]).tolist(), abs=0.02)


def test_the_interval_is_near_fishers():
    x, y = linked(300, 0.8)
    found = pearson(x, y)
    middle, half = math.atanh(found.coefficient), 1.96 / math.sqrt(297)
    assert [found.low, found.high] == pytest.approx([math.tanh(middle - half), math.tanh(middle + half)], abs=0.03)


def test_ranks_see_only_order():
    x, y = linked(80, 0.5)
    assert spearman(x, y) == spearman(np.exp(x), y**3)
    assert spearman(x, np.exp(9 * x)).coefficient == pytest.approx(1.0) != pearson(x, np.exp(9 * x)).coefficient


def test_scale_and_place_change_nothing_and_signs_turn():
    x, y = linked(40, 0.5)
    found, moved, turned = pearson(x, y), pearson(100 * x + 7, y / 9 - 3), pearson(x, -y)
    assert list(moved.to_json().values()) == pytest.approx(list(found.to_json().values()))
    assert (turned.coefficient, turned.low) == pytest.approx((-found.coefficient, -found.high))
    assert turned.p == found.p


def test_p_is_small_as_often_as_it_says():
    rng = np.random.default_rng(3)
    ps = [spearman(rng.normal(size=15), rng.normal(size=15), n_resamples=200).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(ps) < 0.05) <= 0.1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_a_constant_side_has_no_correlation(value):
    constant, other = [value] * 7, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    for measure in METHODS.values():
        undefined = Correlation(7, None, None, None, None)
        assert measure(constant, other) == measure(other, constant) == measure(constant, constant) == undefined


def paradox():
    """Within each keep ratio y falls with x; over the ratios both rise."""
    x = np.concatenate([level + np.arange(5.0) for level in (0, 10, 20)])
    y = np.concatenate([level - np.arange(5.0) + [0, 0.5, 0, 0.5, 0] for level in (0, 10, 20)])
    return x, y, np.repeat([0.05, 0.1, 0.2], 5)


@pytest.mark.parametrize("name", METHODS)
def test_what_groups_share_is_taken_away(name):
    x, y, ratio = paradox()
    assert METHODS[name](x, y).coefficient > 0.75
    found = within_groups(x, y, ratio, method=name)
    assert list(found.groups) == ["0.05", "0.1", "0.2"]
    alone = [METHODS[name](x[ratio == r], y[ratio == r]) for r in (0.05, 0.1, 0.2)]
    assert [g.coefficient for g in found.groups.values()] == [a.coefficient for a in alone]
    assert found.pooled.coefficient < -0.8 and found.pooled.high < 0 and found.pooled.n == 15
    assert found.pooled.p < 0.01 < found.groups["0.1"].p


def test_pooled_is_the_correlation_of_what_is_left_of_the_groups_means():
    rng = np.random.default_rng(4)
    group = rng.integers(6, size=90)
    x, y = linked(90, 0.5)
    x, y = x + group, y - 3 * group
    means = [np.array([side[group == g].mean() for g in range(6)])[group] for side in (x, y)]
    expected = np.corrcoef(x - means[0], y - means[1])[0, 1]
    assert within_groups(x, y, group).pooled.coefficient == pytest.approx(expected)


def test_one_group_is_the_plain_correlation():
    x, y = linked(30, 0.5)
    for name, measure in METHODS.items():
        found = within_groups(x, y, ["all"] * 30, method=name)
        assert found.pooled == found.groups["all"] == measure(x, y)


def test_groups_of_equal_size_draw_apart():
    x, y = linked(20, 0.5)
    thrice = within_groups(np.tile(x, 3), np.tile(y, 3), np.repeat([0, 1, 2], 20))
    once = thrice.groups["0"]
    assert thrice.pooled.coefficient == pytest.approx(once.coefficient)
    assert thrice.pooled.high - thrice.pooled.low < 0.75 * (once.high - once.low)
    assert thrice.pooled.p < once.p


def test_a_group_of_one_point_or_without_spread_is_undefined_and_adds_nothing():
    x, y, ratio = paradox()
    more = within_groups([*x, 3.0, 1.0, 1.0], [*y, 3.0, 2.0, 2.0], [*ratio, 0.5, 0.7, 0.7])
    assert more.groups["0.5"] == Correlation(1, None, None, None, None)
    assert more.groups["0.7"] == Correlation(2, None, None, None, None)
    assert more.pooled.coefficient == pytest.approx(within_groups(x, y, ratio).pooled.coefficient)
    assert json.loads(json.dumps(more.to_json()))["groups"]["0.5"]["p"] is None


def test_memory_is_bounded_without_changing_the_answer(monkeypatch):
    from leanseg.metrics import _resampling

    x, y, ratio = paradox()
    whole = within_groups(x, y, ratio, method="spearman", n_resamples=300)
    monkeypatch.setattr(_resampling, "_CHUNK_VALUES", 40)
    parts = within_groups(x, y, ratio, method="spearman", n_resamples=300)
    assert list(parts.pooled.to_json().values()) == pytest.approx(list(whole.pooled.to_json().values()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pearson([1.0], [1.0]), r"x has shape \(1,\); expected a list of at least 2 values"),
        (lambda: spearman([1.0, 2.0], [1.0, 2.0, 3.0]), "x has 2 values and y 3; give both for the same samples"),
        (lambda: pearson([1.0, 2.0], [1.0, math.nan]), "y holds values that are NaN or infinite"),
        (lambda: pearson([1.0, 2.0], [1.0, 3.0], confidence=2.0), "confidence is 2.0"),
        (lambda: pearson([1.0, 1.0], [1.0, 3.0], confidence=2.0), "confidence is 2.0"),
        (lambda: spearman([1.0, 2.0], [1.0, 3.0], n_resamples=5), "n_resamples is 5; take at least 100"),
        (
            lambda: within_groups([1.0, 2.0], [1.0, 3.0], [0]),
            r"groups has shape \(1,\); expected one id for each of the 2",
        ),
        (
            lambda: within_groups([1.0, 2.0], [1.0, 3.0], [0, 0], method="kendall"),
            "unknown method of correlation 'kendall'",
        ),
    ],
)
def test_what_cannot_be_correlated_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_methods_are_those_that_have_a_function():
    assert set(correlation.METHODS) == set(METHODS)

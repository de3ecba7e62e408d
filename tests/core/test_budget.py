import inspect
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanseg.core import keep_count
from leanseg.errors import BudgetError


@pytest.mark.parametrize(
    ("n", "ratio", "kept"),
    [(729, 0.5, 364), (729, 0.2, 146), (729, 0.1, 73), (729, 0.05, 36), (729, 1.0, 729), (5, 0.05, 1), (2, 0.25, 1)],
)
def test_the_count_is_pythons_round_and_at_least_one(n, ratio, kept):
    assert keep_count(n, ratio) == kept


@pytest.mark.parametrize(
    ("n", "ratio", "kept"), [(4096, 0.2, 820), (64, 0.3, 20), (10, 0.1, 1), (3, 1.0, 3), (100, 0.001, 1)]
)
def test_stages_round_down_what_is_dropped(n, ratio, kept):
    assert keep_count(n, ratio, dropped=True) == kept


@given(st.integers(1, 5000), st.integers(1, 100))
def test_dropping_percentages_is_exact_whatever_floats_do(n, percent):
    exact = n - (Fraction(100 - percent, 100) * n).__floor__()
    assert keep_count(n, percent / 100, dropped=True) == max(1, exact)


@given(st.integers(1, 5000), st.floats(1e-6, 1.0))
def test_a_count_is_between_one_and_all(n, ratio):
    assert 1 <= keep_count(n, ratio) <= n
    assert 1 <= keep_count(n, ratio, dropped=True) <= n


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_ratio_outside_zero_to_one_is_refused(ratio):
    with pytest.raises(BudgetError, match=r"keep_ratio is .*must lie in \(0, 1\]"):
        keep_count(729, ratio)


def test_a_percentage_is_recognised():
    with pytest.raises(BudgetError, match=r"for 20 % write 0\.2"):
        keep_count(729, 20)


@pytest.mark.parametrize("ratio", ["0.2", None, True])
def test_a_ratio_that_is_no_number_is_refused(ratio):
    with pytest.raises(BudgetError, match="must be a number"):
        inspect.unwrap(keep_count)(729, ratio)


@pytest.mark.parametrize("n", [0, -3, 2.5])
def test_a_number_of_tokens_below_one_is_refused(n):
    with pytest.raises(BudgetError, match="whole number of at least 1"):
        inspect.unwrap(keep_count)(n, 0.2)

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core.matching import assign
from leanseg.errors import InputError


def best(costs):
    """The least total by trying every matching."""
    matrix = costs if costs.shape[0] <= costs.shape[1] else costs.T
    rows, columns = matrix.shape
    return min(math.fsum(matrix[range(rows), chosen]) for chosen in permutations(range(columns), rows))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_the_total_is_the_least_of_all_matchings(seed, n_rows, n_columns, tied):
    generator = np.random.default_rng(seed)
    costs = generator.integers(-2, 3, (n_rows, n_columns)) if tied else generator.normal(size=(n_rows, n_columns))
    rows, columns = assign(costs)
    assert len(set(columns)) == len(rows) == min(costs.shape) and rows.tolist() == sorted(set(rows))
    assert costs[rows, columns].sum() == pytest.approx(best(costs), abs=1e-9)
    rows, columns = assign(-costs, maximise=True)
    assert costs[rows, columns].sum() == pytest.approx(best(costs), abs=1e-9)


def test_equal_costs_give_the_first_to_the_first():
    rows, columns = assign(np.zeros((3, 5)))
    assert rows.tolist() == columns.tolist() == [0, 1, 2]
    rows, columns = assign(np.zeros((5, 3)), maximise=True)
    assert rows.tolist() == columns.tolist() == [0, 1, 2]


def test_nothing_to_match_is_matched():
    for shape in ((0, 3), (3, 0), (0, 0)):
        rows, columns = assign(np.zeros(shape))
        assert rows.tolist() == columns.tolist() == []


@pytest.mark.parametrize("costs", [[1.0], [[math.nan]], [[math.inf, 1.0]]])
def test_what_is_no_matrix_of_finite_numbers_is_refused(costs):
    with pytest.raises(InputError, match=r"expected a matrix \(R, C\) of finite numbers"):
        assign(costs)

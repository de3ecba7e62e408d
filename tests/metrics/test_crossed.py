"""Units that are measured in several groups are as many as there are units, and not as there are points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leanseg.errors import InputError
from leanseg.metrics import crossed, within_groups


def drawn(slope: float, n_groups: int = 4, n_units: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return units that keep their place from group to group, in groups that differ in both."""
    generator = np.random.default_rng(seed)
    level = np.arange(n_groups)[:, None] * 5.0
    x, noise = generator.normal(size=(2, n_units))
    own = 0.05 * generator.normal(size=(n_groups, n_units))
    return level + x, level + slope * x + noise + own


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_the_coefficient_is_that_of_within_groups_and_of_all_points(method):
    x, y = drawn(1.0)
    y[1, 3] = y[1, 4]
    groups = np.repeat(np.arange(4), 12)
    expected = within_groups(x.ravel(), y.ravel(), groups, method=method, n_resamples=100).pooled.coefficient
    assert crossed(x, y, method=method, n_resamples=100).coefficient == pytest.approx(expected, abs=1e-12)
    over_all = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method](x.ravel(), y.ravel()).statistic
    assert crossed(x, y, method=method, within=False, n_resamples=100).coefficient == pytest.approx(over_all, abs=1e-12)


def test_more_groups_of_the_same_units_tell_nothing_new():
    x, y = drawn(1.0, n_groups=2)
    few = crossed(x, y)
    many = crossed(np.tile(x, (4, 1)), np.tile(y, (4, 1)))
    assert (many.low, many.high, many.p) == pytest.approx((few.low, few.high, few.p))


@pytest.mark.parametrize("within", [True, False])
def test_chance_is_found_as_often_as_it_should_be_where_points_taken_singly_find_too_much(within):
    x_and_y = [drawn(0.0, seed=seed) for seed in range(100)]
    found = [
        crossed(x - 5.0 * np.arange(4)[:, None], y - 5.0 * np.arange(4)[:, None], within=within, n_resamples=400).p
        for x, y in x_and_y
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.12 and 0.35 < np.mean(found) < 0.65
    groups = np.repeat(np.arange(4), 12)
    singly = [within_groups(x.ravel(), y.ravel(), groups, n_resamples=200).pooled.p for x, y in x_and_y[:40]]
    assert np.mean(np.array(singly) < 0.05) > 0.15


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    found = [crossed(*drawn(1.0, n_units=30, seed=seed), n_resamples=400) for seed in range(100)]
    assert 0.85 <= np.mean([each.low <= 0.5**0.5 <= each.high for each in found]) <= 1.0


def test_a_constant_side_has_no_correlation_and_an_unknown_method_is_refused():
    x, _ = drawn(1.0)
    assert crossed(x, np.full_like(x, 0.1)).coefficient is None
    with pytest.raises(InputError, match="unknown method of correlation 'kendall'"):
        crossed(x, x, method="kendall")
    with pytest.raises(InputError, match=r"x has shape \(12,\); expected a table: at least 1 clusters"):
        crossed(x[0], x[0])

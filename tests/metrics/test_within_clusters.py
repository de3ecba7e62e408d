"""Correlation within clusters takes the clusters' own levels away, and says how far other clusters could differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leanseg.errors import InputError
from leanseg.metrics import within_clusters


def drawn(slope: float, n_clusters: int = 60, n_points: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return clusters far apart from each other in both, within which y follows x by `slope` and noise."""
    generator = np.random.default_rng(seed)
    level = generator.normal(0.0, 10.0, (n_clusters, 1))
    x = generator.normal(0.0, 1.0, (n_clusters, n_points))
    return x + level, level + slope * x + generator.normal(0.0, 1.0, x.shape)


def test_the_levels_of_clusters_do_not_count():
    x, y = drawn(0.0)
    assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.9
    found = within_clusters(x, y)
    assert found.low < 0.0 < found.high and abs(found.coefficient) < 0.15 and found.p > 0.05


def test_pearson_is_that_of_the_deviations_from_the_clusters_means():
    x, y = drawn(-0.5)
    centred = [each - each.mean(axis=1, keepdims=True) for each in (x, y)]
    expected = stats.pearsonr(centred[0].ravel(), centred[1].ravel()).statistic
    found = within_clusters(x, y)
    assert found.coefficient == pytest.approx(expected, abs=1e-12) and found.n == x.size
    assert found.low < expected < found.high < 0.0 and found.p < 0.001


def test_spearman_is_that_of_ranks_within_the_cluster():
    x, y = drawn(0.3)
    y[0, 1] = y[0, 0]
    ranks = [np.array([stats.rankdata(row) for row in table]) for table in (x, y)]
    expected = within_clusters(*ranks).coefficient
    assert within_clusters(x, y, method="spearman").coefficient == pytest.approx(expected, abs=1e-12)
    assert within_clusters(x, np.exp(y), method="spearman").coefficient == pytest.approx(expected, abs=1e-12)


def test_the_interval_is_over_clusters_and_not_over_their_points():
    """Each cluster is there four times in its own points: no more is known than from one of each."""
    x, y = drawn(-0.5, n_clusters=30, n_points=4)
    once, often = within_clusters(x, y), within_clusters(np.tile(x, 4), np.tile(y, 4))
    assert often.coefficient == pytest.approx(once.coefficient)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.02)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    slope = 0.5
    truth = slope / np.sqrt(1.0 + slope**2)
    found = [within_clusters(*drawn(slope, 40, 5, seed), n_resamples=500) for seed in range(100)]
    assert 0.85 <= np.mean([each.low <= truth <= each.high for each in found]) <= 1.0


def test_p_is_uniform_where_nothing_is_associated():
    p = [within_clusters(*drawn(0.0, 20, 5, seed), n_resamples=500).p for seed in range(100)]
    assert 0.35 < np.mean(p) < 0.65


def test_a_cluster_without_spread_adds_nothing_and_all_of_them_leave_it_undefined():
    x, y = drawn(-0.5)
    flat = y.copy()
    flat[:5] = 0.1
    assert within_clusters(x, flat).coefficient == pytest.approx(
        np.sum([(a - a.mean()) @ (b - b.mean()) for a, b in zip(x[5:], y[5:], strict=True)])
        / np.sqrt(
            np.sum([np.square(a - a.mean()).sum() for a in x]) * np.sum([np.square(b - b.mean()).sum() for b in y[5:]])
        )
    )
    nothing = within_clusters(x, np.full_like(x, 0.1))
    assert (nothing.coefficient, nothing.low, nothing.high, nothing.p) == (None, None, None, None)


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        ([1.0, 2.0], [[1.0, 2.0]], {}, r"x has shape \(2,\); expected a table: at least 2 clusters"),
        (np.ones((3, 2)), np.ones((3, 1)), {}, r"y has shape \(3, 1\); expected a table"),
        (np.ones((3, 2)), np.ones((2, 3)), {}, r"x has shape \(3, 2\) and y \(2, 3\); give both for the same clusters"),
        (np.ones((3, 2)), np.ones((3, 2)), {"method": "spearmn"}, "unknown method of correlation 'spearmn'"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), {}, "x holds values that are NaN or infinite"),
    ],
)
def test_what_cannot_be_correlated_is_refused(x, y, options, said):
    with pytest.raises(InputError, match=said):
        within_clusters(x, y, **options)

import inspect
import re
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden_cases import cases

from leanseg.core import kcenter
from leanseg.core.kcenter import reference
from leanseg.errors import BudgetError, TokensError


def brute_force(points, k, start):
    """Greedy by explicit differences in float64, one row; the lowest index wins exact ties."""
    points = points.double().numpy()
    nearest, order, radius = np.full(len(points), np.inf), [], []
    for _ in range(k):
        order.append(start)
        nearest = np.minimum(nearest, ((points - points[start]) ** 2).sum(axis=1))
        nearest[order] = -1.0
        radius.append(np.sqrt(max(nearest.max(), 0.0)))
        start = int(nearest.argmax())
    return order, radius


def cloud(batch, n_points, width, seed=0):
    return torch.randn(batch, n_points, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("pruners/kcenter", "*.npz"))
def test_parity_with_the_float64_reference(path):
    with np.load(path) as case:
        features = torch.from_numpy(case["features"])[None]
        expected = {name: case[name] for name in case.files}
    degenerate = len(np.unique(expected["features"], axis=0)) < features.shape[1]
    starts = sorted({int(found[1]) for name in expected if (found := re.match(r"start(\d+)_", name))})
    assert starts, f"{path} holds no run"
    for start in starts:
        k = len(expected[f"start{start}_ref64_order"])
        order, radius = kcenter.select(features, k, start)
        np.testing.assert_allclose(radius[0], expected[f"start{start}_ref64_radius_after"], rtol=1e-9, atol=1e-9)
        assert len(set(order[0].tolist())) == k
        if degenerate:  # equal points may stand for one another
            picked = features[0, order[0]].numpy()
            np.testing.assert_array_equal(picked, expected["features"][expected[f"start{start}_ref64_order"]])
            continue
        assert order[0].tolist() == expected[f"start{start}_ref64_order"].tolist()
        assert order[0].tolist() == expected[f"start{start}_fpsample_order"].tolist()


@pytest.mark.parametrize(("n_points", "k"), [(40, 1), (40, 2), (40, 20), (40, 40), (300, 10)])
def test_both_ways_to_distances_agree_with_explicit_differences(n_points, k):
    points = cloud(2, n_points, 5)
    order, radius = kcenter.select(points, k, torch.tensor([3, 11]))
    for row, start in enumerate((3, 11)):
        expected_order, expected_radius = brute_force(points[row], k, start)
        assert order[row].tolist() == expected_order
        np.testing.assert_allclose(radius[row], expected_radius, rtol=1e-12, atol=1e-12)


def test_a_small_budget_takes_rows_on_demand_and_picks_the_same(monkeypatch):
    points = cloud(2, 64, 7)
    with_gram = kcenter.select(points, 30)
    monkeypatch.setattr(reference, "_LARGEST_GRAM", 0)
    without = kcenter.select(points, 30)
    assert torch.equal(with_gram[0], without[0])
    torch.testing.assert_close(with_gram[1], without[1], rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3))
def test_the_radius_is_at_most_twice_the_best(seed, k, width):
    points = cloud(1, 9, width, seed)
    distances = torch.cdist(points[0].double(), points[0].double())
    best = min(float(distances[:, list(centres)].amin(1).max()) for centres in combinations(range(9), k))
    for start in (0, 5):
        assert float(kcenter.select(points, k, start)[1][0, -1]) <= 2 * best + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 4))
def test_whole_numbers_tie_exactly_and_the_lowest_index_wins(seed, k, width):
    # Distances of whole numbers are exact, so that explicit differences know every tie.
    points = torch.randint(0, 3, (1, 12, width), generator=torch.Generator().manual_seed(seed)).float()
    order, radius = kcenter.select(points, k)
    expected_order, expected_radius = brute_force(points[0], k, 0)
    assert order[0].tolist() == expected_order
    np.testing.assert_allclose(radius[0], expected_radius, atol=1e-12)


def test_picks_are_nested_and_the_radius_never_grows():
    points = cloud(2, 80, 6)
    order, radius = kcenter.select(points, 80)
    assert bool((radius[:, 1:] <= radius[:, :-1]).all()) and radius[:, -1].tolist() == [0.0, 0.0]
    assert all(sorted(row) == list(range(80)) for row in order.tolist())
    for k in (1, 3, 4, 5, 40):
        assert torch.equal(kcenter.select(points, k)[0], order[:, :k])


def test_a_row_is_what_it_is_alone_bit_for_bit():
    points = cloud(5, 150, 33)
    order, radius = kcenter.select(points, 40)
    for row in range(5):
        alone = kcenter.select(points[row : row + 1], 40)
        assert torch.equal(alone[0][0], order[row]) and torch.equal(alone[1][0], radius[row])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_neither_scale_nor_offset_decides(scale):
    points = cloud(1, 60, 4).double()
    order, radius = kcenter.select(points, 20)
    scaled_order, scaled_radius = kcenter.select(points * scale, 20)
    assert torch.equal(order, scaled_order)
    torch.testing.assert_close(scaled_radius / scale, radius)
    assert torch.equal(kcenter.select(points + 1000.0, 20)[0], order)


def test_equal_points_are_at_distance_zero_and_come_last_by_index():
    points = torch.cat([cloud(1, 5, 300), cloud(1, 5, 300)], dim=1) + 50.0
    order, radius = kcenter.select(points, 10)
    assert order[0, 5:].tolist() == [5, 6, 7, 8, 9]
    assert bool((radius[0, 4:] == 0).all()) and bool((radius[0, :4] > 0).all())
    assert kcenter.select(torch.zeros(1, 6, 3), 4)[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_is_computed_in_float64(dtype):
    points = cloud(1, 30, 4).to(dtype)
    order, radius = kcenter.select(points, 30)
    assert torch.equal(order, kcenter.select(points.double(), 30)[0])
    assert radius.dtype == torch.float64


def nearest_other(points):
    distances = (points[:, None] - points[None]).square().sum(2)
    return distances.fill_diagonal_(torch.inf).amin(1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 5))
def test_the_isolated_point_is_the_one_whose_nearest_other_is_farthest(seed, n_points, width):
    whole = torch.randint(0, 4, (2, n_points, width), generator=torch.Generator().manual_seed(seed)).double()
    for points in (cloud(2, n_points, width, seed).double(), whole):
        expected = [int(nearest_other(row).argmax()) for row in points]
        assert kcenter.isolated(points).tolist() == expected


def test_the_isolated_point_of_duplicates_of_constants_and_of_one_point():
    points = torch.tensor([[[9.0], [9.0], [1.0], [0.0], [3.0]]])
    assert kcenter.isolated(points).tolist() == [4]
    assert kcenter.isolated(torch.ones(2, 6, 3)).tolist() == [0, 0]
    assert kcenter.isolated(torch.ones(1, 1, 3)).tolist() == [0]
    with pytest.raises(TokensError, match="NaN or infinite"):
        inspect.unwrap(kcenter.isolated)(torch.tensor([[[float("nan")]]]))


def test_no_gradient_is_recorded():
    points = cloud(1, 10, 2).requires_grad_()
    assert not kcenter.select(points, 3)[1].requires_grad


@pytest.mark.parametrize(
    ("points", "k", "start", "error", "message"),
    [
        ([[1.0]], 1, 0, TokensError, "points is list"),
        (torch.zeros(4, 2), 1, 0, TokensError, r"points is torch.float32 \(4, 2\)"),
        (torch.zeros(1, 4, 2, dtype=torch.int64), 1, 0, TokensError, "points is torch.int64"),
        (torch.tensor([[[float("nan")]]]), 1, 0, TokensError, "NaN or infinite"),
        (torch.zeros(1, 4, 2), 0, 0, BudgetError, r"k is 0; it must be a whole number in 1\.\.4"),
        (torch.zeros(1, 4, 2), 5, 0, BudgetError, "k is 5"),
        (torch.zeros(1, 4, 2), 1, 4, BudgetError, r"start is 4; every index must lie in 0\.\.3"),
        (torch.zeros(1, 4, 2), 1, -1, BudgetError, "start is -1"),
        (torch.zeros(1, 4, 2), 1, "mean", BudgetError, "start is 'mean'"),
        (torch.zeros(1, 4, 2), 1, torch.tensor([0, 1]), BudgetError, r"expected one int64 index per row: \(1,\)"),
        (torch.zeros(1, 4, 2), 1, torch.tensor([0.0]), BudgetError, "start is torch.float32"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(points, k, start, error, message):
    with pytest.raises(error, match=message):
        inspect.unwrap(kcenter.select)(points, k, start)

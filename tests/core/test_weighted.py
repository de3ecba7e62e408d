import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import kcenter
from leanseg.core.kcenter import weighted
from leanseg.core.kcenter.weighted import farthest_weighted


def cloud(batch, n_points, width, seed=0):
    return torch.randn(batch, n_points, width, generator=torch.Generator().manual_seed(seed))


def starts(*indices):
    return torch.tensor(indices)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.booleans())
def test_equal_weights_are_plain_farthest_first_ties_included(seed, k, tied):
    points = cloud(2, 20, 3, seed)
    points = points.round() if tied else points
    expected, _ = kcenter.select(points, k, starts(3, 0))
    assert torch.equal(farthest_weighted(points, k, starts(3, 0)), expected)
    assert torch.equal(farthest_weighted(points, k, starts(3, 0), weights=torch.full((2, 20), 0.7)), expected)


def brute_force(points, k, start, weights):
    points, weights = points.double(), weights.double()
    order = [start]
    while len(order) < k:
        nearest = torch.cdist(points, points[order]).amin(1)
        value = nearest * weights
        value[order] = -1.0
        order.append(int(value.argmax()))
    return order


@pytest.mark.parametrize(("n_points", "k"), [(30, 12), (30, 30), (400, 9)])
def test_both_ways_to_distances_agree_with_explicit_products(n_points, k, monkeypatch):
    points, weights = cloud(2, n_points, 4), torch.rand(2, n_points, generator=torch.Generator().manual_seed(5))
    order = farthest_weighted(points, k, starts(1, 2), weights=weights)
    for row, start in enumerate((1, 2)):
        assert order[row].tolist() == brute_force(points[row], k, start, weights[row])
    monkeypatch.setattr(weighted, "_LARGEST_GRAM", 0)
    assert torch.equal(farthest_weighted(points, k, starts(1, 2), weights=weights), order)


def test_a_heavy_point_is_taken_before_a_far_one():
    points = torch.tensor([[[0.0], [1.0], [3.0]]])
    assert farthest_weighted(points, 2, starts(0), weights=torch.tensor([[1.0, 1.0, 1.0]])).tolist() == [[0, 2]]
    assert farthest_weighted(points, 2, starts(0), weights=torch.tensor([[1.0, 4.0, 1.0]])).tolist() == [[0, 1]]


def test_points_without_weight_come_last_and_in_order():
    points = cloud(1, 6, 2)
    order = farthest_weighted(points, 6, starts(4), weights=torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 1.0]]))
    assert set(order[0, 1:3].tolist()) == {2, 5} and order[0, 3:].tolist() == [0, 1, 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.integers(1, 18))
def test_owed_points_have_their_share_at_every_count_while_there_are_some(seed, share, k):
    points = cloud(1, 18, 3, seed)
    owed = torch.arange(18) < 6
    order = farthest_weighted(points, k, starts(2), owed=owed, share=share)[0]
    assert len(set(order.tolist())) == k
    for count in range(1, k + 1):
        held = int(owed[order[:count]].sum())
        assert held >= min(share * count, 6) - 1e-6
    longer = farthest_weighted(points, 18, starts(2), owed=owed, share=share)[0]
    assert torch.equal(longer[:k], order)


def test_without_a_share_nothing_is_owed():
    points, owed = cloud(1, 20, 3), torch.arange(20) < 5
    expected, _ = kcenter.select(points, 10, 7)
    assert torch.equal(farthest_weighted(points, 10, starts(7), owed=owed, share=0.0), expected)

import importlib
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden_cases import cases
from torch.utils.flop_counter import FlopCounterMode

from leanseg.core import Grid, kcenter
from leanseg.core.kcenter import operators, reference
from leanseg.engine.bench.points import tokens
from leanseg.engine.bench.published import gram_running_minimum
from leanseg.engine.bench.timing import one_thread, timed
from leanseg.errors import TokensError

KINDS = ("cloud", "whole", "duplicates", "clusters", "outlier", "offset", "near_ties", "float64_ties")


def made(kind, seed, n_points, width):
    """Points (1, N, D) of a kind that is hard in its own way."""
    generator = torch.Generator().manual_seed(seed)
    cloud = torch.randn(n_points, width, generator=generator)
    pick = torch.randint(0, max(1, n_points // 4), (n_points,), generator=generator)
    if kind == "whole":
        cloud = torch.randint(0, 3, (n_points, width), generator=generator).float()
    elif kind == "duplicates":
        cloud = cloud[pick]
    elif kind == "clusters":  # copies that differ by a millionth: some by less than float32 resolves
        cloud = cloud[pick].double() + 1e-6 * torch.randn(n_points, width, generator=generator).double()
    elif kind == "outlier":  # one point far away makes all others look equal in float32
        cloud = 1e-7 * cloud.double()
        cloud[-1] = 1.0
    elif kind == "offset":
        cloud = cloud + 1e4
    elif kind == "near_ties":  # a grid whose ties are broken a hundred times above and below what counts as a tie
        cloud = torch.randint(0, 3, (n_points, width), generator=generator).double()
        cloud *= 1 + torch.tensor([1e-8, 1e-12])[torch.randint(0, 2, (1, width), generator=generator)].double()
        cloud[:, 0] += 3e-8 * torch.arange(n_points).double()
    elif kind == "float64_ties":
        cloud = torch.randint(0, 3, (n_points, width), generator=generator).double() / 3 + 1 / 7
    return cloud[None]


def both_engines(points, k, start):
    starts = torch.tensor([start])
    return kcenter.select(points, k, starts), reference.farthest_first(points, k, starts)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 40), st.data())
def test_the_compiled_engine_picks_what_the_reference_picks(kind, seed, n_points, width, data):
    points = made(kind, seed, n_points, width)
    k, start = data.draw(st.integers(1, n_points)), data.draw(st.integers(0, n_points - 1))
    (order, radius), (expected, expected_radius) = both_engines(points, k, start)
    assert order.tolist() == expected.tolist()
    torch.testing.assert_close(radius, expected_radius, rtol=1e-9, atol=0.0)
    assert torch.equal(kcenter.isolated(points), reference.most_isolated(points))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [127, 128, 129, 400])
def test_widths_around_the_blocks_of_the_filter_change_nothing(kind, width):
    points = made(kind, width, 150, width)
    (order, radius), (expected, expected_radius) = both_engines(points, 60, 7)
    assert order.tolist() == expected.tolist()
    torch.testing.assert_close(radius, expected_radius, rtol=1e-9, atol=0.0)
    assert torch.equal(kcenter.isolated(points), reference.most_isolated(points))


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("pruners/kcenter", "*.npz"))
def test_both_engines_agree_on_the_golden_points(path):
    with np.load(path) as case:
        points = torch.from_numpy(case["features"])[None]
    n_points = points.shape[1]
    for start in (0, n_points - 1):
        (order, radius), (expected, expected_radius) = both_engines(points, n_points // 2, start)
        assert torch.equal(order, expected)
        torch.testing.assert_close(radius, expected_radius, rtol=1e-9, atol=0.0)
    assert torch.equal(kcenter.isolated(points), reference.most_isolated(points))


@pytest.mark.parametrize("kind", ["cloud", "whole", "offset"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_both_engines_agree_in_every_dtype(kind, dtype):
    points = made(kind, 3, 80, 9).to(dtype)
    (order, radius), (expected, expected_radius) = both_engines(points, 50, 0)
    assert torch.equal(order, expected)
    torch.testing.assert_close(radius, expected_radius, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("scale", [2.0**-1060, 1e-290, 1e-150, 1e150, 1e290, 1.7e308])
def test_neither_tiny_nor_huge_numbers_change_the_order(scale):
    points = made("cloud", 5, 60, 6).double()
    points /= points.abs().max()
    order, radius = kcenter.select(points, 25)
    scaled_order, scaled_radius = kcenter.select(points * scale, 25)
    if scale > 1e-300:  # below, float64 itself has no digits left
        assert torch.equal(order, scaled_order)
    assert torch.equal(scaled_order, reference.farthest_first(points * scale, 25, torch.tensor([0]))[0])
    if 1e-300 < scale < 1e300:
        torch.testing.assert_close(scaled_radius / scale, radius, rtol=1e-12, atol=0.0)


def test_a_square_grid_of_coordinates_is_all_ties():
    points = Grid(27, 27).coordinates(torch.float64)[None]
    (order, radius), (expected, expected_radius) = both_engines(points, 300, 364)
    assert torch.equal(order, expected)
    torch.testing.assert_close(radius, expected_radius, rtol=1e-12, atol=0.0)


def test_extra_columns_are_columns_in_float64():
    points, more = made("cloud", 1, 90, 130), made("float64_ties", 2, 90, 3)
    order, radius = kcenter.select(points, 40, 3, extra=more)
    expected, expected_radius = kcenter.select(torch.cat([points.double(), more], dim=2), 40, 3)
    assert torch.equal(order, expected)
    torch.testing.assert_close(radius, expected_radius, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("extra", [torch.zeros(1, 9, 2), torch.zeros(1, 8, 2, dtype=torch.float64), [[0.0]]])
def test_extra_columns_that_do_not_fit_are_refused(extra):
    with pytest.raises(TokensError, match=r"extra is .*; expected float64 columns for every point: \(1, 9, E\)"):
        kcenter.select.__wrapped__(torch.zeros(1, 9, 2), 3, extra=extra)


def test_points_in_strides_are_read_as_they_stand():
    points = made("cloud", 8, 40, 30)
    assert torch.equal(kcenter.select(points.mT.contiguous().mT, 20)[0], kcenter.select(points, 20)[0])
    assert torch.equal(kcenter.select(points[:, ::2], 10)[0], kcenter.select(points[:, ::2].clone(), 10)[0])


def test_the_distances_around_the_mean_are_those_of_float64():
    points = made("offset", 4, 50, 21).repeat(2, 1, 1)
    mean, distances = kcenter.around_mean(points)
    expected = points.double().mean(1)
    torch.testing.assert_close(mean, expected, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(distances, (points.double() - expected[:, None]).norm(dim=2), rtol=1e-9, atol=0.0)


@pytest.fixture
def without_numba(monkeypatch):
    """An installation that has no numba."""
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("compiling", "compiled", "compiled_start", "cpu"):
        monkeypatch.delitem(sys.modules, f"leanseg.core.kcenter.{name}", raising=False)
        monkeypatch.delattr(importlib.import_module("leanseg.core.kcenter"), name, raising=False)
    operators.engine.cache_clear()
    yield
    monkeypatch.undo()
    operators.engine.cache_clear()


def answers(points):
    return (
        *kcenter.select(points, 20, 5),
        *kcenter.select(points, 20, 5, extra=points[..., :2].double()),
        kcenter.isolated(points),
        *kcenter.around_mean(points),
    )


def test_without_numba_torch_answers_the_same(request):
    points = made("cloud", 11, 60, 33).repeat(2, 1, 1)
    assert operators.engine("cpu") is not None
    fast = answers(points)
    request.getfixturevalue("without_numba")
    assert operators.engine("cpu") is None
    for found, expected in zip(answers(points), fast, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0.0)
    with pytest.raises(TokensError, match="NaN or infinite"):
        kcenter.select(torch.full((1, 4, 2), torch.nan), 2)


def test_the_operators_keep_the_rules_of_torch():
    points, extra = made("cloud", 2, 12, 4), torch.zeros(1, 12, 1, dtype=torch.float64)
    torch.library.opcheck(torch.ops.leanseg.farthest_first, (points, extra, 5, torch.tensor([2])))
    torch.library.opcheck(torch.ops.leanseg.most_isolated, (points,))


def test_exporting_compiling_and_counting_see_one_operator():
    class Selects(torch.nn.Module):
        def forward(self, points):
            return kcenter.select(points, 4)[0], kcenter.isolated(points)

    def compiles(points):  # the operator alone: the tests' type checks around `select` cannot be traced
        nothing, starts = points.new_empty((1, 12, 0), dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
        return torch.ops.leanseg.farthest_first(points, nothing, 4, starts)[0], torch.ops.leanseg.most_isolated(points)

    points = made("cloud", 2, 12, 4)
    exported = torch.export.export(Selects(), (points,))
    assert "leanseg.farthest_first" in exported.graph_module.code
    expected = Selects()(points)
    for found in (exported.module()(points), torch.compile(compiles, backend="eager", fullgraph=True)(points)):
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    with FlopCounterMode(display=False) as counter:
        kcenter.select(points, 4)
    assert counter.get_total_flops() == 3 * 12 * 4 * 4


@pytest.mark.slow
def test_it_stays_well_ahead_of_a_gram_matrix_on_one_thread():
    points = tokens("smooth", Grid(27, 27)).features[0]
    with one_thread():
        ours = timed(lambda: kcenter.select(points[None], 146))["cpu_ms_least"]
        gram = timed(lambda: gram_running_minimum(points, 146))["cpu_ms_least"]
        four = timed(lambda: kcenter.select(points[None].repeat(4, 1, 1), 146))["cpu_ms_least"]
    # Four to six times, and 3.8 times, where nothing else runs.
    assert gram > 2 * ours and four < 4.8 * ours

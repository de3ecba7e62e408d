import json
import re
from itertools import combinations
from math import isqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden_cases import cases

from leanseg.core import Grid, VisualTokens, kcenter, keep_count
from leanseg.core.joint import grid_spread
from leanseg.metrics.coverage import coverage
from leanseg.pruners import EVTP, KCenter

RUN = re.compile(r"idx_(?P<rule>[a-z_]+?)(?:_tau(?P<tau>[\d.]+))?_K(?P<k>\d+)_(?P<start>\w+)")


def pruner_of(run, n_tokens):
    """The pruner of a golden run's name: `inverse_std_tau1_K146_mean`, `vanilla_K36_mean`."""
    options = {"spatial_weight": 0.0}
    if run["rule"] != "vanilla":
        options = {"lambda_rule": run["rule"], "tau": float(run["tau"])}
    start = int(run["start"]) if run["start"].isdigit() else run["start"]
    return EVTP(keep_ratio=int(run["k"]) / n_tokens, start=start, **options)


def grid_of(n_tokens, facts):
    """The grid of a golden picture, as its sigma_c tells; of a grid and its transpose the wide one."""
    sigma_c = {entry["sigma_c"] for entry in facts.values() if isinstance(entry, dict) and "sigma_c" in entry}
    sizes = [Grid(height, n_tokens // height) for height in range(isqrt(n_tokens), 0, -1) if n_tokens % height == 0]
    fitting = [grid for grid in sizes if all(abs(grid_spread(grid) - value) < 1e-9 for value in sigma_c)]
    assert fitting, f"no grid of {n_tokens} tokens has sigma_c {sigma_c}"
    return fitting[0]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("evtp", "*.npz"))
def test_parity_with_the_golden_reading(path):
    with np.load(path) as case:
        arrays = {name: case[name] for name in case.files}
    facts = json.loads(path.with_suffix(".json").read_text())
    features = torch.from_numpy(arrays["features"])
    tokens = VisualTokens(features=features[None], grid=grid_of(len(features), facts))
    runs = {name: found for name in arrays if (found := RUN.fullmatch(name))}
    assert runs and len(runs) == len(arrays) - 1, f"{sorted(set(arrays) - set(runs))} are no runs"
    wrong = []
    for name, run in runs.items():
        made = pruner_of(run, len(features))
        selection = made(tokens)
        if selection.order[0].tolist() != arrays[name].tolist():
            wrong.append(name)
        radius = float(coverage(tokens, selection, made.space).joint_max[0])
        if radius != pytest.approx(facts.get(f"radius_{name[4:]}", radius), rel=1e-9):
            wrong.append(f"radius of {name}")
    assert not wrong


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("evtp", "*.npz"))
def test_parity_of_the_statistics(path):
    with np.load(path) as case:
        features = torch.from_numpy(case["features"])
        runs = [name[4:] for name in case.files if name.startswith("idx_")]
    facts = json.loads(path.with_suffix(".json").read_text())
    tokens = VisualTokens(features=features[None], grid=grid_of(len(features), facts))
    for name, expected in facts.items():
        if name.startswith("radius_"):
            assert name[7:] in runs
            continue
        if name.startswith("min_relative_gap_"):
            rule, k = re.fullmatch(r"min_relative_gap_(\w+)_K(\d+)", name).groups()
            made = EVTP(keep_ratio=int(k) / len(features), lambda_rule=rule)
            assert smallest_gap(made, tokens) == pytest.approx(expected, rel=1e-6)
            continue
        rule, tau = re.fullmatch(r"(\w+)_tau([\d.]+)", name).groups()
        embedding = EVTP(keep_ratio=0.5, lambda_rule=rule, tau=float(tau)).space.embed(tokens)
        found = {
            "lam": float(embedding.spatial_weight[0]),
            "sigma_f": float(embedding.feature_std[0]),
            "sigma_c": grid_spread(tokens.grid),
            "rho": float(features.double().square().sum(1).mean().sqrt()),
        }
        assert expected == pytest.approx({key: found[key] for key in expected}, rel=1e-9)


def smallest_gap(made, tokens):
    """The smallest relative difference between the best and the second squared distance of any pick."""
    points = made.space.embed(tokens).points[0]
    order = made(tokens).order[0].tolist()
    nearest, gap = torch.full((len(points),), torch.inf, dtype=torch.float64), 1.0
    for pick in order[:-1]:
        nearest = torch.minimum(nearest, (points - points[pick]).square().sum(1))
        nearest[pick] = -1.0
        best, second = nearest.topk(2).values.tolist()
        gap = min(gap, (best - second) / best)
    return gap


def picture(grid, width=6, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, width, generator=generator) + 0.3, grid=grid)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4]), st.sampled_from(["mean", "first", "far", "random"]))
def test_the_joint_radius_is_at_most_twice_the_best(seed, k, start):
    tokens = picture(Grid(3, 3), width=3, seed=seed)
    made = EVTP(keep_ratio=k / 9, start=start)
    points = made.space.embed(tokens).points[0]
    distances = torch.cdist(points, points)
    best = min(float(distances[:, list(centres)].amin(1).max()) for centres in combinations(range(9), k))
    assert float(coverage(tokens, made(tokens)).joint_max[0]) <= 2 * best + 1e-9


def test_one_run_serves_all_smaller_budgets():
    tokens = picture(Grid(9, 9), batch=2)
    for method in (EVTP, KCenter):
        large = method(keep_ratio=0.5)(tokens)
        for keep_ratio in (0.05, 0.1, 0.2):
            small = method(keep_ratio=keep_ratio)(tokens)
            assert large.prefix(keep_count(81, keep_ratio)).equals(small)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.6]), st.sampled_from([0.5, 1.0, 4.0]))
def test_the_joint_radius_bounds_feature_and_grid_distance(seed, keep_ratio, tau):
    tokens = picture(Grid(5, 6), seed=seed)
    made = EVTP(keep_ratio=keep_ratio, tau=tau)
    measured = coverage(tokens, made(tokens), made.space)
    joint, weight = float(measured.joint_max[0]), float(made.space.embed(tokens).spatial_weight[0])
    assert float(measured.feature_max[0]) <= joint + 1e-12
    assert float(measured.spatial_max[0]) <= joint / weight + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0]))
def test_it_is_plain_farthest_point_sampling_on_scaled_features_and_coordinates(seed, tau):
    tokens = picture(Grid(6, 7), seed=seed)
    features = tokens.features[0].double()
    rho = features.square().sum(1).mean().sqrt()
    plain = torch.cat([features / rho, tau / grid_spread(tokens.grid) * tokens.grid.coordinates(torch.float64)], dim=1)
    order = EVTP(keep_ratio=0.5, tau=tau)(tokens).order
    assert torch.equal(kcenter.select(plain[None], 21, order[:, 0])[0], order)


@pytest.mark.parametrize("scale", [1e-8, 0.37, 1e8])
@pytest.mark.parametrize("normalize", ["center_scale", "zscore", "l2"])
def test_the_scale_of_the_features_changes_nothing(scale, normalize):
    tokens = picture(Grid(7, 7))
    scaled = VisualTokens(features=tokens.features.double() * scale, grid=tokens.grid)
    made = EVTP(keep_ratio=0.3, normalize=normalize)
    assert made(tokens).equals(made(scaled))


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_a_blank_picture_is_covered_by_position_alone(value):
    grid = Grid(6, 5)
    tokens = VisualTokens(features=torch.full((1, 30, 8), value), grid=grid)
    order = EVTP(keep_ratio=0.3)(tokens).order
    assert torch.equal(kcenter.select(grid.coordinates(torch.float64)[None], 9, order[:, 0])[0], order)


def half_flat(contrast):
    """A picture whose left half is textured and whose right half is nearly flat."""
    grid = Grid(16, 16)
    generator = torch.Generator().manual_seed(1)
    strength = torch.where(grid.coords[:, 1:] < 0.5, 1.0, 0.02)
    features = 1.0 + contrast * strength * torch.randn(256, 12, generator=generator)
    return VisualTokens(features=features[None], grid=grid)


def kept_in_the_flat_half(made, contrast):
    return float((made(half_flat(contrast)).indices[0] % 16 >= 8).double().mean())


def test_flat_areas_are_not_skipped_and_the_less_contrast_the_more_space_counts():
    shares = [kept_in_the_flat_half(EVTP(keep_ratio=0.2), contrast) for contrast in (1.0, 0.3, 0.05)]
    assert shares[0] < shares[1] < shares[2] and shares[2] > 0.4
    matched = [
        kept_in_the_flat_half(EVTP(keep_ratio=0.2, lambda_rule="match_std"), contrast) for contrast in (1.0, 0.05)
    ]
    assert matched[0] == pytest.approx(matched[1], abs=0.03)
    assert kept_in_the_flat_half(KCenter(keep_ratio=0.2), 1.0) <= 0.05
    by_tau = [kept_in_the_flat_half(EVTP(keep_ratio=0.2, tau=tau), 1.0) for tau in (0.5, 1.0, 2.0, 4.0)]
    assert by_tau == sorted(by_tau) and by_tau[0] < by_tau[-1]


def test_without_spatial_weight_it_is_plain_kcenter():
    tokens = picture(Grid(8, 8), batch=2)
    for start in ("mean", "first", "far", "random", 5):
        evtp = EVTP(keep_ratio=0.25, spatial_weight=0.0, start=start)(tokens)
        assert evtp.equals(KCenter(keep_ratio=0.25, start=start)(tokens))


def test_the_first_pick_is_where_the_option_says():
    tokens = picture(Grid(5, 5), batch=2)
    for made in (EVTP(keep_ratio=0.2), EVTP(keep_ratio=0.2, start="far")):
        points = made.space.embed(tokens).points
        distance = (points - points.mean(1, keepdim=True)).square().sum(2)
        expected = distance.argmin(1) if made.start == "mean" else distance.argmax(1)
        assert torch.equal(made(tokens).order[:, 0], expected)
    assert EVTP(keep_ratio=0.2, start="first")(tokens).order[:, 0].tolist() == [0, 0]
    assert EVTP(keep_ratio=0.2, start=7)(tokens).order[:, 0].tolist() == [7, 7]
    firsts = {EVTP(keep_ratio=0.2, start="random", seed=seed)(tokens).order[0, 0].item() for seed in range(12)}
    assert len(firsts) > 4


def test_tokens_that_tie_around_the_centre_give_the_lowest_index():
    blank = VisualTokens(features=torch.ones(1, 16, 3), grid=Grid(4, 4))
    assert EVTP(keep_ratio=0.25)(blank).order[0, 0] == 5
    assert EVTP(keep_ratio=0.25, start="far")(blank).order[0, 0] == 0

import json
import math

import pytest
import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.joint import JointSpace
from leanseg.errors import SelectionError
from leanseg.metrics.coverage import coverage, information_bound
from leanseg.pruners import EVTP, Identity, KCenter, Random, Uniform


def picture(batch=2, grid=None, seed=0):
    grid = grid or Grid(6, 5)
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, 7, generator=generator), grid=grid)


def test_distances_are_those_of_the_definition():
    tokens = picture()
    selection = Random(keep_ratio=0.3)(tokens)
    measured, embedding = coverage(tokens, selection), JointSpace().embed(tokens)
    coords = tokens.grid.coordinates(torch.float64)
    for row in range(2):
        kept = selection.indices[row]
        for name, points in (
            ("feature", embedding.features[row]),
            ("spatial", coords),
            ("joint", embedding.points[row]),
        ):
            nearest = (points[:, None] - points[None, kept]).square().sum(-1).sqrt().amin(1)
            assert float(getattr(measured, f"{name}_max")[row]) == pytest.approx(float(nearest.max()), rel=1e-9)
            assert float(getattr(measured, f"{name}_mean")[row]) == pytest.approx(float(nearest.mean()), rel=1e-9)


def test_all_tokens_cover_everything_at_distance_zero():
    tokens = picture()
    measured = coverage(tokens, Identity()(tokens)).to_json()
    assert set(measured) == {f"{where}_{how}" for where in ("feature", "spatial", "joint") for how in ("max", "mean")}
    assert all(values == [0.0, 0.0] for values in measured.values())
    json.dumps(measured)


def test_a_row_is_measured_as_if_alone():
    tokens = picture(batch=3)
    selection = EVTP(keep_ratio=0.2)(tokens)
    together = coverage(tokens, selection)
    for row in range(3):
        alone = coverage(tokens.row(row), selection.row(row))
        assert torch.equal(alone.joint_max[0], together.joint_max[row])
        assert torch.equal(alone.feature_mean[0], together.feature_mean[row])


def test_each_method_covers_best_what_it_covers():
    tokens = picture(batch=1, grid=Grid(12, 12))
    made = {method: coverage(tokens, method(keep_ratio=0.15)(tokens)) for method in (EVTP, KCenter, Uniform, Random)}
    for measure, best in (("joint_max", EVTP), ("feature_max", KCenter), ("spatial_max", Uniform)):
        values = {method: float(getattr(measured, measure)) for method, measured in made.items()}
        assert min(values, key=values.get) is best, (measure, values)


def test_more_tokens_never_cover_worse():
    tokens = picture(batch=1, grid=Grid(9, 9))
    whole = EVTP(keep_ratio=0.9)(tokens)
    radii = [float(coverage(tokens, whole.prefix(k)).joint_max) for k in (1, 2, 8, 30, whole.k)]
    assert radii == sorted(radii, reverse=True)


def test_the_space_can_be_chosen():
    tokens = picture(batch=1)
    selection = EVTP(keep_ratio=0.2)(tokens)
    plain = coverage(tokens, selection, JointSpace(spatial_weight=0.0))
    torch.testing.assert_close(plain.joint_max, plain.feature_max, rtol=1e-12, atol=0)


def test_the_information_bound_is_the_formula():
    tokens = picture(batch=1, grid=Grid(9, 9))
    selection = KCenter(keep_ratio=0.8)(tokens)
    bound = information_bound(tokens, selection)
    radius = float(coverage(tokens, selection).feature_max)
    assert float(bound.radius) == pytest.approx(radius, rel=1e-12)
    entropy = 81 * 7 / 2 * math.log(2 * math.pi * math.e * radius**2 / 7)
    assert float(bound.conditional_entropy) == pytest.approx(entropy)
    assert float(bound.reference_entropy) == pytest.approx(81 * 7 / 2 * math.log(2 * math.pi * math.e / 7))
    assert float(bound.gain) == pytest.approx(-81 * 7 * math.log(radius))
    assert not bool(bound.vacuous) and float(bound.gain) > 0
    known = information_bound(tokens, selection, radius=coverage(tokens, selection).feature_max)
    torch.testing.assert_close(known.conditional_entropy, bound.conditional_entropy)


def test_the_information_bound_grows_with_the_budget_and_says_when_it_is_vacuous():
    tokens = picture(batch=1, grid=Grid(9, 9))
    whole = KCenter(keep_ratio=0.9)(tokens)
    bounds = [information_bound(tokens, whole.prefix(k)) for k in (1, 4, 20, whole.k)]
    gains = [float(bound.gain) for bound in bounds]
    assert gains == sorted(gains)
    assert bool(bounds[0].vacuous) and gains[0] <= 0 and not bool(bounds[-1].vacuous)


def test_an_infinite_bound_is_null_in_json():
    tokens = picture(batch=1)
    written = information_bound(tokens, Identity()(tokens)).to_json()
    assert written["radius"] == [0.0] and written["gain"] == [None] and written["conditional_entropy"] == [None]
    assert written["vacuous"] == [False] and json.loads(json.dumps(written, allow_nan=False)) == written


def test_a_selection_of_other_tokens_is_refused():
    tokens = picture()
    for measure in (coverage, information_bound):
        with pytest.raises(SelectionError, match="over 2 rows of 29 tokens, the tokens are 2 rows of 30"):
            measure(tokens, Selection.identity(2, 29))
        with pytest.raises(SelectionError, match="the selection keeps no token"):
            measure(tokens, Selection(torch.empty(2, 0, dtype=torch.int64), 30))


def test_a_joint_row_is_covered_in_time_as_well():
    tokens = picture(batch=3).joined()
    assert tokens.grid == Grid(6, 5, frames=3)
    first_frame = Selection(torch.arange(30)[None], 90)
    measured = coverage(tokens, first_frame)
    assert float(measured.spatial_max) == 1.0 and float(measured.spatial_mean) == pytest.approx(0.5)
    embedding = JointSpace().embed(tokens)
    nearest = torch.cdist(embedding.points[0], embedding.points[0, :30]).amin(1)
    assert float(measured.joint_max) == pytest.approx(float(nearest.max()), rel=1e-9)
    nearest = torch.cdist(embedding.features[0], embedding.features[0, :30]).amin(1)
    assert float(measured.feature_max) == pytest.approx(float(nearest.max()), rel=1e-9)
    # Without time, a still clip is covered by any one of its frames.
    still = VisualTokens(features=tokens.features[:, :30].repeat(1, 3, 1), grid=tokens.grid)
    assert float(coverage(still, first_frame, JointSpace(time_weight=0.0)).joint_max) == 0.0
    assert float(coverage(still, first_frame).joint_max) > 0.0

import pytest
import torch

from leanseg.core import Grid, VisualTokens, kcenter
from leanseg.core.joint import JointSpace, grid_spread
from leanseg.errors import SpecError


def tokens(features, grid):
    return VisualTokens(features=features, grid=grid)


def picture(grid=None, width=6, seed=0):
    grid = grid or Grid(5, 7)
    generator = torch.Generator().manual_seed(seed)
    return tokens(torch.randn(2, grid.n_tokens, width, generator=generator) + 0.5, grid)


def spread(values):
    return float((values - values.mean(0)).square().sum(1).mean().sqrt())


def test_sigma_c_of_the_paper_grid():
    assert grid_spread(Grid(27, 27)) == pytest.approx(0.4236592728681617, abs=1e-15)


def test_the_default_has_unit_variance_and_adapts_lambda():
    scene = picture()
    embedding = JointSpace().embed(scene)
    for row in range(2):
        features = scene.features[row].double()
        rho = features.square().sum(1).mean().sqrt()
        sigma_f = spread(features / rho)
        assert spread(embedding.features[row]) == pytest.approx(1.0)
        assert float(embedding.feature_std[row]) == pytest.approx(sigma_f)
        assert float(embedding.spatial_weight[row]) == pytest.approx(1.0 / (grid_spread(scene.grid) * sigma_f))
        expected = embedding.spatial_weight[row] * scene.grid.coordinates(torch.float64)
        torch.testing.assert_close(embedding.points[row, :, -2:], expected)


def test_options_are_what_they_say():
    scene, sigma_c = picture(), grid_spread(Grid(5, 7))
    plain = JointSpace().embed(scene)
    assert torch.equal(JointSpace(tau=2.0).embed(scene).spatial_weight, 2 * plain.spatial_weight)
    assert JointSpace(spatial_weight=3.0).embed(scene).spatial_weight.tolist() == [3.0, 3.0]
    for rule in ("match_std", "fixed"):
        assert JointSpace(lambda_rule=rule).embed(scene).spatial_weight.tolist() == pytest.approx([1 / sigma_c] * 2)
    scored = JointSpace(normalize="zscore").embed(scene).features[0]
    torch.testing.assert_close(scored.mean(0), torch.zeros(6).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(scored.square().mean(0), torch.full((6,), 1 / 6).double())
    unit = torch.nn.functional.normalize(scene.features[0].double(), dim=1)
    l2 = JointSpace(normalize="l2", lambda_rule="fixed").embed(scene)
    torch.testing.assert_close(l2.features[0], unit - unit.mean(0))
    assert float(l2.feature_std[0]) == pytest.approx(float((1 - unit.mean(0).square().sum()).sqrt()))
    matched = JointSpace(normalize="l2", lambda_rule="match_std").embed(scene)
    torch.testing.assert_close(matched.spatial_weight, l2.feature_std / sigma_c)


@pytest.mark.parametrize("normalize", ["center_scale", "zscore", "l2"])
@pytest.mark.parametrize("value", [0.0, 0.3, -7.0, 1e-30])
def test_tokens_that_do_not_differ_leave_only_their_position(normalize, value):
    scene = tokens(torch.full((1, 12, 5), value), Grid(3, 4))
    embedding = JointSpace(normalize=normalize).embed(scene)
    assert not embedding.features.any() and embedding.spatial_weight.tolist() == [1.0]


def test_a_still_channel_says_nothing_under_zscore():
    scene = picture()
    features = torch.cat([scene.features, torch.full((2, 35, 1), 0.1)], dim=2)
    scored = JointSpace(normalize="zscore").embed(tokens(features, scene.grid)).features
    assert not scored[..., -1].any() and scored[..., :-1].any()


@pytest.mark.parametrize("scale", [1e-18, 2.0**-20, 3.7, 1e15])
@pytest.mark.parametrize("normalize", ["center_scale", "zscore", "l2"])
def test_scale_changes_nothing(scale, normalize):
    scene, space = picture(), JointSpace(normalize=normalize)
    scaled = space.embed(tokens(scene.features.double() * scale, scene.grid))
    torch.testing.assert_close(scaled.points, space.embed(scene).points, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, r"tau is 0\.0; it must be a positive number"),
        ({"tau": float("inf")}, "tau is inf"),
        ({"tau": "1"}, "tau is '1'"),
        ({"tau": True}, "tau is True"),
        ({"spatial_weight": -1.0}, r"spatial_weight is -1\.0; it must be a number of at least 0, or None"),
        ({"spatial_weight": float("nan")}, "spatial_weight is nan"),
        ({"lambda_rule": "inverse"}, "unknown lambda_rule 'inverse'; did you mean 'inverse_std'"),
        ({"normalize": "center"}, "unknown normalize 'center'; did you mean 'center_scale'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        JointSpace(**options)


def clip(frames=3, seed=0):
    grid = Grid(4, 5, frames=frames)
    generator = torch.Generator().manual_seed(seed)
    return tokens(torch.randn(1, grid.n_tokens, 6, generator=generator) + 0.5, grid)


def test_a_grid_of_several_frames_has_time_as_one_more_coordinate():
    scene, space = clip(), JointSpace()
    embedding = space.embed(scene)
    assert embedding.points.shape == (1, 60, 6 + 3) and embedding.features.shape == (1, 60, 6)
    times = scene.grid.times(torch.float64)
    sigma_t, sigma_f = spread(times[:, None]), float(embedding.feature_std[0])
    assert float(embedding.time_weight[0]) == pytest.approx(1.0 / (sigma_t * sigma_f))
    torch.testing.assert_close(embedding.points[0, :, -1], embedding.time_weight[0] * times)
    torch.testing.assert_close(
        embedding.points[0, :, -3:-1], embedding.spatial_weight[0] * scene.grid.coordinates(torch.float64)
    )
    # The statistics are those of the whole window: time apart, it is a picture of all its tokens.
    assert spread(embedding.features[0]) == pytest.approx(1.0)


def test_one_frame_has_no_time():
    scene = picture()
    for space in (JointSpace(), JointSpace(time_weight=5.0)):
        embedding = space.embed(scene)
        assert embedding.time_weight is None and embedding.points.shape == (2, 35, 6 + 2)
        assert torch.equal(embedding.points, JointSpace().embed(scene).points)


def test_time_is_weighed_as_space_is_unless_it_has_a_weight_of_its_own():
    scene = clip()
    assert JointSpace(time_weight=0.3).embed(scene).time_weight.tolist() == [0.3]
    assert JointSpace(spatial_weight=2.0).embed(scene).time_weight.tolist() == [2.0]
    assert not JointSpace(spatial_weight=0.0).embed(scene).points[..., -3:].any()
    timeless = JointSpace(time_weight=0.0).embed(scene)
    assert not timeless.points[..., -1].any() and timeless.points[..., -2].any()
    doubled = JointSpace(tau=2.0).embed(scene)
    assert torch.equal(doubled.time_weight, 2 * JointSpace().embed(scene).time_weight)
    blank = tokens(torch.ones(1, 60, 3), Grid(4, 5, frames=3))
    assert JointSpace().embed(blank).time_weight.tolist() == [1.0]
    with pytest.raises(SpecError, match=r"time_weight is -1\.0; it must be a number of at least 0, or None"):
        JointSpace(time_weight=-1.0)


@pytest.mark.parametrize("options", [{}, {"lambda_rule": "match_std", "tau": 2.0}, {"spatial_weight": 0.3}])
@pytest.mark.parametrize("grid", [Grid(5, 6), Grid(3, 4, frames=3)])
@pytest.mark.parametrize("normalize", ["center_scale", "zscore"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_sketch_has_the_distances_of_the_embedding_up_to_one_factor(options, grid, normalize, dtype):
    features = torch.randn(2, grid.n_tokens, 7, generator=torch.Generator().manual_seed(0)) + 0.5
    tokens = VisualTokens(features=features.to(dtype), grid=grid)
    space = JointSpace(normalize=normalize, **options)
    sketch, points = space.sketch(tokens), space.embed(tokens).points
    together = torch.cat([sketch.points.double(), sketch.extra], dim=2)
    ratio = torch.cdist(together, together) / torch.cdist(points, points).clamp_min(1e-12)
    around = sketch.around / kcenter.around_mean(points)[1]
    for row, mean_row in zip(ratio, around, strict=True):
        factor = row[0, 1]
        off_diagonal = row[~torch.eye(len(row), dtype=torch.bool)]
        torch.testing.assert_close(off_diagonal, factor.expand_as(off_diagonal), rtol=1e-6, atol=0.0)
        torch.testing.assert_close(mean_row, factor.expand_as(mean_row), rtol=1e-6, atol=0.0)


def test_tokens_that_do_not_differ_are_sketched_by_their_places():
    grid = Grid(4, 4)
    tokens = VisualTokens(features=torch.full((1, 16, 3), 0.1), grid=grid)
    sketch = JointSpace().sketch(tokens)
    assert torch.equal(sketch.points, JointSpace().embed(tokens).points) and sketch.extra.shape == (1, 16, 0)

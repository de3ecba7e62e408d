import dataclasses
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens, kcenter
from leanseg.errors import BudgetError, SelectionError, SpecError, TokensError
from leanseg.metrics.coverage import coverage
from leanseg.pruners import EVTP, Adaptive, EVTPVideo, Identity, KCenter, Random, Uniform, calibrate, pruner
from leanseg.pruners import adaptive as module
from leanseg.pruners.adaptive import prefix_radii
from leanseg.testing import check_pruner

GRID = Grid(10, 10)


def picture(contrast=1.0, seed=0, batch=1, grid=GRID):
    """Texture of some contrast on a grey ground."""
    generator = torch.Generator().manual_seed(seed)
    features = 1.0 + contrast * torch.randn(batch, grid.n_tokens, 6, generator=generator)
    return VisualTokens(features=features, grid=grid)


def measured(tokens, selection, inner, measure):
    """The radius of a selection, from the public measure."""
    space = getattr(inner, "space", None)
    radii = coverage(tokens, selection, space)
    if measure == "absolute":
        return float(radii.joint_max) * float(EVTP(keep_ratio=1).space.embed(tokens).feature_std)
    return float(getattr(radii, f"{measure}_max"))


@pytest.mark.parametrize("measure", ["absolute", "joint", "feature", "spatial"])
@pytest.mark.parametrize(
    "inner", [EVTP(keep_ratio=1), EVTP(keep_ratio=1, tau=2.0), KCenter(keep_ratio=1), Random(keep_ratio=1)]
)
def test_it_is_the_smallest_prefix_within_the_radius(inner, measure):
    tokens = picture()
    whole = inner.select(tokens, 60)
    radii = [measured(tokens, whole.prefix(k), inner, measure) for k in range(1, 61)]
    for radius in (radii[4] * 1.0001, radii[29] * 1.0001):
        selection = Adaptive(keep_ratio=0.6, inner=inner, radius=radius, measure=measure)(tokens)
        expected = next(k for k, reached in enumerate(radii, start=1) if reached <= radius)
        assert selection.equals(whole.prefix(expected))


def test_the_ratio_is_the_most_that_may_stay_and_one_is_the_identity():
    tokens = picture()
    for keep_ratio, k in ((0.1, 10), (0.3, 30), (1.0, 100)):
        assert Adaptive(keep_ratio=keep_ratio, inner=EVTP(keep_ratio=1), radius=0.0)(tokens).k == k
    assert Adaptive(keep_ratio=0.3, inner=EVTP(keep_ratio=1), radius=1e9)(tokens).k == 1


def test_plain_pictures_keep_fewer_tokens_by_the_absolute_radius_only():
    busy, plain = picture(1.0), picture(0.02)
    inner = EVTP(keep_ratio=1)
    made = calibrate(inner, [busy, plain], 0.3, keep_ratio=0.95)
    assert made(plain).k < 10 < 45 < made(busy).k
    joint = calibrate(inner, [busy, plain], 0.3, keep_ratio=0.95, measure="joint")
    assert joint(plain).k > joint(busy).k
    blank = VisualTokens(features=torch.ones(1, 100, 6), grid=GRID)
    assert 1 < made(blank).k < 10


def test_a_flat_picture_is_the_limit_of_ever_fainter_ones():
    made = Adaptive(keep_ratio=0.9, inner=EVTP(keep_ratio=1, tau=3.0, start="first"), radius=1.0)
    flat, faint = made(picture(0.0)).k, made(picture(1e-5)).k
    # Equal but for picks that tie where nothing differs.
    assert flat > 30 and abs(flat - faint) <= 3


@pytest.mark.parametrize("measure", ["absolute", "joint", "feature", "spatial"])
@pytest.mark.parametrize("mean", [0.05, 0.2, 0.5])
def test_calibration_keeps_the_asked_mean(measure, mean):
    batches = [picture(contrast, seed, batch=2) for seed, contrast in enumerate((1.0, 0.3, 0.1))]
    batches.append(picture(0.5, 9, grid=Grid(7, 9)))
    made = calibrate(EVTP(keep_ratio=1), batches, mean, measure=measure)
    rows = [tokens.row(index) for tokens in batches for index in range(tokens.batch)]
    share = sum(made(row).k / row.n_tokens for row in rows) / len(rows)
    # Never more; less by no more than ties allow, which places on one grid have many of.
    assert share <= mean + 1e-9 and share > mean - (0.15 if measure == "spatial" else 0.02)
    assert made.keep_ratio == min(4 * mean, 0.95) and made.measure == measure
    assert pruner(made.spec()) == made


def test_calibration_reads_each_batch_once_and_knows_tiny_grids():
    tiny = picture(grid=Grid(1, 1))
    made = calibrate(EVTP(keep_ratio=1), iter([tiny, picture()]), 0.6, keep_ratio=0.9)
    assert made(tiny).k == 1 and made(picture()).k == 20


@pytest.mark.parametrize(
    "made",
    [
        Adaptive(keep_ratio=0.5, inner=EVTP(keep_ratio=1), radius=0.9),
        Adaptive(keep_ratio=0.5, inner=KCenter(keep_ratio=1), radius=1.2, measure="feature"),
        Adaptive(keep_ratio=0.5, inner=Random(keep_ratio=1), radius=0.3, measure="spatial"),
        Adaptive(keep_ratio=0.5, inner=EVTPVideo(keep_ratio=1), radius=1.0, measure="joint"),
    ],
    ids=lambda made: made.spec(),
)
def test_every_measure_obeys_the_laws(made):
    check_pruner(
        lambda keep_ratio: dataclasses.replace(made, keep_ratio=keep_ratio),
        grids=[Grid(1, 1), Grid(1, 5), Grid(4, 4), Grid(3, 3, frames=3)],
        keep_ratios=[0.2, 0.5, 1.0],
    )
    assert pruner(made.spec()) == made


def test_a_clip_is_cut_as_one_row():
    tokens = picture(batch=4).joined()
    made = Adaptive(keep_ratio=0.5, inner=EVTPVideo(keep_ratio=1), radius=0.5, measure="spatial")
    assert made.scope == "clip" and 1 < made(tokens).k < 200
    assert float(coverage(tokens, made(tokens)).spatial_max) <= 0.5


def test_rows_that_disagree_are_refused():
    made = Adaptive(keep_ratio=0.9, inner=EVTP(keep_ratio=1), radius=1.0)
    two = VisualTokens(features=torch.cat([picture(1.0).features, picture(0.02).features]), grid=GRID)
    with pytest.raises(SelectionError, match=r"keeps \[\d+, \d+\] tokens of the rows .* prune row by row"):
        made(two)
    assert made(two.row(0)).k > made(two.row(1)).k


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_radii_of_prefixes_are_those_of_the_engine_and_never_rise(seed, k):
    points = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(seed))
    order, radius = kcenter.select(points, k)
    found = prefix_radii(points[0], order[0])
    torch.testing.assert_close(found, radius[0], rtol=1e-9, atol=1e-9)
    assert bool((found[1:] <= found[:-1]).all())


def test_radii_do_not_depend_on_how_many_picks_are_held_at_once(monkeypatch):
    points, order = picture().features[0], torch.randperm(100, generator=torch.Generator().manual_seed(0))
    whole = prefix_radii(points, order)
    monkeypatch.setattr(module, "_CHUNK", 7)
    torch.testing.assert_close(prefix_radii(points, order), whole, rtol=1e-12, atol=1e-12)
    assert float(whole[-1]) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": Uniform(keep_ratio=1)}, "adaptive cuts the picks of uniform.*, which is not nested"),
        ({"inner": Identity()}, "adaptive cuts the picks of identity, which is not nested"),
        ({"inner": "evtp"}, "inner of adaptive is 'evtp'; it must be a pruner"),
        ({"radius": -1}, r"radius is -1\.0; it must be a number of at least 0"),
        ({"radius": float("nan")}, "radius is nan"),
        ({"radius": None}, "radius is None"),
        ({"measure": "joynt"}, "unknown measure 'joynt'; did you mean 'joint'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        Adaptive(**{"keep_ratio": 0.5, "inner": EVTP(keep_ratio=1), "radius": 1.0, **options})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((EVTP(keep_ratio=1), [], 0.2), {}, TokensError, "token_batches is empty"),
        ((EVTP(keep_ratio=1), [picture()], 20), {}, BudgetError, "keep_ratio is 20"),
        ((EVTP(keep_ratio=1), [picture()], 0.5), {"keep_ratio": 0.2}, BudgetError, r"to be 0\.5 and the largest 0\.2"),
        (
            (EVTP(keep_ratio=1), [picture()], 0.5),
            {"keep_ratio": 1},
            BudgetError,
            "must be below 1, at which everything",
        ),
        ((EVTP(keep_ratio=1), [picture()], 0.5), {"measure": "far"}, SpecError, "unknown measure 'far'"),
        ((Uniform(keep_ratio=1), [picture()], 0.5), {}, SpecError, "calibrate cuts the picks of uniform"),
        (("evtp", [picture()], 0.5), {}, SpecError, "inner is 'evtp'; it must be a pruner"),
    ],
)
def test_bad_calibrations_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        inspect.unwrap(calibrate)(*arguments, **options)


def test_a_spec_hands_the_ratio_down():
    made = pruner("adaptive(keep_ratio=0.4, radius=0.5, inner=evtp(tau=2))")
    assert made == Adaptive(keep_ratio=0.4, radius=0.5, inner=EVTP(keep_ratio=0.4, tau=2.0))
    assert not made.fixed_budget and made.nested and made.extension

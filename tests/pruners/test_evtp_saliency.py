import inspect

import pytest
import torch

from leanseg.core import Grid, VisualTokens, kcenter
from leanseg.errors import SpecError, TokensError
from leanseg.metrics.coverage import coverage
from leanseg.pruners import EVTP, EVTPSaliency, pruner
from leanseg.testing import check_pruner, sample_tokens


def picture(grid=None, batch=1, seed=0, **cues):
    grid = grid or Grid(10, 10)
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, 5, generator=generator), grid=grid, **cues)


def upper_half(grid, most=1.0, least=0.1):
    """Attention on the upper half of the picture."""
    return torch.where(grid.coords[:, 0] < 0.5, most, least)[None]


def share_above(selection):
    return float((selection.indices[0] < 50).double().mean())


@pytest.mark.parametrize("options", [{}, {"tau": 3.0}, {"start": "far"}, {"normalize": "zscore"}], ids=str)
def test_without_an_exponent_it_is_evtp_and_needs_no_cue(options):
    tokens = picture(batch=2)
    made = EVTPSaliency(keep_ratio=0.2, alpha=0, **options)
    assert made.cues == () and made(tokens).equals(EVTP(keep_ratio=0.2, **options)(tokens))


@pytest.mark.parametrize("alpha", [1.0, -2.0])
def test_equal_saliency_is_evtp(alpha):
    for level in (0.0, 0.3, 1e-30):
        tokens = picture(attention=torch.full((1, 100), level))
        assert EVTPSaliency(keep_ratio=0.2, alpha=alpha)(tokens).equals(EVTP(keep_ratio=0.2)(tokens))


def test_each_pick_has_the_largest_weighted_distance():
    grid = Grid(5, 6)
    attention = torch.rand(1, 30, generator=torch.Generator().manual_seed(1))
    tokens = picture(grid, attention=attention)
    made = EVTPSaliency(keep_ratio=0.4, alpha=1.5)
    order, points = made(tokens).order[0].tolist(), made.space.embed(tokens).points[0]
    assert order[0] == EVTP(keep_ratio=0.4)(tokens).order[0, 0]
    for count in range(1, len(order)):
        value = torch.cdist(points, points[order[:count]]).amin(1) * attention[0].double() ** 1.5
        value[order[:count]] = -1.0
        assert order[count] == int(value.argmax())


def test_salient_places_are_covered_more_closely_the_larger_alpha():
    tokens = picture(attention=upper_half(Grid(10, 10)))
    shares = [share_above(EVTPSaliency(keep_ratio=0.2, alpha=alpha)(tokens)) for alpha in (-0.5, 0.0, 0.1, 0.5)]
    assert shares == sorted(shares) and shares[0] < 0.1 < shares[1] < shares[2] < 0.9 < shares[3]
    # At the expense of the rest: the plain radius is EVTP's to win.
    space = EVTP(keep_ratio=0.2).space
    weighted, plain = (
        float(coverage(tokens, made(tokens), space).joint_max)
        for made in (EVTPSaliency(keep_ratio=0.2, alpha=1.0), EVTP(keep_ratio=0.2))
    )
    assert weighted > plain


def test_guidance_weighs_by_the_angle_to_the_features():
    tokens = picture()
    guidance = tokens.features[:, 42] * 3.0
    guided = VisualTokens(features=tokens.features, grid=tokens.grid, guidance=guidance)
    made = EVTPSaliency(keep_ratio=0.1, source="guidance", alpha=4.0)
    assert made.cues == ("guidance",)
    cosine = torch.nn.functional.cosine_similarity(tokens.features[0], guidance, dim=1)
    near, away = (
        float(cosine[EVTPSaliency(keep_ratio=0.1, source="guidance", alpha=alpha)(guided).indices[0]].mean())
        for alpha in (4.0, -4.0)
    )
    plain = float(cosine[EVTP(keep_ratio=0.1)(guided).indices[0]].mean())
    assert away < plain < near


def test_tokens_that_nothing_looks_at_are_ordered_by_distance():
    attention = torch.zeros(1, 100)
    attention[0, 7] = 1.0
    tokens = picture(attention=attention)
    order = EVTPSaliency(keep_ratio=0.3, alpha=1.0)(tokens).order
    start = order[:, 0]
    points = EVTP(keep_ratio=0.3).space.embed(tokens).points
    after = kcenter.select(points, 30, start)[0][0]
    assert order[0, 1] == 7 and order[0, 2] != 0 and set(order[0, 2:].tolist()) & set(after.tolist())


@pytest.mark.parametrize("options", [{}, {"alpha": -1.0}, {"source": "guidance", "alpha": 8.0}], ids=str)
def test_every_option_obeys_the_laws(options):
    grids = [Grid(1, 5), Grid(4, 4), Grid(3, 3, frames=2)]
    check_pruner(lambda keep_ratio: EVTPSaliency(keep_ratio=keep_ratio, **options), grids=grids, keep_ratios=[0.2, 0.5])


def test_extreme_exponents_neither_overflow_nor_repeat():
    tokens = sample_tokens(Grid(6, 6))
    for alpha in (300.0, -300.0):
        assert EVTPSaliency(keep_ratio=0.5, alpha=alpha)(tokens).k == 18


def test_a_missing_or_unfit_cue_is_named():
    with pytest.raises(TokensError, match="needs attention, and the tokens carry no cue"):
        EVTPSaliency(keep_ratio=0.2)(picture())
    with pytest.raises(TokensError, match=r"guidance is 7 wide, the features 5; .* compares them by angle"):
        EVTPSaliency(keep_ratio=0.2, source="guidance")(picture(guidance=torch.ones(1, 7)))
    select = inspect.unwrap(EVTPSaliency.select)
    with pytest.raises(TokensError, match=r"needs guidance; give VisualTokens\(guidance=...\)"):
        select(EVTPSaliency(keep_ratio=0.2, source="guidance"), picture(), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": "1"}, "alpha is '1'; it must be a finite number"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"source": "attenton"}, "unknown source 'attenton'; did you mean 'attention'"),
        ({"tau": 0}, "tau is"),
        ({"start": "men"}, "unknown start"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        EVTPSaliency(keep_ratio=0.2, **options)


def test_a_spec_makes_it_again():
    made = EVTPSaliency(keep_ratio=0.2, alpha=-1, source="guidance")
    assert pruner(made.spec()) == made and pruner(made.spec()).cues == ("guidance",)

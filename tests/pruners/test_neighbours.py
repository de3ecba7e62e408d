"""CDPruner, SCOPE, Nuwa and the scores: each against its own definition, worked out the slow way."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens
from leanseg.errors import SpecError, TokensError
from leanseg.pruners import SCOPE, Attention, CDPruner, FastV, MaxNorm, Nuwa, Reserve, Union
from leanseg.pruners.nuwa import anchors, separate, surroundings
from leanseg.testing import check_pruner


def picture(grid, width=5, seed=0, batch=1, **cues):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, grid.n_tokens, width, generator=generator) + 0.3
    attention = torch.rand(batch, grid.n_tokens, generator=generator)
    return VisualTokens(features=features, grid=grid, **{"attention": attention, **cues})


def first_best(scores):
    """The lowest index with the largest score; what differs by rounding is equal."""
    return min(index for index, score in scores.items() if score >= max(scores.values()) * (1 - 1e-9))


def cosine(features):
    directions = torch.nn.functional.normalize(features.double(), dim=1)
    return directions @ directions.T


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_cdpruner_adds_the_token_with_the_largest_determinant(seed, conditioned):
    generator = torch.Generator().manual_seed(seed)
    tokens = picture(Grid(2, 4), seed=seed, guidance=torch.randn(1, 5, generator=generator))
    kernel = cosine(tokens.features[0])
    if conditioned:
        unlike = -torch.cosine_similarity(tokens.features[0].double(), tokens.guidance.double())
        relevance = (unlike - unlike.min()) / (unlike.max() - unlike.min())
        kernel = relevance[:, None] * kernel * relevance
    picked = []
    for _ in range(4):
        rest = [index for index in range(8) if index not in picked]
        volume = {index: float(torch.linalg.det(kernel[[*picked, index]][:, [*picked, index]])) for index in rest}
        picked.append(first_best(volume))
    assert CDPruner(keep_ratio=0.5, conditioned=conditioned)(tokens).order[0].tolist() == picked


def test_cdpruner_takes_the_lowest_index_where_no_volume_is_left():
    tokens = picture(Grid(3, 4), width=2)
    order = CDPruner(keep_ratio=0.75)(tokens).order[0].tolist()
    assert order[2:] == [index for index in range(12) if index not in order[:2]][:7]
    twice = VisualTokens(features=tokens.features[:, [0, 1, 0, 1, 2, 2, 0, 1, 2, 0, 1, 2]], grid=Grid(3, 4))
    assert sorted(CDPruner(keep_ratio=0.25)(twice).order[0].tolist()[:2]) != [0, 2]


def test_cdpruner_prefers_what_is_unlike_its_guidance():
    features = torch.eye(6)[None]
    tokens = VisualTokens(features=features, grid=Grid(2, 3), guidance=features[:, 0] + 0.5 * features[:, 1])
    assert CDPruner(keep_ratio=0.7, conditioned=True)(tokens).order[0].tolist() == [2, 3, 4, 5]
    # Guidance to which all tokens are equally near says nothing.
    plain = VisualTokens(features=features, grid=Grid(2, 3), guidance=torch.ones(1, 6))
    assert CDPruner(keep_ratio=0.5, conditioned=True)(plain).order[0].tolist() == [0, 1, 2]


def test_cdpruner_declares_guidance_only_where_it_is_conditioned():
    assert CDPruner(keep_ratio=0.5).cues == () and CDPruner(keep_ratio=0.5, conditioned=True).cues == ("guidance",)
    with pytest.raises(TokensError, match="needs guidance"):
        CDPruner(keep_ratio=0.5, conditioned=True)(picture(Grid(2, 2)))
    with pytest.raises(TokensError, match="this method reads guidance, and the tokens carry none"):
        CDPruner(keep_ratio=0.5, conditioned=True).select(picture(Grid(2, 2)), 2)
    with pytest.raises(TokensError, match="features 5 wide with guidance 3 wide; give guidance in the space"):
        CDPruner(keep_ratio=0.5, conditioned=True)(picture(Grid(2, 2), guidance=torch.ones(1, 3)))
    with pytest.raises(SpecError, match="conditioned is 1; it must be True"):
        CDPruner(keep_ratio=0.5, conditioned=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_scope_adds_the_token_with_the_largest_weighed_gain(seed, alpha):
    tokens = picture(Grid(3, 4), width=3, seed=seed)
    similarity = cosine(tokens.features[0])
    picked, covered = [], torch.zeros(12, dtype=torch.float64)
    for _ in range(6):
        unselected = [index for index in range(12) if index not in picked]
        gains = (similarity - covered[:, None]).clamp_min(0)[unselected].sum(0)
        score = gains * tokens.attention[0].double() ** alpha
        picked.append(first_best({index: float(score[index]) for index in unselected}))
        covered = torch.maximum(covered, similarity[:, picked[-1]])
    assert SCOPE(keep_ratio=0.5, alpha=alpha)(tokens).order[0].tolist() == picked


def test_scope_takes_the_lowest_index_where_nothing_is_left_to_cover():
    features = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2, 2])][None]
    tokens = VisualTokens(features=features, grid=Grid(2, 3), attention=torch.tensor([[1.0, 2.0, 3.0, 3.0, 0.0, 0.0]]))
    assert SCOPE(keep_ratio=0.8)(tokens).order[0].tolist() == [2, 1, 0, 3, 4]
    assert SCOPE(keep_ratio=0.8, alpha=0)(tokens).order[0].tolist() == [0, 2, 4, 1, 3]


def test_scope_needs_attention_that_can_weigh():
    assert SCOPE(keep_ratio=0.5, alpha=0).cues == () and SCOPE(keep_ratio=0.5).scope == "frame"
    with pytest.raises(TokensError, match="attention is as low as -1; scope weighs by it"):
        SCOPE(keep_ratio=0.5)(picture(Grid(2, 2), attention=torch.tensor([[0.0, 1.0, -1.0, 2.0]])))
    for alpha in (-1, "much", True, float("nan"), float("inf")):
        with pytest.raises(SpecError, match=r"alpha is .*; it must be a number of at least 0"):
            SCOPE(keep_ratio=0.5, alpha=alpha)


def test_nuwa_reproduces_the_papers_budgets_on_its_grid():
    for k, per_region in ((112, 1), (224, 2), (336, 3)):
        regions, count = separate(Grid(24, 24), k)
        assert count == per_region and int(regions.max()) + 1 == 144
        assert regions[[0, 1, 24, 25]].tolist() == [0, 0, 0, 0] and regions[2] == 1 and regions[48] == 12


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.sampled_from([None, 1, 2, 3, 20]), st.data())
def test_nuwa_has_candidates_enough_for_any_grid_and_count(height, width, frames, size, data):
    grid = Grid(height, width, frames=frames)
    k = data.draw(st.integers(1, grid.n_tokens))
    regions, count = separate(grid, k, size)
    attention = torch.randint(0, 4, (grid.n_tokens,)).double()
    kept = anchors(attention, regions, count, k).tolist()
    candidates = []
    for region in range(int(regions.max()) + 1):
        held = (regions == region).nonzero()[:, 0].tolist()
        candidates += sorted(held, key=lambda index: (-float(attention[index]), index))[:count]
    assert kept == sorted(candidates, key=lambda index: (-float(attention[index]), index))[:k]
    assert len(kept) == k


def test_nuwa_gathers_by_likeness_and_nearness():
    grid = Grid(4, 5)
    tokens = picture(grid, width=3, seed=4)
    made = Nuwa(keep_ratio=0.3)
    selection = made(tokens)
    features, attention = tokens.features[0].double(), tokens.attention[0]
    kept, similarity = selection.indices[0].tolist(), cosine(tokens.features[0])
    reach = (280 / 1058) ** 0.5 * 5.0
    threshold = torch.quantile(attention[kept].double(), 0.55)
    owners = {}
    for slot, anchor in enumerate(kept):
        weights = {anchor: 1.0}
        for other in set(range(20)) - set(kept):
            step = (anchor // 5 - other // 5, anchor % 5 - other % 5)
            near = max(0.0, 1.0 - (step[0] ** 2 + step[1] ** 2) ** 0.5 / reach)
            weights[other] = max(0.0, float(similarity[anchor, other])) * near
        if float(attention[anchor]) > float(threshold):
            assert torch.equal(selection.features[0, slot], tokens.features[0, anchor])
            continue
        mean = sum(weight * features[index] for index, weight in weights.items()) / sum(weights.values())
        assert torch.allclose(selection.features[0, slot].double(), mean, atol=1e-6)
        for index, weight in weights.items():
            owners.setdefault(index, []).append((weight, -slot))
    for index in set(range(20)) - set(kept):
        weight, slot = max(owners[index])
        assert selection.owner[0, index] == (-slot if weight > 0 else -1)


def test_nuwa_keeps_frames_apart_and_pure_anchors_pure():
    grid = Grid(3, 3, frames=2)
    tokens = picture(grid, seed=2)
    weights = surroundings(tokens.features[0].abs(), torch.tensor([0, 12]), grid)
    assert float(weights[0, 9:].abs().max()) == 0.0 and float(weights[1, :9].abs().max()) == 0.0
    assert float(weights[0].max()) > 0.0 and weights[:, [0, 12]].tolist() == [[0, 0], [0, 0]]
    everyone = Nuwa(keep_ratio=0.4, pure_quantile=1)(tokens)
    assert int((everyone.features != everyone.gather(tokens.features)).any(2).sum()) >= 5
    lowest = Nuwa(keep_ratio=0.4, pure_quantile=0.0)(tokens)
    assert int((lowest.features != lowest.gather(tokens.features)).any(2).sum()) <= 1
    assert Nuwa(keep_ratio=0.4).merges and not Nuwa(keep_ratio=0.4).nested


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": 0}, "region is 0; it must be a whole number of cells"),
        ({"region": True}, "region is True"),
        ({"region": 2.5}, "region is 2.5"),
        ({"pure_quantile": 1.5}, r"pure_quantile is 1\.5; it must lie in 0\.\.1"),
        ({"pure_quantile": "half"}, "pure_quantile is 'half'"),
    ],
)
def test_bad_options_of_nuwa_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        Nuwa(keep_ratio=0.5, **options)


def test_scores_keep_the_largest_and_the_first_of_equals():
    attention = torch.tensor([[0.1, 0.3, 0.2, 0.3, 0.1, 0.0]])
    features = torch.tensor([[3.0, 4.0], [5.0, 0.0], [0.0, 1.0], [0.0, 0.0], [-4.0, 3.0], [6.0, 0.0]])[None]
    tokens = VisualTokens(features=features, grid=Grid(2, 3), attention=attention)
    for method in (Attention, FastV):
        assert method(keep_ratio=0.7)(tokens).order[0].tolist() == [1, 3, 2, 0]
        with pytest.raises(TokensError, match="this method reads attention, and the tokens carry none"):
            method(keep_ratio=0.5).select(VisualTokens(features=features, grid=Grid(2, 3)), 2)
    assert MaxNorm(keep_ratio=0.7)(tokens).order[0].tolist() == [5, 0, 1, 4]
    huge = VisualTokens(features=features.double() * 1e300, grid=Grid(2, 3))
    assert MaxNorm(keep_ratio=0.7)(huge).order[0].tolist() == [5, 0, 1, 4]


def test_the_attention_of_the_tower_and_of_the_language_model_are_told_apart():
    assert Attention.attention_from == "tower" and FastV.attention_from == "language"
    with pytest.raises(SpecError, match="read the attention of different models"):
        Union(keep_ratio=0.5, first=Attention(keep_ratio=0.5), second=FastV(keep_ratio=0.5))
    assert Reserve(keep_ratio=0.5, inner=FastV(keep_ratio=0.5)).attention_from == "language"


@pytest.mark.parametrize(
    "make",
    [
        lambda keep_ratio: CDPruner(keep_ratio=keep_ratio, conditioned=True),
        lambda keep_ratio: SCOPE(keep_ratio=keep_ratio, alpha=0.0),
        lambda keep_ratio: SCOPE(keep_ratio=keep_ratio, alpha=2.0),
        lambda keep_ratio: Nuwa(keep_ratio=keep_ratio, region=2, pure_quantile=0.2),
    ],
    ids=["cdpruner-conditioned", "scope-coverage", "scope-salient", "nuwa-options"],
)
def test_every_option_obeys_the_laws(make):
    check_pruner(make, grids=[Grid(1, 5), Grid(7, 3), Grid(2, 3, frames=3)], keep_ratios=[0.2, 0.5])


def test_one_run_serves_all_smaller_budgets():
    tokens = picture(Grid(9, 9), batch=2)
    for method in (CDPruner, SCOPE, Attention, MaxNorm):
        runs = [method(keep_ratio=keep_ratio)(tokens) for keep_ratio in (0.5, 0.2, 0.05)]
        for large, small in pairwise(runs):
            assert large.prefix(small.k).equals(small)

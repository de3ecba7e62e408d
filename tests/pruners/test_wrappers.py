from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from leanseg.core import Grid, Selection, VisualTokens, keep_count
from leanseg.core.joint import JointSpace
from leanseg.core.kept_grid import KeptGrid
from leanseg.errors import BudgetError, LeansegError, SelectionError, SpecError, TokensError
from leanseg.pruners import (
    EVS,
    EVTP,
    PRUNERS,
    SCOPE,
    Attention,
    CDPruner,
    Chain,
    Identity,
    Joint,
    KCenter,
    MaxNorm,
    Nuwa,
    Pruner,
    Random,
    Reserve,
    ToMe,
    Uniform,
    Union,
    VisionZip,
    pruner,
)
from leanseg.pruners._compose import ranked
from leanseg.pruners.reserve import rotary_anchors
from leanseg.pruners.uniform import lattice
from leanseg.testing import check_pruner, sample_tokens

FRAME_METHODS = [name for name, method in PRUNERS.items() if method.scope == "frame" and name != "identity"]
SMALL = [Grid(1, 1), Grid(1, 5), Grid(7, 3), Grid(2, 3, frames=3)]


def twice(keep_ratio):
    """A ratio for the first of a chain, which leaves the second something to choose from."""
    return min(1.0, 2 * keep_ratio)


WRAPPED = {
    "reserve": lambda r: Reserve(keep_ratio=r, inner=EVTP(keep_ratio=1)),
    "reserve-rotary": lambda r: Reserve(keep_ratio=r, inner=Uniform(keep_ratio=1), anchors="rotary", share=0.5),
    "reserve-nothing": lambda r: Reserve(keep_ratio=r, inner=KCenter(keep_ratio=1), share=0.0),
    "reserve-all": lambda r: Reserve(keep_ratio=r, inner=KCenter(keep_ratio=1), share=1.0, first_position=7),
    "reserve-tome": lambda r: Reserve(keep_ratio=r, inner=ToMe(keep_ratio=1)),
    "reserve-visionzip": lambda r: Reserve(keep_ratio=r, inner=VisionZip(keep_ratio=1), anchors="rotary"),
    "reserve-evs": lambda r: Reserve(keep_ratio=r, inner=EVS(keep_ratio=1)),
    "union": lambda r: Union(keep_ratio=r, first=Attention(keep_ratio=1), second=EVTP(keep_ratio=1)),
    "union-first": lambda r: Union(keep_ratio=r, first=MaxNorm(keep_ratio=1), second=Uniform(keep_ratio=1), share=1),
    "union-second": lambda r: Union(keep_ratio=r, first=Uniform(keep_ratio=1), second=SCOPE(keep_ratio=1), share=0),
    "union-merging": lambda r: Union(keep_ratio=r, first=Nuwa(keep_ratio=1), second=ToMe(keep_ratio=1), share=0.3),
    "union-half-merging": lambda r: Union(keep_ratio=r, first=Uniform(keep_ratio=1), second=Nuwa(keep_ratio=1)),
    "chain": lambda r: Chain(keep_ratio=r, first=Attention(keep_ratio=twice(r)), second=EVTP(keep_ratio=1)),
    "chain-tight": lambda r: Chain(keep_ratio=r, first=Uniform(keep_ratio=r), second=CDPruner(keep_ratio=1)),
    "chain-merging-first": lambda r: Chain(keep_ratio=r, first=ToMe(keep_ratio=twice(r)), second=EVTP(keep_ratio=1)),
    "chain-merging": lambda r: Chain(keep_ratio=r, first=Nuwa(keep_ratio=twice(r)), second=VisionZip(keep_ratio=1)),
    "joint": lambda r: Joint(keep_ratio=r, inner=EVTP(keep_ratio=1)),
    "joint-merging": lambda r: Joint(keep_ratio=r, inner=Nuwa(keep_ratio=1)),
    "nest": lambda r: Reserve(
        keep_ratio=r,
        inner=Union(
            keep_ratio=1,
            first=Random(keep_ratio=1),
            second=Chain(keep_ratio=1, first=MaxNorm(keep_ratio=1.0), second=SCOPE(keep_ratio=1)),
        ),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_every_wrapper_obeys_the_laws(name):
    check_pruner(
        lambda keep_ratio: WRAPPED[name](keep_ratio),
        grids=SMALL,
        keep_ratios=[0.1, 0.5, 1.0],
        dtypes=[torch.float64, torch.float16],
    )


@pytest.mark.parametrize("name", FRAME_METHODS)
@pytest.mark.parametrize("frames", [1, 3])
def test_every_frame_method_can_choose_among_all_frames_of_a_clip(name, frames):
    tokens = sample_tokens(Grid(3, 4), batch=frames, seed=1).joined()
    inner = PRUNERS[name](keep_ratio=1)
    for keep_ratio in (0.05, 0.3, 0.8):
        made = Joint(keep_ratio=keep_ratio, inner=inner)
        assert made.scope == "clip" and made.cues == inner.cues
        selection = made(tokens)
        assert selection.k == keep_count(12 * frames, keep_ratio)
        assert sum(part.k for part in selection.split(frames)) == selection.k
        if frames == 1:
            assert selection.equals(PRUNERS[name](keep_ratio=keep_ratio)(tokens))


@pytest.mark.parametrize("name", FRAME_METHODS)
def test_every_method_can_come_first_in_a_chain_or_second_unless_it_needs_the_grid(name):
    tokens = sample_tokens(Grid(4, 5), batch=2, seed=3)
    first = Chain(keep_ratio=0.2, first=PRUNERS[name](keep_ratio=0.6), second=EVTP(keep_ratio=1))(tokens)
    assert first.k == 4
    second = Chain(keep_ratio=0.2, first=Random(keep_ratio=0.6), second=PRUNERS[name](keep_ratio=1))
    try:
        kept = second(tokens)
    except LeansegError as refused:
        assert "this method needs the whole grid" in str(refused)
        assert name in ("uniform", "nuwa", "multiscale")
    else:
        assert kept.k == 4 and bool((kept.mask() <= Random(keep_ratio=0.6)(tokens).mask()).all())


def test_facts_follow_from_the_methods_inside():
    inner = {"first": Attention(keep_ratio=1), "second": CDPruner(keep_ratio=1, conditioned=True)}
    union = Union(keep_ratio=0.5, **inner)
    assert union.cues == ("attention", "guidance") and not union.merges and not union.nested and union.scope == "frame"
    assert (
        Chain(keep_ratio=0.5, **inner).nested
        and not Chain(keep_ratio=0.5, first=ToMe(keep_ratio=1), second=EVTP(keep_ratio=1)).nested
    )
    assert Reserve(keep_ratio=0.5, inner=EVTP(keep_ratio=1), share=0).nested
    assert not Reserve(keep_ratio=0.5, inner=EVTP(keep_ratio=1)).nested
    assert (
        Reserve(keep_ratio=0.5, inner=ToMe(keep_ratio=1)).merges
        and Reserve(keep_ratio=0.5, inner=EVS(keep_ratio=1)).scope == "clip"
    )
    assert all(made(0.5).extension and made(0.5).paper for made in WRAPPED.values())
    with pytest.raises(TokensError, match="needs attention and guidance, and the tokens carry no cue"):
        union(VisualTokens(features=torch.randn(1, 6, 3), grid=Grid(2, 3)))


def test_the_reserved_lattice_is_kept_whatever_the_method_chooses():
    tokens = sample_tokens(Grid(6, 6), batch=2)
    kept = Reserve(keep_ratio=0.25, inner=MaxNorm(keep_ratio=1), share=4 / 9)(tokens)
    places = lattice(Grid(6, 6), 4)
    rank = MaxNorm(keep_ratio=0.9)(tokens).order
    for row in range(2):
        rest = [index for index in rank[row].tolist() if index not in places]
        assert kept.order[row].tolist() == places + rest[:5]


def test_a_share_of_one_or_nothing_leaves_one_side():
    tokens = sample_tokens(Grid(6, 6))
    evtp, uniform = EVTP(keep_ratio=0.25), Uniform(keep_ratio=0.25)
    assert Reserve(keep_ratio=0.25, inner=EVTP(keep_ratio=1), share=0)(tokens).equals(evtp(tokens))
    assert torch.equal(
        Reserve(keep_ratio=0.25, inner=EVTP(keep_ratio=1), share=1)(tokens).indices, uniform(tokens).indices
    )
    assert Union(keep_ratio=0.25, first=evtp, second=uniform, share=1)(tokens).equals(evtp(tokens))
    assert Union(keep_ratio=0.25, first=evtp, second=uniform, share=0)(tokens).equals(uniform(tokens))


def test_rotary_anchors_are_the_positions_with_the_largest_mean_cosine_and_sine():
    positions = torch.arange(40.0) + 11
    rates = torch.tensor([10000.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    cosine = {index: float((position * rates).cos().mean()) for index, position in enumerate(positions.double())}
    sine = {index: float((position * rates).sin().mean()) for index, position in enumerate(positions.double())}
    best = sorted(cosine, key=cosine.get, reverse=True)[:3]
    best += [index for index in sorted(sine, key=sine.get, reverse=True) if index not in best][:2]
    assert rotary_anchors(positions, 5, 8, 10000.0) == best
    made = Reserve(
        keep_ratio=0.25, inner=KCenter(keep_ratio=1), share=0.5, anchors="rotary", rotary_dim=8, first_position=11
    )
    kept = made(sample_tokens(Grid(5, 8)))
    assert kept.order[0, :5].tolist() == best and kept.k == 10


def test_rotary_anchors_among_what_is_left_have_their_old_positions():
    tokens = sample_tokens(Grid(5, 8))
    first = Random(keep_ratio=0.5)
    anchored = Reserve(keep_ratio=1, inner=KCenter(keep_ratio=1), share=1, anchors="rotary")
    kept = Chain(keep_ratio=0.1, first=first, second=anchored)(tokens)
    left = first(tokens).indices[0]
    assert kept.order[0].tolist() == left[rotary_anchors(left.double(), 4, 32, 10000.0)].tolist()


def test_without_a_pick_order_what_is_cut_is_spread_over_the_raster():
    order = ranked(Selection(torch.arange(10)[None] * 3, 30))[0].tolist()
    assert sorted(order) == list(range(0, 30, 3)) and order[:4] == [0, 24, 12, 6]
    kept = Reserve(keep_ratio=0.5, inner=Uniform(keep_ratio=1), share=0.5, anchors="rotary")(sample_tokens(Grid(8, 8)))
    rows = kept.order[0, 16:] // 8
    assert int(rows.min()) <= 1 and int(rows.max()) >= 6


def test_a_union_is_the_firsts_share_and_the_best_others_of_the_second():
    tokens = sample_tokens(Grid(5, 5), batch=2)
    kept = Union(keep_ratio=0.4, first=MaxNorm(keep_ratio=1), second=EVTP(keep_ratio=1), share=0.4)(tokens)
    first, second = MaxNorm(keep_ratio=0.16)(tokens).order, EVTP(keep_ratio=0.4)(tokens).order
    for row in range(2):
        mine = first[row].tolist()
        assert kept.order[row].tolist() == mine + [index for index in second[row].tolist() if index not in mine][:6]


def test_merged_features_and_owners_come_along():
    tokens = sample_tokens(Grid(5, 5), seed=2)
    made = Reserve(keep_ratio=0.4, inner=ToMe(keep_ratio=1, metric="features"), share=0.3)
    kept, merged = made(tokens), ToMe(keep_ratio=0.4, metric="features")(tokens)
    reserved = lattice(Grid(5, 5), 3)
    slots = {index: slot for slot, index in enumerate(merged.indices[0].tolist())}
    for slot, index in enumerate(kept.indices[0].tolist()):
        if index in slots:
            assert torch.equal(kept.features[0, slot], merged.features[0, slots[index]])
        else:
            assert index in reserved and torch.equal(kept.features[0, slot], tokens.features[0, index])
    position = {index: slot for slot, index in enumerate(kept.indices[0].tolist())}
    for token in range(25):
        represented = int(merged.indices[0, merged.owner[0, token]])
        expected = position.get(token, position.get(represented, -1))
        assert int(kept.owner[0, token]) == expected
    assert int((kept.owner < 0).sum()) > 0


def test_where_both_merge_the_first_prevails():
    tokens = sample_tokens(Grid(5, 5), seed=2)
    nuwa, tome = Nuwa(keep_ratio=0.2), ToMe(keep_ratio=0.4)
    kept = Union(keep_ratio=0.4, first=nuwa, second=tome)(tokens)
    first, second = nuwa(tokens), tome(tokens)
    for slot, index in enumerate(kept.indices[0].tolist()):
        source = first if index in first.indices[0].tolist() else second
        assert torch.equal(kept.features[0, slot], source.features[0, source.indices[0].tolist().index(index)])
    owned = first.owner[0] >= 0
    assert torch.equal(
        kept.indices[0, kept.owner[0, owned]],
        torch.where(
            torch.isin(torch.arange(25)[owned], kept.indices[0]),
            torch.arange(25)[owned],
            first.indices[0, first.owner[0, owned]],
        ),
    )


def test_the_second_of_a_chain_sees_only_what_is_left_at_its_own_places():
    tokens = sample_tokens(Grid(6, 7), batch=2)
    first, second = Attention(keep_ratio=0.5), EVTP(keep_ratio=1)
    kept = Chain(keep_ratio=0.2, first=first, second=second)(tokens)
    for row in range(2):
        indices = first(tokens).indices[row]
        rest = VisualTokens(
            features=tokens.features[row : row + 1, indices], grid=KeptGrid(6, 7, kept=tuple(indices.tolist()))
        )
        points = JointSpace().embed(rest).points[0]
        assert torch.allclose(
            points[:, -2:] / points[-1, -1] * tokens.grid.coords[indices[-1], -1],
            tokens.grid.coordinates(torch.float64)[indices],
        )
        assert kept.order[row].tolist() == indices[EVTP(keep_ratio=0.38).select(rest, 8).order[0]].tolist()


def test_a_chain_that_has_nothing_left_to_choose_keeps_the_firsts_choice_in_the_seconds_order():
    tokens = sample_tokens(Grid(4, 4))
    kept = Chain(keep_ratio=0.25, first=Uniform(keep_ratio=0.25), second=MaxNorm(keep_ratio=1))(tokens)
    assert kept.indices.tolist() == [lattice(Grid(4, 4), 4)]
    rank = MaxNorm(keep_ratio=0.95)(tokens).order[0].tolist()
    assert kept.order[0].tolist() == sorted(
        kept.indices[0].tolist(), key=lambda index: rank.index(index) if index in rank else 16
    )
    lone = Chain(keep_ratio=0.05, first=Uniform(keep_ratio=0.05), second=MaxNorm(keep_ratio=1))(tokens)
    assert lone.order.tolist() == lone.indices.tolist() == [lattice(Grid(4, 4), 1)]
    bare = Chain(keep_ratio=0.25, first=MaxNorm(keep_ratio=0.25), second=Random(keep_ratio=1))(tokens)
    assert bare.k == 4


def test_a_first_that_drops_nothing_leaves_the_second_the_whole_grid():
    tokens = sample_tokens(Grid(4, 4))
    kept = Chain(keep_ratio=0.25, first=Identity(), second=Uniform(keep_ratio=1))(tokens)
    assert kept.equals(Uniform(keep_ratio=0.25)(tokens))


def test_the_second_of_a_chain_sees_merged_features():
    tokens = sample_tokens(Grid(4, 5))
    merged = ToMe(keep_ratio=0.5)(tokens)
    kept = Chain(keep_ratio=0.2, first=ToMe(keep_ratio=0.5), second=MaxNorm(keep_ratio=1))(tokens)
    longest = merged.features[0].norm(dim=1).argsort(descending=True)[:4].sort().values
    assert kept.indices[0].tolist() == merged.indices[0, longest].tolist()
    assert torch.equal(kept.features[0], merged.features[0, longest])
    followed = [longest.tolist().index(slot) if slot in longest.tolist() else -1 for slot in merged.owner[0].tolist()]
    assert kept.owner[0].tolist() == followed


def test_chains_of_chains_keep_their_places():
    tokens = sample_tokens(Grid(6, 6))
    inner = Chain(keep_ratio=0.4, first=Random(keep_ratio=0.8), second=MaxNorm(keep_ratio=1))
    outer = Chain(
        keep_ratio=0.1,
        first=inner,
        second=Chain(keep_ratio=1, first=Attention(keep_ratio=0.5), second=EVTP(keep_ratio=1)),
    )
    assert bool((outer(tokens).mask() <= inner(tokens).mask()).all()) and outer(tokens).k == 4


@dataclass(frozen=True, kw_only=True)
class Few(Pruner):
    """Keeps at most so many tokens, and fewer where the first feature is negative."""

    fixed_budget: ClassVar[bool] = False

    def select(self, tokens, k):
        counts = [k if float(row[0, 0]) > 0 else max(1, k // 2) for row in tokens.features]
        return Selection(torch.arange(counts[0]).repeat(tokens.batch, 1), tokens.n_tokens)


def test_a_method_without_a_fixed_budget_leaves_the_wrapper_without_one():
    features = torch.ones(2, 16, 3)
    features[1, 0, 0] = -1.0
    tokens = VisualTokens(features=features, grid=Grid(4, 4))
    made = [
        Reserve(keep_ratio=0.5, inner=Few(keep_ratio=1)),
        Union(keep_ratio=0.5, first=Few(keep_ratio=1), second=Few(keep_ratio=1)),
        Chain(keep_ratio=0.5, first=Random(keep_ratio=0.75), second=Few(keep_ratio=1)),
        Joint(keep_ratio=0.5, inner=Few(keep_ratio=1)),
    ]
    assert not any(each.fixed_budget for each in made)
    assert [each(tokens.row(1)).k <= 8 for each in made] == [True] * 4
    with pytest.raises(
        SelectionError, match=r"the rows keep \[8, 4\] tokens, as .* has no fixed budget; prune row by row"
    ):
        Chain(keep_ratio=0.5, first=MaxNorm(keep_ratio=0.75), second=Few(keep_ratio=1))(tokens)
    ramp = torch.arange(16.0)[:, None].expand(-1, 3)
    scattered = VisualTokens(features=torch.stack([features[1], ramp]), grid=Grid(4, 4))
    with pytest.raises(SelectionError, match=r"the rows keep \[4, 8\] tokens, as a method inside has no fixed budget"):
        Union(keep_ratio=0.5, first=MaxNorm(keep_ratio=1), second=Few(keep_ratio=1))(scattered)


def test_a_chain_whose_first_keeps_too_few_says_so():
    made = Chain(keep_ratio=0.5, first=Random(keep_ratio=0.2), second=EVTP(keep_ratio=1))
    with pytest.raises(
        BudgetError, match=r"random\(keep_ratio=0\.2\) keeps 5 of 25 tokens, fewer than the 12 that the chain"
    ):
        made(sample_tokens(Grid(5, 5)))


def test_a_method_that_keeps_everything_cannot_be_asked_for_less():
    for made in (
        Union(keep_ratio=0.5, first=Identity(), second=EVTP(keep_ratio=1)),
        Reserve(keep_ratio=0.5, inner=Identity()),
        Joint(keep_ratio=0.5, inner=Identity()),
    ):
        with pytest.raises(SelectionError, match=r"identity keeps 9 tokens where \d are asked for"):
            made(sample_tokens(Grid(3, 3)))


def test_what_is_left_of_a_grid_has_places_and_times_but_no_frame():
    grid = KeptGrid(2, 3, frames=2, kept=(1, 6, 11))
    assert grid.n_tokens == 3 and grid.coords.tolist() == [[0, 0.5], [0, 0], [1, 1]]
    assert grid.times().tolist() == [0, 1, 1]
    with pytest.raises(
        TokensError, match="these are 3 tokens that are left of a grid of 2 x 2 x 3, and this method needs"
    ):
        _ = grid.frame
    with pytest.raises(TokensError, match=r"Grid\.height is 0"):
        KeptGrid(0, 3, kept=(0,))
    clip = sample_tokens(Grid(2, 3), batch=3).joined(key_frame=1)
    kept = Chain(keep_ratio=0.3, first=EVS(keep_ratio=0.6), second=EVTP(keep_ratio=1))(clip)
    assert kept.k == 5 and bool((kept.mask() <= EVS(keep_ratio=0.6)(clip).mask()).all())


def test_joint_takes_one_row():
    with pytest.raises(TokensError, match="takes a clip as one joint row; got a batch of 2 frames"):
        Joint(keep_ratio=0.5, inner=EVTP(keep_ratio=1))(sample_tokens(Grid(2, 3), batch=2))


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (Reserve, {"share": 1.5}, r"share is 1\.5; it must lie in 0\.\.1"),
        (Reserve, {"share": "half"}, "share is 'half'"),
        (Reserve, {"anchors": "gird"}, "unknown anchors 'gird'; did you mean 'grid'"),
        (Reserve, {"rotary_dim": 7}, "rotary_dim is 7; it must be an even number"),
        (Reserve, {"rotary_dim": True}, "rotary_dim is True"),
        (Reserve, {"theta": 1}, r"theta is 1\.0; it must be a number above 1"),
        (Reserve, {"first_position": -1}, "first_position is -1; it must be a whole number"),
        (Reserve, {"inner": "evtp"}, "inner of reserve is 'evtp'; it must be a pruner"),
        (Joint, {"inner": None}, "inner of joint is None; it must be a pruner"),
    ],
)
def test_bad_options_are_refused(made, options, message):
    with pytest.raises(SpecError, match=message):
        made(**{"keep_ratio": 0.5, "inner": EVTP(keep_ratio=1), **options})


def test_a_bad_share_of_a_union_is_refused():
    with pytest.raises(SpecError, match=r"share is -0\.1; it must lie in 0\.\.1"):
        Union(keep_ratio=0.5, first=EVTP(keep_ratio=1), second=Random(keep_ratio=1), share=-0.1)


@pytest.mark.parametrize(
    "spec",
    [
        "reserve(keep_ratio=0.2, inner=evtp(keep_ratio=0.2), share=0.1, anchors='rotary', first_position=35)",
        "union(keep_ratio=0.2, first=attention(keep_ratio=0.2), second=evtp(keep_ratio=0.2), share=0.3)",
        "chain(keep_ratio=0.2, first=attention(keep_ratio=0.5), second=evtp(keep_ratio=0.2))",
        "joint(keep_ratio=0.2, inner=reserve(keep_ratio=0.2, inner=nuwa(keep_ratio=0.2)))",
    ],
)
def test_a_spec_makes_the_wrapper_again(spec):
    made = pruner(spec)
    assert made.spec() == spec and pruner(made.spec()) == made


def test_methods_inside_inherit_the_ratio_where_they_name_none():
    made = pruner("chain(keep_ratio=0.1, first=attention(keep_ratio=0.5), second=evtp())")
    assert made.second.keep_ratio == 0.1 and made.first.keep_ratio == 0.5

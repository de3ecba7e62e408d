import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens
from leanseg.errors import SelectionError, SpecError, TokensError
from leanseg.pruners import EVTP, Adaptive, Attention, EVTPVideo, Identity, Multiscale, Random, ToMe, Uniform, pruner
from leanseg.pruners.multiscale import cells_of
from leanseg.pruners.uniform import lattice
from leanseg.testing import check_pruner, sample_tokens


def test_with_coarse_tokens_alone_it_is_the_lattice_with_the_means_of_its_cells():
    tokens = sample_tokens(Grid(6, 6))
    selection = Multiscale(keep_ratio=0.25, coarse_share=1)(tokens)
    assert selection.indices[0].tolist() == lattice(tokens.grid, 9)
    # A 6 x 6 grid has nine cells of 2 x 2: the tokens of the lattice lie at their lower right.
    assert selection.sizes.sum() == 36 and int(selection.owner.min()) == 0
    for slot in range(9):
        owned = selection.owner[0] == slot
        torch.testing.assert_close(selection.features[0, slot], tokens.features[0, owned].mean(0))


def test_a_cell_is_what_is_nearest_in_steps_of_the_grid_and_the_lowest_index_wins_ties():
    cells = cells_of(Grid(1, 7), torch.tensor([1, 5]))
    assert cells.tolist() == [0, 0, 0, 0, 1, 1, 1]
    frames = cells_of(Grid(2, 3, frames=3), torch.tensor([0, 5, 14]))
    assert frames.reshape(3, 6).tolist() == [[0, 0, 1, 0, 1, 1], [0, 0, 2, 0, 1, 1], [2] * 6]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.floats(0.0, 1.0), st.data())
def test_every_token_counts_once_for_any_grid_and_count(height, width, frames, share, data):
    grid = Grid(height, width, frames=frames)
    tokens = sample_tokens(grid, seed=height)
    k = data.draw(st.integers(1, grid.n_tokens))
    selection = Multiscale(keep_ratio=k / grid.n_tokens, coarse_share=share)(tokens)
    assert selection.k == k and len(set(selection.indices[0].tolist())) == k
    if share == 0.0 or k == grid.n_tokens:
        assert selection.features is None
        return
    assert int(selection.sizes.sum()) == grid.n_tokens
    weighed = (selection.features * selection.sizes[..., None]).sum(1)
    torch.testing.assert_close(weighed, tokens.features.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inner", [EVTP(keep_ratio=1), Attention(keep_ratio=1), Uniform(keep_ratio=1)])
def test_fine_tokens_are_the_best_of_the_method_inside_and_keep_their_features(inner):
    tokens = sample_tokens(Grid(9, 9))
    selection = Multiscale(keep_ratio=0.3, inner=inner, coarse_share=0.25)(tokens)
    coarse = set(lattice(tokens.grid, 6))
    fine = [index for index in selection.indices[0].tolist() if index not in coarse]
    assert coarse <= set(selection.indices[0].tolist()) and len(fine) == 18
    for index in fine:
        slot = selection.indices[0].tolist().index(index)
        assert selection.owner[0, index] == slot and selection.sizes[0, slot] == 1
        assert torch.equal(selection.features[0, slot], tokens.features[0, index])
    if inner.nested:
        order = [index for index in inner.select(tokens, 24).order[0].tolist() if index not in coarse]
        assert set(fine) == set(order[:18])


def test_without_a_coarse_share_it_is_the_method_inside():
    tokens = sample_tokens(Grid(6, 7), batch=2)
    made = Multiscale(keep_ratio=0.3, inner=Random(keep_ratio=1), coarse_share=0)
    assert made(tokens).equals(Random(keep_ratio=0.3)(tokens))
    assert (
        made.nested and not made.merges and Multiscale(keep_ratio=0.3).merges and not Multiscale(keep_ratio=0.3).nested
    )


def test_a_flat_area_is_present_as_its_mean():
    grid = Grid(12, 12)
    textured = grid.coords[:, 1:] < 0.5
    noise = torch.randn(144, 8, generator=torch.Generator().manual_seed(0))
    features = torch.where(textured, 1.0 + noise, -1.0 + 0.1 * noise)
    tokens = VisualTokens(features=features[None], grid=grid)
    flat_mean = features[~textured[:, 0]].mean(0)

    def error(made):
        selection = made(tokens)
        flat = ~textured[selection.indices[0], 0]
        mean = (selection.apply(tokens.features)[0, flat] * selection.sizes[0, flat, None]).sum(0)
        return float((mean / selection.sizes[0, flat].sum() - flat_mean).norm())

    # Fine tokens may lie in the flat half as well; what matters is that its mean is closer than by single tokens.
    assert error(Multiscale(keep_ratio=0.1)) < 0.5 * error(EVTP(keep_ratio=0.1))


@pytest.mark.parametrize(
    "made",
    [
        Multiscale(keep_ratio=0.5, coarse_share=1.0),
        Multiscale(keep_ratio=0.5, inner=Uniform(keep_ratio=1)),
        Multiscale(keep_ratio=0.5, inner=EVTPVideo(keep_ratio=1), coarse_share=0.5),
        Multiscale(keep_ratio=0.5, inner=Attention(keep_ratio=1), coarse_share=0.0),
    ],
    ids=lambda made: made.spec(),
)
def test_every_option_obeys_the_laws(made):
    grids = [Grid(1, 1), Grid(1, 5), Grid(4, 4), Grid(3, 4, frames=2)]
    check_pruner(lambda keep_ratio: dataclasses.replace(made, keep_ratio=keep_ratio), grids=grids)
    assert pruner(made.spec()) == made


def test_frames_of_a_joint_row_have_their_own_coarse_tokens():
    tokens = sample_tokens(Grid(4, 4), batch=3).joined()
    selection = Multiscale(keep_ratio=0.5, coarse_share=0.5, inner=EVTPVideo(keep_ratio=1))(tokens)
    frame_of = selection.indices[0].gather(0, selection.owner[0]) // 16
    assert torch.equal(frame_of, torch.arange(48) // 16)
    assert [part.k for part in selection.split(3)] != [] and selection.k == 24


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coarse_share": 1.5}, SpecError, r"coarse_share is 1\.5; it must lie in 0\.\.1"),
        ({"coarse_share": True}, SpecError, "coarse_share is True"),
        ({"inner": ToMe(keep_ratio=0.5)}, SpecError, r"merges the cells of its coarse grid, and tome.* merges as well"),
        ({"inner": "evtp"}, SpecError, "inner of multiscale is 'evtp'; it must be a pruner"),
        ({"inner": Identity()}, SelectionError, "identity keeps 16 tokens where 8 are asked for"),
    ],
)
def test_what_cannot_be_put_together_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Multiscale(keep_ratio=0.5, **options)(sample_tokens(Grid(4, 4)))


def test_it_takes_an_adaptive_count():
    made = Multiscale(keep_ratio=0.5, inner=Adaptive(keep_ratio=1, inner=EVTP(keep_ratio=1), radius=1e9))
    selection = made(sample_tokens(Grid(4, 4)))
    assert not made.fixed_budget and 2 <= selection.k <= 3


def test_what_is_left_of_a_grid_has_no_coarse_one():
    with pytest.raises(TokensError, match="needs the whole grid"):
        pruner("chain(keep_ratio=0.2, first=random(keep_ratio=0.5), second=multiscale())")(sample_tokens(Grid(5, 5)))

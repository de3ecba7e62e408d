import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.joint import JointSpace
from leanseg.core.ownership import with_owners
from leanseg.errors import SelectionError


def picture(batch=2, grid=None, seed=0):
    grid = grid or Grid(4, 5)
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(features=torch.randn(batch, grid.n_tokens, 6, generator=generator), grid=grid)


def some(tokens, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(tokens.n_tokens, generator=generator)[:k] for _ in range(tokens.batch)])
    return Selection.from_order(order, tokens.n_tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 19), st.sampled_from([None, 0.0, 50.0]))
def test_each_token_belongs_to_the_nearest_kept_one_in_the_joint_space(seed, k, spatial_weight):
    tokens = picture(seed=seed)
    selection = some(tokens, k, seed)
    space = None if spatial_weight is None else JointSpace(spatial_weight=spatial_weight)
    owned = with_owners(tokens, selection, space)
    assert torch.equal(owned.indices, selection.indices) and torch.equal(owned.order, selection.order)
    assert owned.features is None and owned.owner.dtype == torch.int64
    points = (space or JointSpace()).embed(tokens).points
    for row in range(2):
        distances = torch.cdist(points[row], points[row, selection.indices[row]])
        chosen = distances.gather(1, owned.owner[row][:, None])[:, 0]
        torch.testing.assert_close(chosen, distances.amin(1), rtol=1e-6, atol=1e-6)


def test_every_token_has_an_owner_so_that_sizes_add_up():
    tokens = picture()
    owned = with_owners(tokens, some(tokens, 6))
    assert int(owned.owner.min()) == 0 and owned.sizes.sum(1).tolist() == [20.0, 20.0]


def test_the_lowest_slot_wins_ties_and_a_kept_token_owns_itself():
    # On a line of equal tokens the place alone counts: 2 lies between 1 and 3.
    tokens = VisualTokens(features=torch.ones(1, 5, 3), grid=Grid(1, 5))
    owned = with_owners(tokens, Selection(torch.tensor([[1, 3]]), 5))
    assert owned.owner.tolist() == [[0, 0, 0, 1, 1]]
    # Without place all are equal; kept ones are still their own.
    owned = with_owners(tokens, Selection(torch.tensor([[1, 3]]), 5), JointSpace(spatial_weight=0.0))
    assert owned.owner.tolist() == [[0, 0, 0, 1, 0]]


def test_rows_are_owned_as_if_alone():
    tokens = picture(batch=3)
    selection = some(tokens, 5)
    together = with_owners(tokens, selection)
    for row in range(3):
        assert with_owners(tokens.row(row), selection.row(row)).equals(together.row(row))


def test_frames_of_a_joint_row_share_what_is_kept():
    tokens = picture(batch=3).joined()
    owned = with_owners(tokens, Selection(torch.tensor([[0, 25, 59]]), 60))
    assert set(owned.owner[0].tolist()) == {0, 1, 2}
    # Space and time far above features: each frame belongs to its own kept token.
    owned = with_owners(tokens, Selection(torch.tensor([[0, 25, 59]]), 60), JointSpace(time_weight=1e4))
    assert owned.owner[0].tolist() == [0] * 20 + [1] * 20 + [2] * 20


def test_the_dtype_of_the_features_does_not_matter():
    tokens = picture()
    wide = VisualTokens(features=tokens.features.double(), grid=tokens.grid)
    selection = some(tokens, 5)
    assert with_owners(tokens, selection).equals(with_owners(wide, selection))
    half = VisualTokens(features=tokens.features.bfloat16(), grid=tokens.grid)
    assert with_owners(half, selection).owner.shape == (2, 20)


def test_what_has_owners_or_keeps_everything_comes_back_unchanged():
    tokens = picture()
    everything = Selection.identity(2, 20)
    assert with_owners(tokens, everything) is everything
    owned = with_owners(tokens, some(tokens, 4))
    assert with_owners(tokens, owned) is owned


def test_merged_features_stay():
    tokens = picture()
    plain = some(tokens, 4)
    merged = Selection(plain.indices, 20, features=torch.zeros(2, 4, 6))
    assert torch.equal(with_owners(tokens, merged).features, merged.features)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection.identity(2, 19), "over 2 rows of 19 tokens, the tokens are 2 rows of 20; find owners among"),
        (Selection.identity(1, 20), "over 1 rows of 20 tokens, the tokens are 2 rows of 20"),
        (Selection(torch.empty(2, 0, dtype=torch.int64), 20), "keeps no token, so that no token can be owned"),
    ],
)
def test_a_selection_of_other_tokens_or_of_none_is_refused(selection, message):
    with pytest.raises(SelectionError, match=message):
        with_owners(picture(), selection)

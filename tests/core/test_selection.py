import inspect
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Selection
from leanseg.errors import SelectionError

LAWS = settings(max_examples=60, deadline=None)


@st.composite
def selections(draw, batch=None, n_tokens=None, k=None, merging=None):
    """Any valid selection: with or without owner, merged features and pick order."""
    batch = draw(st.integers(1, 3)) if batch is None else batch
    n_tokens = draw(st.integers(1, 9)) if n_tokens is None else n_tokens
    k = draw(st.integers(1, n_tokens)) if k is None else k
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    order = torch.stack([torch.randperm(n_tokens, generator=generator)[:k] for _ in range(batch)])
    indices = order.sort(dim=1).values
    owner = features = None
    if merging or (merging is None and draw(st.booleans())):
        owner = torch.randint(-1, k, (batch, n_tokens), generator=generator)
        owner = owner.scatter(1, indices, torch.arange(k).expand(batch, k))
        if draw(st.booleans()):
            features = torch.randn(batch, k, 2, generator=generator)
    return Selection(indices, n_tokens, owner, features, order if draw(st.booleans()) else None)


@st.composite
def chains(draw, length):
    """Selections of which each counts the kept tokens of the one before as its own."""
    chain = [draw(selections())]
    while len(chain) < length:
        chain.append(draw(selections(batch=chain[-1].batch, n_tokens=chain[-1].k)))
    return chain


def values(rows, count, *, seed=0):
    return torch.randn(rows, count, 3, generator=torch.Generator().manual_seed(seed))


@LAWS
@given(selections())
def test_gather_takes_back_what_expand_gave(selection):
    kept = values(selection.batch, selection.k)
    assert torch.equal(selection.gather(selection.expand(kept)), kept)


@LAWS
@given(selections())
def test_pool_takes_back_what_expand_gave(selection):
    kept = values(selection.batch, selection.k)
    torch.testing.assert_close(selection.pool(selection.expand(kept)), kept)


@LAWS
@given(selections())
def test_scattering_what_was_gathered_changes_nothing(selection):
    base = values(selection.batch, selection.n_tokens)
    assert torch.equal(selection.scatter(selection.gather(base), base), base)


@LAWS
@given(selections())
def test_scatter_writes_the_kept_rows_and_leaves_the_others(selection):
    base, kept = values(selection.batch, selection.n_tokens), values(selection.batch, selection.k, seed=1)
    before = base.clone()
    written = selection.scatter(kept, base)
    assert torch.equal(base, before)
    assert torch.equal(selection.gather(written), kept)
    assert torch.equal(written[~selection.mask()], base[~selection.mask()])


@LAWS
@given(chains(3))
def test_then_is_associative(chain):
    first, second, third = chain
    assert first.then(second).then(third).equals(first.then(second.then(third)))


@LAWS
@given(selections())
def test_the_identity_is_neutral(selection):
    assert Selection.identity(selection.batch, selection.n_tokens).then(selection).equals(selection)
    assert selection.then(Selection.identity(selection.batch, selection.k)).equals(selection)


@LAWS
@given(chains(2))
def test_then_gathers_as_both_in_turn(chain):
    first, second = chain
    base = values(first.batch, first.n_tokens)
    assert torch.equal(first.then(second).gather(base), second.gather(first.gather(base)))
    kept = values(second.batch, second.k)
    torch.testing.assert_close(first.then(second).expand(kept), first.expand(second.expand(kept)))


@LAWS
@given(selections())
def test_mask_and_rows_and_stack_agree_with_the_indices(selection):
    mask = selection.mask()
    assert mask.dtype == torch.bool and int(mask.sum()) == selection.batch * selection.k
    assert all(mask[row, index] for row in range(selection.batch) for index in selection.indices[row].tolist())
    assert Selection.stack([selection.row(row) for row in range(selection.batch)]).equals(selection)
    assert selection.to("cpu").equals(selection)


@LAWS
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(*[selections(batch=1, n_tokens=n, merging=False)] * 2)))
def test_union_keeps_what_either_keeps(pair):
    one, other = pair
    united = one.union(other)
    assert torch.equal(united.mask(), one.mask() | other.mask())
    assert united.equals(other.union(one))


@LAWS
@given(selections(merging=False), st.data())
def test_a_prefix_is_the_first_picks(selection, data):
    if selection.order is None:
        return
    k = data.draw(st.integers(1, selection.k))
    prefix = selection.prefix(k)
    assert torch.equal(prefix.order, selection.order[:, :k])
    assert torch.equal(prefix.indices, selection.order[:, :k].sort(dim=1).values)
    assert prefix.prefix(1).equals(selection.prefix(1))


@LAWS
@given(selections())
def test_json_is_plain_and_complete(selection):
    written = json.loads(json.dumps(selection.to_json()))
    assert written["n_tokens"] == selection.n_tokens and written["k"] == selection.k
    assert written["indices"] == selection.indices.tolist()
    assert ("order" in written) == (selection.order is not None)
    assert ("owner" in written) == (selection.owner is not None)


def test_pool_averages_and_expand_copies_by_owner():
    selection = Selection(torch.tensor([[1, 3]]), 5, owner=torch.tensor([[0, 0, -1, 1, 0]]))
    base = torch.tensor([[3.0, 6.0, 100.0, 7.0, 9.0]])
    assert selection.pool(base).tolist() == [[6.0, 7.0]]
    assert selection.expand(torch.tensor([[1.0, 2.0]])).tolist() == [[1, 1, 0, 2, 1]]
    assert selection.expand(torch.tensor([[1.0, 2.0]]), fill=-5.0).tolist() == [[1, 1, -5, 2, 1]]


def test_pool_sums_half_precision_in_float32():
    n_tokens = 4096
    selection = Selection(torch.tensor([[0]]), n_tokens, owner=torch.zeros(1, n_tokens, dtype=torch.int64))
    pooled = selection.pool(torch.ones(1, n_tokens, 1, dtype=torch.float16))
    assert pooled.dtype == torch.float16 and pooled.item() == 1.0


def test_apply_prefers_merged_features():
    indices, base = torch.tensor([[0, 2]]), torch.arange(6.0).reshape(1, 3, 2)
    assert torch.equal(Selection(indices, 3).apply(base), base[:, [0, 2]])
    merged = torch.full((1, 2, 2), 9.0)
    applied = Selection(indices, 3, features=merged).apply(base.to(torch.bfloat16))
    assert applied.dtype == torch.bfloat16 and bool((applied == 9.0).all())
    with pytest.raises(SelectionError, match="merged features are 2 wide"):
        Selection(indices, 3, features=merged).apply(torch.zeros(1, 3, 4))


def test_a_selection_of_nothing_is_possible():
    nothing = Selection(torch.empty(2, 0, dtype=torch.int64), 4)
    assert nothing.gather(torch.ones(2, 4, 3)).shape == (2, 0, 3)
    assert not nothing.mask().any()


def test_gradients_flow_through_gather_and_scatter():
    selection = Selection(torch.tensor([[0, 2]]), 3)
    base = torch.ones(1, 3, 2, requires_grad=True)
    selection.scatter(selection.gather(base) * 2.0, base).sum().backward()
    assert base.grad.tolist() == [[[2.0, 2.0], [1.0, 1.0], [2.0, 2.0]]]


INDEX = torch.tensor([[0, 2]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Selection(INDEX, 0), "n_tokens is 0"),
        (lambda: Selection([[0, 2]], 3), "indices is list; expected an int64 tensor"),
        (lambda: Selection(INDEX.int(), 3), "indices is torch.int32"),
        (lambda: Selection(INDEX[0], 3), r"indices is torch.int64 \(2,\)"),
        (lambda: Selection(INDEX, 2), r"indices must lie in 0\.\.1; got values from 0 to 2"),
        (lambda: Selection(INDEX - 1, 3), r"indices must lie in 0\.\.2; got values from -1 to 1"),
        (lambda: Selection(INDEX.flip(1), 3), "unique and ascending"),
        (lambda: Selection(INDEX * 0, 3), "unique and ascending"),
        (lambda: Selection(INDEX, 3, order=torch.tensor([[0, 1]])), "order must hold exactly the kept indices"),
        (lambda: Selection(INDEX, 3, order=torch.tensor([[0]])), r"order has shape \(1, 1\); expected \(1, 2\)"),
        (lambda: Selection(INDEX, 3, owner=torch.tensor([[0, 1]])), r"owner has shape \(1, 2\); expected \(1, 3\)"),
        (lambda: Selection(INDEX, 3, owner=torch.tensor([[0, 2, 1]])), r"owner must lie in -1\.\.1"),
        (lambda: Selection(INDEX, 3, owner=torch.tensor([[1, 0, 0]])), "each slot must own its own token"),
        (
            lambda: Selection(INDEX, 3, features=torch.zeros(1, 3, 4)),
            r"features has shape \(1, 3, 4\); expected \(1, 2, D\)",
        ),
        (lambda: Selection(INDEX, 3, features=INDEX[..., None]), "merged features must be floating point"),
        (
            lambda: Selection(INDEX, 3).gather(torch.zeros(1, 4)),
            r"values is \(1, 4\); expected a tensor \(B, N, ...\) = \(1, 3, ...\)",
        ),
        (
            lambda: Selection(INDEX, 3).expand(torch.zeros(1, 3)),
            r"kept is \(1, 3\); expected a tensor \(B, K, ...\) = \(1, 2, ...\)",
        ),
        (
            lambda: Selection(INDEX, 3).gather(torch.zeros(1, 3, device="meta")),
            "values is on meta, the selection on cpu",
        ),
        (lambda: Selection(INDEX, 3).scatter(torch.zeros(1, 2, 4), torch.zeros(1, 3, 5)), "do not fit into base"),
        (lambda: Selection(INDEX, 3).then(Selection(INDEX, 3)), "over 3 tokens in 1 rows; expected the 2 kept tokens"),
        (lambda: Selection(INDEX, 3).union(Selection(INDEX, 4)), "cannot unite 1 rows over 3 tokens with 1 over 4"),
        (
            lambda: Selection(INDEX, 3).union(Selection(INDEX, 3, owner=torch.tensor([[0, 0, 1]]))),
            "cannot unite merging selections",
        ),
        (
            lambda: Selection(INDEX.repeat(2, 1), 3).union(Selection(torch.tensor([[0, 2], [0, 1]]), 3)),
            r"the rows of the union keep \[2, 3\] tokens",
        ),
        (lambda: Selection(INDEX, 3).prefix(1), "no pick order"),
        (lambda: Selection(INDEX, 3).prefix(3), r"prefix of 3 tokens; expected a whole number in 1\.\.2"),
        (
            lambda: Selection(INDEX, 3, owner=torch.tensor([[0, 0, 1]]), order=INDEX).prefix(1),
            "a merging selection has no prefix",
        ),
        (lambda: Selection(INDEX, 3).row(1), "row 1 of a batch of 1"),
        (lambda: Selection.stack([]), "stack needs one selection"),
        (lambda: Selection.stack([Selection(INDEX, 3), Selection(INDEX, 4)]), "stack needs one selection"),
    ],
)
def test_what_breaks_a_law_is_refused(make, message):
    with pytest.raises(SelectionError, match=message):
        make()


def test_equals_compares_every_field():
    plain = Selection(INDEX, 3)
    assert plain.equals(Selection(INDEX.clone(), 3))
    assert not plain.equals(Selection(INDEX, 4))
    assert not plain.equals(Selection(INDEX, 3, order=INDEX))
    assert not plain.equals(Selection(torch.tensor([[0, 1]]), 3))


@LAWS
@given(selections(batch=1, merging=False), st.integers(1, 4))
def test_a_joint_selection_splits_into_its_frames(selection, frames):
    joint = Selection(
        torch.cat([selection.indices + frame * selection.n_tokens for frame in range(frames)], dim=1),
        frames * selection.n_tokens,
    )
    parts = joint.split(frames)
    assert len(parts) == frames
    for part in parts:
        assert part.n_tokens == selection.n_tokens and torch.equal(part.indices, selection.indices)


def test_frames_may_keep_different_counts_and_none():
    order = torch.tensor([[9, 0, 2]])
    features = torch.tensor([[[0.0], [2.0], [9.0]]])
    owner = torch.full((1, 12), -1)
    owner[0, [0, 2, 9, 5]] = torch.tensor([0, 1, 2, 0])
    joint = Selection(torch.tensor([[0, 2, 9]]), 12, owner, features, order)
    first, second, third = joint.split(3)
    assert [part.k for part in (first, second, third)] == [2, 0, 1]
    assert first.indices.tolist() == [[0, 2]] and third.indices.tolist() == [[1]]
    assert first.order.tolist() == [[0, 2]] and third.order.tolist() == [[1]] and second.order.shape == (1, 0)
    assert first.features.tolist() == [[[0.0], [2.0]]] and third.features.tolist() == [[[9.0]]]
    # An owner may lie in another frame, so that none is left.
    assert first.owner is second.owner is third.owner is None
    assert joint.split(1)[0].indices.tolist() == [[0, 2, 9]]


def test_the_order_of_a_split_is_that_of_the_whole_clip():
    joint = Selection.from_order(torch.tensor([[5, 0, 3, 1, 4]]), 6)
    assert [part.order.tolist() for part in joint.split(2)] == [[[0, 1]], [[2, 0, 1]]]


@pytest.mark.parametrize(
    ("selection", "frames", "message"),
    [
        (Selection(torch.tensor([[0], [1]]), 6), 2, "cannot split 2 rows over 6 tokens into 2 frames"),
        (
            Selection(torch.tensor([[0]]), 7),
            2,
            "cannot split 1 rows over 7 tokens into 2 frames; expected one joint row",
        ),
        (Selection(torch.tensor([[0]]), 6), 0, "into 0 frames"),
        (Selection(torch.tensor([[0]]), 6), 1.5, r"into 1\.5 frames"),
    ],
)
def test_what_is_no_joint_row_is_not_split(selection, frames, message):
    with pytest.raises(SelectionError, match=message):
        inspect.unwrap(Selection.split)(selection, frames)


@LAWS
@given(selections())
def test_sizes_count_what_each_slot_owns(selection):
    sizes = selection.sizes
    assert sizes.dtype == torch.float32 and sizes.shape == selection.indices.shape
    if selection.owner is None:
        assert bool((sizes == 1).all())
        return
    for row in range(selection.batch):
        for slot in range(selection.k):
            assert int(sizes[row, slot]) == int((selection.owner[row] == slot).sum())
    assert bool((sizes >= 1).all())

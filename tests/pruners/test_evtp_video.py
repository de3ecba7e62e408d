import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens, kcenter
from leanseg.core.joint import JointSpace
from leanseg.errors import SpecError
from leanseg.metrics.coverage import coverage
from leanseg.pruners import EVTP, EVTPVideo
from leanseg.testing import check_pruner, sample_tokens


def clip(frames=4, grid=None, seed=0, key_frame=0):
    grid = grid or Grid(6, 5)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(frames, grid.n_tokens, 6, generator=generator) + 0.3
    return VisualTokens(features=features, grid=grid).joined(key_frame=key_frame)


def still(frames=4, grid=None, change_in=None):
    """The same picture in every frame; a patch of `change_in` shows something new."""
    grid = grid or Grid(8, 8)
    picture = torch.randn(1, grid.n_tokens, 6, generator=torch.Generator().manual_seed(3))
    features = picture.repeat(frames, 1, 1)
    if change_in is not None:
        features[change_in, 18:30] += torch.randn(12, 6, generator=torch.Generator().manual_seed(4)) * 3
    return VisualTokens(features=features, grid=grid).joined()


def per_frame(selection, tokens):
    return [part.k for part in selection.split(tokens.grid.frames)]


@pytest.mark.parametrize("options", [{}, {"tau": 2.0, "start": "far"}, {"normalize": "l2", "start": 3}], ids=str)
@pytest.mark.parametrize("key_share", [None, 0.0, 0.7])
def test_with_one_frame_it_is_evtp(options, key_share):
    tokens = sample_tokens(Grid(6, 7))
    made = EVTPVideo(keep_ratio=0.3, key_share=key_share, time_weight=9.0, **options)
    assert made(tokens).equals(EVTP(keep_ratio=0.3, **options)(tokens))


@pytest.mark.parametrize("frames", [2, 5])
@pytest.mark.parametrize("options", [{}, {"time_weight": 0.0}, {"key_share": 0.4}], ids=str)
def test_joint_rows_obey_the_laws(frames, options):
    check_pruner(
        lambda keep_ratio: EVTPVideo(keep_ratio=keep_ratio, **options),
        grids=[Grid(1, 1, frames=frames), Grid(3, 4, frames=frames)],
    )


def test_it_is_farthest_first_on_features_place_and_time():
    tokens = clip()
    made = EVTPVideo(keep_ratio=0.25)
    order = made(tokens).order
    points = JointSpace().embed(tokens).points
    assert points.shape[-1] == 6 + 3
    assert torch.equal(kcenter.select(points, 30, order[:, 0])[0], order)
    assert EVTPVideo(keep_ratio=0.25, time_weight=0.0, tau=2.0).space == JointSpace(tau=2.0, time_weight=0.0)


def test_without_time_a_still_clip_is_covered_once():
    tokens, made = still(), EVTPVideo(keep_ratio=0.25, time_weight=0.0)
    selection = made(tokens)
    # A quarter of four equal frames: every cell once, so that nothing is left uncovered.
    assert sorted((selection.indices[0] % 64).tolist()) == list(range(64))
    assert float(coverage(tokens, selection, made.space).joint_max) == 0.0
    assert len(set((EVTPVideo(keep_ratio=0.25)(tokens).indices[0] % 64).tolist())) < 64


def test_the_frame_that_shows_something_new_gets_more_tokens():
    tokens = still(change_in=2)
    counts = per_frame(EVTPVideo(keep_ratio=0.2)(tokens), tokens)
    assert max(counts) == counts[2] > sum(counts) / 4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**5), st.floats(0.05, 1.0), st.sampled_from([0.05, 0.2, 0.5, 0.8]), st.integers(0, 3))
def test_the_key_frame_has_its_share_at_every_count(seed, share, keep_ratio, key_frame):
    tokens = clip(seed=seed, key_frame=key_frame)
    selection = EVTPVideo(keep_ratio=keep_ratio, key_share=share)(tokens)
    inside = (selection.order[0] // 30) == key_frame
    for count in range(1, selection.k + 1):
        assert int(inside[:count].sum()) >= min(math.ceil(share * count - 1e-9), 30)


def test_a_static_key_frame_does_not_starve_when_it_has_a_share():
    # The last frame equals the others, so that without time and share its cells are the first to be dropped.
    joined = still()
    tokens = VisualTokens(features=joined.features, grid=joined.grid, key_frame=3)
    without = per_frame(EVTPVideo(keep_ratio=0.2, time_weight=0.0)(tokens), tokens)
    owed = per_frame(EVTPVideo(keep_ratio=0.2, time_weight=0.0, key_share=0.5)(tokens), tokens)
    assert without[3] <= 2 and owed[3] >= sum(owed) / 2


def test_a_share_keeps_runs_nested_and_starts_in_the_key_frame():
    tokens = clip(key_frame=2)
    large = EVTPVideo(keep_ratio=0.5, key_share=0.3)(tokens)
    for keep_ratio, k in ((0.05, 6), (0.25, 30)):
        assert large.prefix(k).equals(EVTPVideo(keep_ratio=keep_ratio, key_share=0.3)(tokens))
    assert EVTPVideo(keep_ratio=0.1, key_share=0.3, start=7)(tokens).order[0, 0] == 67
    with pytest.raises(SpecError, match=r"start is token 30; these grids have tokens 0\.\.29"):
        EVTPVideo(keep_ratio=0.1, key_share=0.3, start=30)(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_share": 1.5}, r"key_share is 1\.5; it must lie in 0\.\.1"),
        ({"key_share": "half"}, "key_share is 'half'"),
        ({"key_share": True}, "key_share is True"),
        ({"time_weight": -1}, r"time_weight is -1\.0; it must be a number of at least 0"),
        ({"tau": 0}, "tau is"),
        ({"start": "men"}, "unknown start"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        EVTPVideo(keep_ratio=0.2, **options)

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanseg.core import Grid, VisualTokens
from leanseg.errors import SpecError
from leanseg.pruners import EVTP, Adaptive, Attention, EVTPVideo, KCenter, Random, Smooth, Uniform, pruner
from leanseg.pruners.smooth import followed, frames_of, shares
from leanseg.testing import check_pruner, sample_tokens

GRID = Grid(12, 12)


def moving(frames=6, step=(0, 1), noise=0.3, seed=0):
    """A texture that moves by whole cells per frame, in noise that is new in every frame."""
    generator = torch.Generator().manual_seed(seed)
    size = 12 + frames * max(map(abs, step))
    world = torch.randn(size, size, 8, generator=generator)
    views = []
    for time in range(frames):
        # The window moves against the content.
        y, x = (frames - time) * step[0], (frames - time) * step[1]
        view = world[y : y + 12, x : x + 12].reshape(144, 8)
        views.append(view + noise * torch.randn(144, 8, generator=generator))
    return VisualTokens(features=torch.stack(views), grid=GRID).joined()


def stability(selection, frames=6, step=(0, 1)):
    """Of the kept cells whose content stays in the picture, the part whose content is kept in the next frame too."""
    parts = [set(part.indices[0].tolist()) for part in selection.split(frames)]
    held = stays = 0
    for before, after in pairwise(parts):
        for cell in before:
            y, x = cell // 12 + step[0], cell % 12 + step[1]
            if 0 <= y < 12 and 0 <= x < 12:
                stays += 1
                held += (12 * y + x) in after
    return held / stays


@pytest.mark.parametrize("inner", [EVTP, KCenter, Random])
def test_kept_tokens_follow_a_moving_scene_the_more_the_larger_the_bonus(inner):
    for step in ((0, 1), (1, 0)):
        tokens = moving(step=step)
        steady = [
            stability(Smooth(keep_ratio=0.2, inner=inner(keep_ratio=1), bonus=bonus)(tokens), step=step)
            for bonus in (0.0, 0.1, 0.3, 1.0)
        ]
        assert steady == sorted(steady) and steady[0] < min(0.7, steady[1]) and steady[-1] > 0.9


def test_motion_beyond_the_search_is_lost():
    tokens = moving(frames=4, step=(0, 2))
    near, far = (
        stability(
            Smooth(keep_ratio=0.2, inner=EVTP(keep_ratio=1), bonus=1.0, search=search)(tokens), frames=4, step=(0, 2)
        )
        for search in (1, 2)
    )
    assert near < 0.5 < 0.9 < far


@pytest.mark.parametrize("inner", [EVTP(keep_ratio=1), Attention(keep_ratio=1), Random(keep_ratio=1, seed=4)])
def test_without_a_bonus_it_is_the_method_inside_frame_by_frame(inner):
    tokens = sample_tokens(Grid(5, 6), batch=4)
    selection = Smooth(keep_ratio=0.2, inner=inner, bonus=0)(tokens.joined(key_frame=2))
    assert [part.k for part in selection.split(4)] == [6] * 4
    for frame, part in enumerate(selection.split(4)):
        assert torch.equal(part.indices, inner.select(tokens.row(frame), 6).indices)


def test_a_full_bonus_keeps_a_still_scene_as_it_is():
    still = VisualTokens(features=moving().features[:, :144].repeat(1, 5, 1), grid=Grid(12, 12, frames=5))
    noisy = VisualTokens(
        features=still.features + 0.2 * torch.randn(1, 720, 8, generator=torch.Generator().manual_seed(1)),
        grid=still.grid,
    )
    made = Smooth(keep_ratio=0.1, inner=EVTP(keep_ratio=1), bonus=1.0, search=0)
    for tokens in (still, noisy):
        parts = [part.indices[0] for part in made(tokens).split(5)]
        # 72 of 5 frames: the key frame and its neighbour have 15, the others 14 of the same.
        assert [len(part) for part in parts] == [15, 15, 14, 14, 14]
        assert all(set(part.tolist()) <= set(parts[0].tolist()) for part in parts)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1), st.integers(0, 2), st.data())
def test_counts_are_exact_and_even(frames, height, width, bonus, search, data):
    grid = Grid(height, width, frames=frames)
    k, key_frame = data.draw(st.integers(1, grid.n_tokens)), data.draw(st.integers(0, frames - 1))
    features = sample_tokens(grid).features
    tokens = VisualTokens(features=features, grid=grid, key_frame=key_frame)
    made = Smooth(keep_ratio=k / grid.n_tokens, inner=EVTP(keep_ratio=1), bonus=bonus, search=search)
    counts = [part.k for part in made(tokens).split(frames)]
    assert sum(counts) == k and max(counts) - min(counts) <= 1 and counts[key_frame] == max(counts)
    assert counts == shares(k, frames, key_frame)


def test_a_match_is_the_best_then_the_nearest_then_the_first():
    grid = Grid(3, 3)
    before, after = torch.zeros(9, 2), torch.zeros(9, 2)
    before[4], after[8] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    assert followed(before, after, torch.tensor([4]), grid, 1).tolist() == [8]
    assert followed(before, after, torch.tensor([4]), grid, 0).tolist() == [4]
    after[7] = after[3] = after[8]
    assert followed(before, after, torch.tensor([4]), grid, 1).tolist() == [3]
    after[4] = after[8]
    assert followed(before, after, torch.tensor([4]), grid, 1).tolist() == [4]
    # Nothing is sought outside of the frame, or round its edge.
    assert followed(before, after, torch.tensor([0, 2]), grid, 1).tolist() == [0, 2]


def test_frames_of_a_joint_row_are_its_frames():
    tokens = sample_tokens(Grid(2, 3), batch=4)
    split = frames_of(tokens.joined())
    for name in ("features", "attention", "keys"):
        assert torch.equal(getattr(split, name), getattr(tokens, name))
    assert split.grid == Grid(2, 3) and torch.equal(split.guidance, tokens.guidance.mean(0).expand(4, -1))


@pytest.mark.parametrize(
    "made",
    [
        Smooth(keep_ratio=0.5, inner=EVTP(keep_ratio=1)),
        Smooth(keep_ratio=0.5, inner=Attention(keep_ratio=1), bonus=1.0, search=2),
        Smooth(keep_ratio=0.5, inner=Random(keep_ratio=1), bonus=0.0),
    ],
    ids=lambda made: made.spec(),
)
def test_joint_rows_obey_the_laws(made):
    grids = [Grid(1, 1), Grid(4, 4), Grid(1, 1, frames=3), Grid(3, 4, frames=3)]
    check_pruner(lambda keep_ratio: dataclasses.replace(made, keep_ratio=keep_ratio), grids=grids)
    assert pruner(made.spec()) == made and made.scope == "clip"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner": Uniform(keep_ratio=1)}, "needs a ranking of each frame, and uniform.* is not nested"),
        ({"inner": EVTPVideo(keep_ratio=1)}, r"evtp_video.* takes whole clips"),
        ({"inner": Adaptive(keep_ratio=1, inner=EVTP(keep_ratio=1), radius=1)}, "adaptive.* has no fixed budget"),
        ({"inner": "evtp"}, "inner of smooth is 'evtp'; it must be a pruner"),
        ({"bonus": 1.5}, r"bonus is 1\.5; it must lie in 0\.\.1"),
        ({"bonus": "much"}, "bonus is 'much'"),
        ({"search": -1}, "search is -1; it must be a whole number of cells"),
        ({"search": 1.5}, r"search is 1\.5"),
        ({"search": True}, "search is True"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        Smooth(**{"keep_ratio": 0.2, "inner": EVTP(keep_ratio=1), **options})

import pytest
import torch

from leanseg.core import Grid, VisualTokens
from leanseg.errors import TokensError
from leanseg.pruners import EVS
from leanseg.pruners.evs import cover_outwards, dissimilarity
from leanseg.testing import check_pruner


def clip(frames=4, height=3, width=5, seed=0, key_frame=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(frames, height * width, 6, generator=generator)
    return VisualTokens(features=features, grid=Grid(height, width)).joined(key_frame)


@pytest.mark.parametrize("key_frame", [0, 2, 3])
def test_the_rest_is_sorted_by_how_much_it_changed(key_frame):
    tokens = clip(key_frame=key_frame)
    order = EVS(keep_ratio=0.75)(tokens).order[0].tolist()
    frames = tokens.features[0].reshape(4, 15, 6).double()
    key = list(range(15 * key_frame, 15 * key_frame + 15))
    assert sorted(order[:15]) == key and len(order) == 45
    change = {}
    for frame in set(range(4)) - {key_frame}:
        neighbour = frame - 1 if frame > key_frame else frame + 1
        similar = torch.cosine_similarity(frames[frame], frames[neighbour], dim=1)
        change |= {15 * frame + cell: 1.0 - float(similar[cell]) for cell in range(15)}
    assert order[15:] == sorted(change, key=lambda index: (-change[index], index))[:30]


def test_a_still_clip_keeps_its_key_frame_then_the_earliest_tokens():
    still = VisualTokens(features=torch.randn(1, 6, 4).expand(3, -1, -1) * 1.0, grid=Grid(2, 3)).joined(key_frame=1)
    order = EVS(keep_ratio=0.5)(still).order[0].tolist()
    assert sorted(order[:6]) == [6, 7, 8, 9, 10, 11] and order[6:] == [0, 1, 2]
    assert dissimilarity(still.features[0], still.grid, 1).tolist() == [0.0] * 18


def test_what_changed_comes_before_what_did_not():
    features = torch.ones(3, 6, 4)
    features[2, 4] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    features[0, 1] = -1.0
    tokens = VisualTokens(features=features, grid=Grid(2, 3)).joined(key_frame=1)
    assert EVS(keep_ratio=8 / 18)(tokens).order[0].tolist()[6:] == [1, 16]


def test_a_budget_below_one_frame_covers_the_key_frame():
    tokens = clip(height=5, width=5, key_frame=2)
    kept = EVS(keep_ratio=0.09)(tokens)
    assert kept.order[0].tolist() == [62, 50, 54, 70, 74, 52, 60, 64, 72]
    assert EVS(keep_ratio=0.01)(tokens).order[0].tolist() == [62]


def test_every_prefix_of_a_frame_covers_it():
    grid = Grid(9, 9)
    places = grid.coordinates(torch.float64)
    order = cover_outwards(grid, 81)
    assert sorted(order.tolist()) == list(range(81)) and order[0] == 40
    for k in (4, 9, 25):
        radius = float(torch.cdist(places, places[order[:k]]).amin(1).max())
        assert radius <= 2 * 0.5 * 2**0.5 / (k**0.5 - 1)


def test_the_budget_is_the_clips_and_frames_may_come_away_empty():
    tokens = clip(key_frame=1)
    counts = [part.k for part in EVS(keep_ratio=0.3)(tokens).split(4)]
    assert sum(counts) == 18 and counts[1] == 15
    assert [part.k for part in EVS(keep_ratio=0.2)(tokens).split(4)] == [0, 12, 0, 0]


def test_frames_as_a_batch_are_refused():
    frames = VisualTokens(features=torch.randn(3, 6, 4), grid=Grid(2, 3))
    with pytest.raises(TokensError, match="takes a clip as one joint row; got a batch of 3 frames"):
        EVS(keep_ratio=0.5)(frames)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_it_obeys_the_laws_on_clips(frames):
    check_pruner(EVS, grids=[Grid(3, 4, frames=frames)], keep_ratios=[0.05, 0.2, 0.5, 1.0])

import pytest
import torch

from leanseg.core import Grid, VisualTokens
from leanseg.errors import TokensError


def test_coordinates_run_from_border_to_border_in_raster_order():
    grid = Grid(3, 5)
    coords = grid.coords
    assert coords.dtype == torch.float32 and coords.shape == (15, 2)
    assert coords[0].tolist() == [0, 0] and coords[-1].tolist() == [1, 1]
    assert coords[7].tolist() == [0.5, 0.5]
    assert Grid(1, 1).coords.tolist() == [[0, 0]]
    assert Grid(1, 3).coords.tolist() == [[0, 0], [0, 0.5], [0, 1]]


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (2.0, 3), (True, 3)])
def test_a_grid_of_no_size_is_refused(size):
    with pytest.raises(TokensError, match=r"Grid\.(height|width) is .*at least 1"):
        Grid(*size)


def make(**changes):
    fields = {"features": torch.zeros(2, 6, 4), "grid": Grid(2, 3)}
    return VisualTokens(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": [[1.0]]}, "features is list; it must be a torch tensor"),
        ({"features": torch.zeros(6, 4)}, r"features has shape \(6, 4\); expected a non-empty \(B, N, D\)"),
        ({"features": torch.zeros(0, 6, 4)}, "expected a non-empty"),
        ({"features": torch.zeros(2, 6, 4, dtype=torch.int64)}, "features is torch.int64; it must be floating point"),
        ({"features": torch.full((1, 6, 4), float("nan"))}, "features holds 24 values that are NaN or infinite"),
        ({"features": torch.zeros(2, 7, 4)}, "features holds 7 tokens, but a grid of 2 x 3 has 6"),
        ({"grid": (2, 3)}, "grid is tuple"),
        ({"attention": torch.zeros(2, 5)}, r"attention has shape \(2, 5\); expected \(B, N\)"),
        ({"attention": torch.full((2, 6), float("inf"))}, "attention holds 12 values"),
        ({"keys": torch.zeros(1, 6, 3)}, r"keys has shape \(1, 6, 3\)"),
        ({"guidance": torch.zeros(2, 3, 1)}, "guidance has shape"),
        ({"guidance": torch.zeros(3, 3)}, "guidance has shape"),
        ({"keys": torch.zeros(2, 6, 3, device="meta")}, "keys is on meta, features on cpu; move them together"),
    ],
)
def test_bad_tokens_are_refused_by_the_name_of_the_field(changes, message):
    with pytest.raises(TokensError, match=message):
        make(**changes)


def test_one_row_keeps_its_cues():
    features, attention = torch.randn(3, 6, 4), torch.rand(3, 6)
    tokens = make(features=features, attention=attention, keys=features[..., :2], guidance=features[:, 0])
    row = tokens.row(-1)
    assert row.batch == 1 and row.n_tokens == 6
    assert torch.equal(row.features, features[2:]) and torch.equal(row.attention, attention[2:])
    assert torch.equal(row.keys, features[2:, :, :2]) and torch.equal(row.guidance, features[2:, 0])
    assert make().row(1).attention is None
    with pytest.raises(TokensError, match="row 2 of a batch of 2"):
        make().row(2)


def test_a_grid_of_several_frames_repeats_its_places_and_counts_time():
    grid = Grid(2, 3, frames=4)
    assert grid.n_tokens == 24 and grid.frame == Grid(2, 3) != grid
    assert torch.equal(grid.coords, Grid(2, 3).coords.repeat(4, 1))
    times = grid.times(torch.float64)
    assert times.dtype == torch.float64 and times.shape == (24,)
    assert torch.equal(times.reshape(4, 6), (torch.arange(4).double() / 3)[:, None].expand(4, 6))
    assert not Grid(2, 3).times().any() and Grid(2, 3).times().dtype == torch.float32
    assert Grid(2, 3).frame == Grid(2, 3) == Grid(2, 3, frames=1)


@pytest.mark.parametrize("frames", [0, -1, 2.0, True, None])
def test_a_grid_of_no_frames_is_refused(frames):
    with pytest.raises(TokensError, match=r"Grid\.frames is .*at least 1"):
        Grid(2, 3, frames=frames)


def test_frames_join_to_one_row_with_their_cues():
    features, attention = torch.randn(3, 6, 4), torch.rand(3, 6)
    clip = make(features=features, attention=attention, keys=features[..., :2], guidance=features[:, 0])
    joint = clip.joined(key_frame=2)
    assert joint.batch == 1 and joint.grid == Grid(2, 3, frames=3) and joint.n_tokens == 18 and joint.key_frame == 2
    for frame in range(3):
        here = slice(6 * frame, 6 * frame + 6)
        assert torch.equal(joint.features[0, here], features[frame])
        assert torch.equal(joint.attention[0, here], attention[frame])
        assert torch.equal(joint.keys[0, here], features[frame, :, :2])
    torch.testing.assert_close(joint.guidance, features[:, 0].mean(0, keepdim=True))
    assert joint.row(0).key_frame == 2 and joint.row(0).grid == joint.grid
    plain = make().joined()
    assert plain.key_frame == 0 and plain.attention is plain.keys is plain.guidance is None


def test_half_precision_stays_when_frames_join():
    clip = make(features=torch.zeros(2, 6, 4).bfloat16(), guidance=torch.ones(2, 4).bfloat16())
    assert clip.joined().features.dtype == clip.joined().guidance.dtype == torch.bfloat16


def test_one_frame_joins_to_itself():
    alone = make(features=torch.randn(1, 6, 4)).joined()
    assert alone.grid == Grid(2, 3) and alone.batch == 1


def test_a_joint_row_is_not_joined_again():
    with pytest.raises(TokensError, match="the grid spans 2 frames already; expected frames as a batch"):
        make().joined().joined()


@pytest.mark.parametrize("key_frame", [2, -1, 1.0, True, None])
def test_a_key_frame_that_is_no_frame_is_refused(key_frame):
    with pytest.raises(TokensError, match=r"key_frame is .*; it must be a whole number in 0\.\.1: a frame of the grid"):
        make(features=torch.zeros(1, 12, 4), grid=Grid(2, 3, frames=2), key_frame=key_frame)
    with pytest.raises(TokensError, match=r"key_frame is 5; it must be a whole number in 0\.\.2"):
        make(features=torch.zeros(3, 6, 4)).joined(key_frame=5)


def test_tokens_that_do_not_fit_a_grid_of_frames_are_told_so():
    with pytest.raises(TokensError, match="features holds 6 tokens, but a grid of 3 x 2 x 3 has 18"):
        make(grid=Grid(2, 3, frames=3))

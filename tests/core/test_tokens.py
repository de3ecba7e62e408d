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

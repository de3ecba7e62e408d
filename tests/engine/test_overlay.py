"""Dots, cells and tints lie where the picture's geometry says, also on wide and tall pictures."""

import numpy as np
import pytest

from leanseg.core.tokens import Grid
from leanseg.engine.overlay import COLOURS, TokenLayout, compare, contour, kept_cells, overlay, stages_row, token_layout
from leanseg.errors import InputError


def grey(height, width):
    return np.full((height, width, 3), 100, dtype=np.uint8)


def white_spots(picture):
    """Centre (y, x) of the white pixels, in pixels from the picture's corner."""
    rows, columns = np.nonzero((np.asarray(picture) == 255).all(axis=2))
    return rows.mean() + 0.5, columns.mean() + 0.5


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100), (160, 160)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 1), (2, 3)])
def test_a_dot_lies_at_the_centre_of_its_cell(height, width, row, column):
    picture = overlay(grey(height, width), kept=[row * 4 + column], layout=Grid(4, 4))
    y, x = white_spots(picture)
    assert y == pytest.approx((row + 0.5) * height / 4, abs=1)
    assert x == pytest.approx((column + 0.5) * width / 4, abs=1)


def test_the_unseen_border_of_the_release_is_left_out():
    layout = token_layout(Grid(27, 27), image_size=384, patch_size=14)
    boxes = layout.boxes(384, 1536)
    assert boxes.shape == (729, 4)
    assert boxes[28].tolist() == [14, 56, 28, 112]
    assert boxes[-1].tolist() == [364, 1456, 378, 1512]
    assert token_layout(Grid(16, 16), image_size=192, patch_size=12).used == (1.0, 1.0)


def test_kept_cells_keep_their_colours_and_the_rest_is_dimmed():
    image = np.random.default_rng(0).integers(0, 200, (40, 160, 3), dtype=np.uint8)
    cells = np.asarray(kept_cells(image, [5], TokenLayout(Grid(4, 4))))
    assert np.array_equal(cells[10:20, 40:80], image[10:20, 40:80])
    outside = np.ones((40, 160), dtype=bool)
    outside[10:20, 40:80] = False
    assert cells[outside].min() >= 191 and (np.ptp(cells[outside], axis=1) == 0).all()


def test_a_mask_is_tinted_and_outlined():
    mask = np.zeros((100, 400), dtype=bool)
    mask[20:60, 100:300] = True
    picture = np.asarray(overlay(grey(100, 400), mask))
    assert np.array_equal((picture != 100).any(axis=2), mask)
    assert tuple(picture[20, 100]) == COLOURS[0] and tuple(picture[40, 200]) != COLOURS[0]


def test_earlier_masks_cover_later_ones_in_their_own_colours():
    masks = np.zeros((2, 10, 10), dtype=bool)
    masks[0, :, :6] = True
    masks[1, :, 4:] = True
    picture = np.asarray(overlay(grey(10, 10), masks))
    assert tuple(picture[5, 5]) == COLOURS[0] and tuple(picture[5, 3]) == tuple(picture[5, 0])
    assert tuple(picture[5, 8]) != tuple(picture[5, 0])
    assert np.array_equal(np.asarray(overlay(grey(10, 10), masks[:0])), grey(10, 10))


def test_contours():
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:6, 1:6] = True
    assert contour(mask).sum() == 16 and contour(mask, 2).sum() == 24
    assert not contour(np.ones((3, 3), dtype=bool)).any()
    assert not contour(np.zeros((3, 3), dtype=bool)).any()


def test_small_pictures_are_enlarged_by_a_whole_factor():
    mask = np.zeros((30, 120), dtype=bool)
    mask[:, :60] = True
    picture = overlay(grey(30, 120), mask, min_side=100)
    assert picture.size == (480, 120)
    assert np.array_equal((np.asarray(picture) != 100).any(axis=2), mask.repeat(4, 0).repeat(4, 1))
    assert overlay(grey(30, 120), min_side=20).size == (120, 30)


def test_compare_puts_three_panels_in_a_row():
    image, mask = grey(64, 128), np.zeros((64, 128), dtype=bool)
    mask[:32] = True
    row = np.asarray(compare(image, mask, [0, 5], Grid(2, 4), min_side=64))
    gap = (row.shape[1] - 3 * 128) // 2
    assert row.shape[0] == 64 and gap >= 2
    panels = [row[:, i * (128 + gap) : i * (128 + gap) + 128] for i in range(3)]
    assert np.array_equal(panels[0], image)
    assert np.array_equal((panels[1] == 100).all(axis=2)[:32, :32], np.ones((32, 32), dtype=bool))
    assert np.array_equal((panels[2] != 100).any(axis=2), mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": grey(4, 4)[..., :1]}, r"image of shape \(4, 4, 1\)"),
        ({"image": grey(4, 4) / 2}, "dtype float64; expected uint8"),
        ({"masks": np.zeros((4, 5), dtype=bool)}, r"masks of shape \(1, 4, 5\).* 4 x 4 pixels"),
        ({"masks": np.zeros((4, 4))}, "expected bool"),
        ({"kept": [0]}, "without a layout"),
        ({"kept": [4], "layout": Grid(2, 2)}, "kept token 4 is not on the grid of 2 x 2"),
        ({"kept": [-1], "layout": Grid(2, 2)}, "kept token -1 is not on the grid"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        overlay(**{"image": grey(4, 4), **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100), (160, 160)])
def test_cells_of_a_filled_up_picture_are_squares(height, width):
    boxes = TokenLayout(Grid(4, 4), padded=True).boxes(height, width)
    side = max(height, width) / 4
    assert boxes[5].tolist() == [side, side, 2 * side, 2 * side]
    dots = np.asarray(overlay(grey(height, width), kept=[0, 15], layout=TokenLayout(Grid(4, 4), padded=True)))
    assert (dots[: height // 2, : width // 2] == 255).any()
    if height != width:  # the last cell lies beside the picture
        assert not (dots[height // 2 :, width // 2 :] == 255).all(axis=2).any()


def test_stages_are_panels_in_a_row_and_labels_are_outlined():
    image, mask = grey(64, 64), np.zeros((64, 64), dtype=bool)
    mask[:20, :20] = True
    stages, layout = [[0, 5], [10]], TokenLayout(Grid(4, 4), padded=True)
    row = np.asarray(stages_row(image, mask, stages, layout))
    gap = row.shape[1] - 2 * 64
    assert row.shape[0] == 64 and gap >= 2
    for index, kept in enumerate(stages):
        panel = row[:, index * (64 + gap) : index * (64 + gap) + 64]
        assert np.array_equal(panel, np.asarray(overlay(image, mask, kept, layout)))
    labelled = np.asarray(stages_row(image, mask, [[10]], layout, labels=[0, 1, 4]))
    changed = (labelled != np.asarray(overlay(image, mask, [10], layout))).any(axis=2)
    # Cells of 16 pixels at the upper left corner, outlined where they end inside the picture.
    assert changed[31, 5] and changed[5, 31] and changed[15, 20] and changed[20, 15]
    assert labelled[31, 5].tolist() == [255] * 3 and labelled[30, 5].tolist() == [0] * 3  # seen on any ground
    assert not changed[0, 5] and not changed[15, 5] and not changed[40:].any() and not changed[:, 40:].any()

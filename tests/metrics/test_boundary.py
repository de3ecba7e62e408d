import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.golden import arrays_of, expected_of, golden

from leanseg.errors import InputError
from leanseg.metrics import _bits, boundary, boundary_f, jaccard
from leanseg.metrics.boundary import boundary_map, boundary_radius, cross_counts, f_of, j_of, outlines, pair_counts


@pytest.mark.golden
@pytest.mark.parametrize("name", golden("jf_cases", "cases"))
def test_parity_with_the_reference_boundary_measure(name):
    expected, arrays = expected_of("jf_cases", "cases", name), arrays_of("jf_cases", name)
    gt, pred, void = arrays["gt"], arrays["pred"], arrays.get("void")
    assert boundary_radius(*gt.shape) == expected["bound_pix"]
    keys = ("inter", "union", "n_gt_boundary", "n_pred_boundary", "gt_boundary_matched", "pred_boundary_matched")
    assert pair_counts(gt, pred, void).tolist() == [expected[key] for key in keys]
    assert boundary_f(gt, pred, void) == pytest.approx(expected["F"], abs=1e-12)
    assert jaccard(gt, pred, void) == pytest.approx(expected["J"], abs=1e-12)
    keep = np.ones(gt.shape, bool) if void is None else void == 0
    assert boundary_map(gt * keep).sum() == expected["n_gt_boundary"]
    crossed = cross_counts(*(outlines((mask * keep)[None] != 0, expected["bound_pix"]) for mask in (gt, pred)))
    assert crossed[0, 0].tolist() == pair_counts(gt, pred, void).tolist()


@pytest.mark.golden
@pytest.mark.parametrize("radius", golden("jf_cases", "meta", "disk_pixel_counts"))
def test_parity_with_the_reference_disk(radius):
    expected = expected_of("jf_cases", "meta", "disk_pixel_counts")[radius]
    point = np.zeros((2 * int(radius) + 1,) * 2, bool)
    point[int(radius), int(radius)] = True
    assert _bits.unpack(_bits.dilate(_bits.pack(point), int(radius)), point.shape[1]).sum() == expected


def slow_boundary(mask):
    """The definition, pixel by pixel."""
    height, width = mask.shape
    edges = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            right, below = x + 1 < width, y + 1 < height
            others = [mask[y, x + 1]] if right else []
            others += [mask[y + 1, x]] if below else []
            others += [mask[y + 1, x + 1]] if right and below else []
            edges[y, x] = any(other != mask[y, x] for other in others)
    return edges


def slow_counts(gt, pred, radius):
    first, second = slow_boundary(gt), slow_boundary(pred)
    matched = []
    for one, other in ((first, second), (second, first)):
        places, others = np.argwhere(one), np.argwhere(other)
        near = ((places[:, None] - others[None]) ** 2).sum(-1) <= radius * radius
        matched.append(int(near.any(1).sum()) if len(others) else 0)
    return [int((gt & pred).sum()), int((gt | pred).sum()), int(first.sum()), int(second.sum()), *matched]


def blobs(seed, n, height, width):
    """Masks of every kind: noise, boxes that touch the border, full, empty."""
    generator = np.random.default_rng(seed)
    masks = generator.random((n, height, width)) < generator.random((n, 1, 1)) ** 2
    for mask in masks[::2]:
        top, left = generator.integers(0, height), generator.integers(0, width)
        mask[:] = False
        mask[top : top + generator.integers(0, height + 1), left : left + generator.integers(0, width + 1)] = True
    return masks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 24), st.integers(1, 140), st.integers(0, 9))
def test_counts_are_those_of_the_definition(seed, height, width, radius):
    gt, pred = blobs(seed, 2, height, width)
    assert _bits.unpack(_bits.boundary(_bits.pack(gt), width), width).tolist() == slow_boundary(gt).tolist()
    fraction = 0.0 if radius == 0 else radius
    assert pair_counts(gt, pred, tolerance=fraction).tolist() == slow_counts(gt, pred, radius)


@pytest.mark.parametrize("radius", [0, 1, 2, 31, 63, 64, 65, 130, 400])
def test_dilation_reaches_exactly_the_disk_across_words(radius):
    mask = np.zeros((5, 300), bool)
    mask[2, 150] = mask[0, 3] = True
    y, x = np.mgrid[:5, :300]
    wanted = ((y - 2) ** 2 + (x - 150) ** 2 <= radius**2) | (y**2 + (x - 3) ** 2 <= radius**2)
    assert np.array_equal(_bits.unpack(_bits.dilate(_bits.pack(mask), radius), 300), wanted)


def test_bits_are_the_mask():
    masks = blobs(1, 6, 9, 131)
    assert np.array_equal(_bits.unpack(_bits.pack(masks), 131), masks)
    assert _bits.count(_bits.pack(masks)).tolist() == masks.sum(axis=(1, 2)).tolist()
    for step in (0, 1, 63, 64, 65, 128, 191, 192, 500):
        moved = np.zeros_like(masks)
        moved[..., step:] = masks[..., : max(0, 131 - step)]
        assert np.array_equal(_bits.unpack(_bits.from_left(_bits.pack(masks), step), 131), moved)
        moved = np.zeros_like(masks)
        moved[..., : max(0, 131 - step)] = masks[..., step:]
        assert np.array_equal(_bits.unpack(_bits.from_right(_bits.pack(masks), step), 131), moved)


def test_frames_are_measured_as_if_alone(monkeypatch):
    gt, pred = blobs(2, 7, 40, 70), blobs(3, 7, 40, 70)
    together = boundary_f(gt, pred)
    assert together.shape == (7,) and together.dtype == np.float64
    assert together.tolist() == [boundary_f(one, other) for one, other in zip(gt, pred, strict=True)]
    monkeypatch.setattr(boundary, "_CHUNK_WORDS", 1)
    assert boundary_f(gt, pred).tolist() == together.tolist()
    assert boundary_f(gt[None], pred[None]).shape == (1, 7)
    assert boundary_f(gt[:0], pred[:0]).shape == (0,)


def test_all_against_all_is_every_pair():
    gt, pred = blobs(4, 3, 50, 90), blobs(5, 4, 50, 90)
    crossed = cross_counts(outlines(gt, 2), outlines(pred, 2))
    assert crossed.shape == (4, 3, 6)
    for p in range(4):
        for n in range(3):
            assert crossed[p, n].tolist() == pair_counts(gt[n], pred[p], tolerance=2).tolist()
    assert cross_counts(outlines(gt, 2), outlines(pred[:0], 2)).shape == (0, 3, 6)


def test_the_rules_where_there_is_no_boundary():
    empty, full, point = np.zeros((9, 9)), np.ones((9, 9)), np.zeros((9, 9))
    point[4, 4] = 1
    assert boundary_map(full).sum() == 0 and boundary_map(point).sum() == 4
    assert boundary_f(empty, empty) == boundary_f(full, full) == 1.0
    assert boundary_f(full, empty) == 1.0 and jaccard(full, empty) == 0.0
    assert boundary_f(empty, point) == boundary_f(point, empty) == boundary_f(point, full) == 0.0
    assert f_of(np.array([0, 0, 5, 5, 0, 0])) == 0.0
    corner = np.zeros((9, 9))
    corner[5:, 5:] = 1
    assert boundary_map(corner).sum() == 9  # not along the right and lower border


def test_void_pixels_are_outside_both_masks():
    gt, pred, void = (np.zeros((200, 200), bool) for _ in range(3))
    gt[100:150, 100:150] = pred[50:150, 100:150] = void[50:100, 100:150] = True
    assert boundary_f(gt, pred, void) == jaccard(gt, pred, void) == 1.0
    assert boundary_f(gt, pred) < 1.0
    per_frame = boundary_f(np.stack([gt, gt]), np.stack([pred, pred]), np.stack([void, ~void]))
    assert per_frame.tolist() == [1.0, 0.0] and boundary_f(np.stack([gt]), np.stack([pred]), void).tolist() == [1.0]


def test_the_radius_grows_with_the_diagonal_or_is_given():
    sizes = {(480, 854): 8, (480, 910): 9, (480, 1152): 10, (720, 1280): 12, (1080, 1920): 18, (60, 80): 1}
    assert {size: boundary_radius(*size) for size in sizes} == sizes
    assert boundary_radius(60, 80, 5) == boundary_radius(60, 80, 5.0) == 5 and boundary_radius(60, 80, 0) == 0
    gt, pred = blobs(6, 2, 30, 30)
    values = [boundary_f(gt, pred, tolerance=tolerance) for tolerance in (0, 1, 4, 60)]
    assert values == sorted(values) and values[-1] == 1.0


def test_j_and_f_come_from_the_counts():
    gt, pred = blobs(7, 6, 20, 33), blobs(8, 6, 20, 33)
    counts = pair_counts(gt, pred)
    assert (
        j_of(counts).tolist() == jaccard(gt, pred).tolist() and f_of(counts).tolist() == boundary_f(gt, pred).tolist()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 4)), np.ones((4, 3))), r"gt has shape \(3, 4\) and pred \(4, 3\)"),
        ((np.ones(3), np.ones(3)), r"gt is float64 \(3,\); expected a mask \(..., H, W\)"),
        ((np.ones((3, 0)), np.ones((3, 0))), r"gt has shape \(3, 0\), no pixel at all"),
        ((np.ones((3, 4)), np.full((3, 4), 0.7)), "pred holds values other than 0 and 1; threshold a soft mask"),
        ((np.ones((3, 4)), np.full((3, 4), math.nan)), "pred holds values other than 0 and 1"),
        ((np.ones((3, 4)), np.ones((3, 4)), np.ones((2, 2))), r"void has shape \(2, 2\)"),
        ((np.ones((3, 4)), np.ones((3, 4)), None, -1.0), "tolerance is -1.0; expected a fraction of the diagonal"),
        ((np.ones((3, 4)), np.ones((3, 4)), None, 1.5), "tolerance is 1.5; expected a fraction of the diagonal"),
        ((np.ones((3, 4)), np.ones((3, 4)), None, math.nan), "tolerance is nan"),
        ((np.ones((3, 4)), np.ones((3, 4)), None, math.inf), "tolerance is inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        boundary_f(*arguments)

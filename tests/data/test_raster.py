"""The rasterisers against the numbers of pycocotools, OpenCV and LISA's reader, and against their definitions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden_cases import GOLDEN

from leanseg.data.raster import MAX_COORDINATE, fill_coco, fill_cv2, known_rule, polygon, segmentation_mask
from leanseg.data.run_lengths import decode
from leanseg.errors import DataError
from leanseg.run_length import encode_mask

FILE = GOLDEN / "metrics" / "raster_cases.json"


def _cases(kind: str) -> list[Any]:
    if not FILE.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {FILE}"), id="raster_cases/absent")]
    cases = json.loads(FILE.read_text(encoding="utf-8"))["cases"]
    return [
        pytest.param((name, case), id=f"raster_cases/{name}")
        for name, case in cases.items()
        if name.startswith(f"{kind}/")
    ]


def _array(name: str) -> np.ndarray:
    with np.load(FILE.with_suffix(".npz")) as arrays:
        return arrays[name]


@pytest.mark.golden
@pytest.mark.parametrize("case", _cases("poly"))
def test_polygons(case):
    name, about = case
    height, width = about["height"], about["width"]
    parts = [polygon(part, name) for part in about["segmentation"]]
    added = np.sum([fill_coco(part, height, width) for part in parts], axis=0)
    assert np.array_equal(added, _array(f"{name}/coco_sum"))
    union = segmentation_mask(about["segmentation"], height, width, name)
    assert np.array_equal(union, _array(f"{name}/coco_union").astype(bool))
    drawn = segmentation_mask(about["segmentation"], height, width, name, rule="cv2")
    assert np.array_equal(drawn, _array(f"{name}/cv2_fillpoly").astype(bool))
    assert (int(union.sum()), int(drawn.sum())) == (about["area_coco_union"], about["area_cv2"])
    for part, code in zip(parts, about["rle"], strict=True):
        assert np.array_equal(decode(code, name), fill_coco(part, height, width))


@pytest.mark.golden
@pytest.mark.parametrize("case", _cases("rle"))
def test_run_lengths(case):
    name, about = case
    code = {"size": about["size"], "counts": about["counts_compressed"]}
    mask = decode(code, name)
    assert int(mask.sum()) == about["area"] and list(mask.shape) == about["size"]
    assert encode_mask(mask) == code
    if "counts_uncompressed" in about:
        assert np.array_equal(decode({**code, "counts": about["counts_uncompressed"]}, name), mask)
    else:
        assert np.array_equal(mask, _array(name).astype(bool))


def test_a_two_point_polygon_is_no_box_under_coco_and_a_line_under_cv2():
    points = np.array([[2.0, 2.0], [6.0, 4.0]])
    assert fill_coco(points, 10, 10).sum() == 0
    assert fill_cv2(points, 10, 10).sum() == 5


def test_overlapping_parts_are_united():
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    assert np.array_equal(segmentation_mask([square, square], 8, 8, "x"), segmentation_mask([square], 8, 8, "x"))


corner = st.tuples(st.floats(-20, 40, width=32), st.floats(-20, 40, width=32))


@given(st.lists(corner, min_size=1, max_size=9), st.integers(1, 25), st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_drawing_does_not_depend_on_the_start_nor_inside_on_window_and_direction(corners, height, width):
    points = np.array(corners, dtype=np.float64)
    assert np.array_equal(fill_cv2(np.roll(points, 1, axis=0), height, width), fill_cv2(points, height, width))
    inside = np.clip(points, 0, [width - 1, height - 1])
    mask, larger = fill_cv2(inside, height, width), fill_cv2(inside, height + 3, width + 4)
    assert np.array_equal(fill_cv2(inside[::-1], height, width), mask)
    assert np.array_equal(larger[:height, :width], mask)
    assert larger.sum() == larger[:height, :width].sum()


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=8))
@settings(max_examples=100, deadline=None)
def test_what_coco_paints_cv2_paints_too_on_whole_corners(corners):
    points = np.array(corners, dtype=np.float64)
    drawn, counted = fill_cv2(points, 13, 13), fill_coco(points, 13, 13)
    grown = np.pad(drawn, 1)
    near = np.max([grown[1 + y : 14 + y, 1 + x : 14 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    assert not (counted & ~near).any()


@pytest.mark.parametrize(
    "bad",
    [None, 7, [], [1], [1, 2, 3], ["1", 2], [True, 2], [[1, 2, 3]], [[1, 2], 3], [1.0, float("nan")],
     [0, MAX_COORDINATE + 1], [0, float("inf")], [[1, None]]],
)  # fmt: skip
def test_polygons_of_strangers_are_checked(bad):
    with pytest.raises(DataError, match=r"a polygon of ref 7 .* mend the file"):
        polygon(bad, "ref 7")


def test_an_endless_outline_is_refused():
    with pytest.raises(DataError, match=r"outline of .* pixels; expected at most"):
        polygon([0, 0, 60_000, 60_000] * 20, "ref 7")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "no run-length code"),
        ({"size": [2, 2]}, "no run-length code"),
        ({"size": [2], "counts": "04"}, r"not \[height, width\]"),
        ({"size": [2, "2"], "counts": "04"}, r"not \[height, width\]"),
        ({"size": [0, 2], "counts": "04"}, "zero size"),
        ({"size": [10**6, 10**6], "counts": "04"}, "too large"),
        ({"size": [2, 2], "counts": [1, 2]}, "do not add up to 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "whole numbers"),
        ({"size": [2, 2], "counts": [2, 2.0]}, "whole numbers"),
        ({"size": [2, 2], "counts": [2**60]}, "whole numbers"),
        ({"size": [2, 2], "counts": []}, "at least one"),
        ({"size": [2, 2], "counts": ""}, "at least one"),
        ({"size": [2, 2], "counts": "4 0"}, "not COCO's code"),
        ({"size": [2, 2], "counts": "4o"}, "not COCO's code"),
        ({"size": [2, 2], "counts": "oooooooooooo0"}, "not COCO's code"),
        ({"size": [2, 2], "counts": "é"}, "neither text nor a list"),
        ({"size": [2, 2], "counts": "5"}, "do not add up"),
        ({"size": [2, 2], "counts": 4}, "neither text nor a list"),
    ],
)
def test_run_lengths_of_strangers_are_checked(code, message):
    with pytest.raises(DataError, match=message) as caught:
        decode(code, "anno 3")
    assert "anno 3" in str(caught.value)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(DataError, match="has 2 x 2 pixels; expected 2 x 3"):
        segmentation_mask({"size": [2, 2], "counts": [4]}, 2, 3, "anno 3")
    with pytest.raises(DataError, match="expected polygons or run lengths"):
        segmentation_mask("text", 2, 3, "anno 3")
    with pytest.raises(DataError, match="unknown rasteriser 'opencv'"):
        known_rule("opencv")


@given(st.one_of(st.text(max_size=30), st.lists(st.integers(-3, 9), max_size=9)), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_code_is_a_mask_or_a_data_error(counts, height, width):
    try:
        mask = decode({"size": [height, width], "counts": counts}, "x")
    except DataError:
        return
    assert mask.shape == (height, width)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_checked_decoding_is_the_inverse_of_encoding(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    assert np.array_equal(decode(encode_mask(mask), "x"), mask)

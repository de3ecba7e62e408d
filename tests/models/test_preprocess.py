from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.models.golden_folders import close, config, golden, tensors

from leanseg.errors import InputError
from leanseg.models.instructseg.preprocess import MASK_MEAN, MASK_STD, mask_pixels, scaled_size, siglip_pixels

PADDING = torch.from_numpy((128 - MASK_MEAN) / MASK_STD)


def fixture_cases(folder):
    """`landscape_1024` and so on: the names under "meta"; the last part is the size or "siglip"."""
    return config(folder)["meta"]


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("preprocess", fixture_cases))
def test_pixels_equal_the_reference(folder, key):
    picture, _, branch = key.rpartition("_")
    image = np.asarray(Image.open(folder / f"{picture}.png").convert("RGB"))
    meta = config(folder)["meta"][key]
    expected = {
        name.removeprefix(key): each for name, each in tensors(folder, "outputs").items() if name.startswith(key)
    }
    assert expected, f"no tensor for {key}"
    if branch == "siglip":
        pixels = siglip_pixels(image, meta["shape"][-1])
        assert list(pixels.shape) == meta["shape"]
    else:
        pixels, valid = mask_pixels(image, int(branch))
        assert valid == (meta["valid_h"], meta["valid_w"])
        close(PADDING, torch.tensor(meta["pad_value"]))
    for suffix, tensor in expected.items():
        if suffix == "_mask":
            padding = torch.ones_like(tensor)
            padding[: valid[0], : valid[1]] = 0
            assert torch.equal(padding, tensor)
        elif suffix.startswith("_sub"):
            step = int(suffix.removeprefix("_sub"))
            close(pixels[:, ::step, ::step], tensor)
        elif suffix == "_crop":
            close(pixels[:, : tensor.shape[1], : tensor.shape[2]], tensor)
        else:
            assert suffix == ""
            close(pixels, tensor)
    assert pixels.double().mean().item() == pytest.approx(meta["mean"], abs=1e-5)
    assert pixels.double().abs().sum().item() == pytest.approx(meta["sum_abs"], rel=1e-5)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([16, 192, 1024]))
@settings(max_examples=200, deadline=None)
def test_the_longer_side_fills_the_input(height, width, size):
    scaled = scaled_size(height, width, size=size)
    assert max(scaled) == size and min(scaled) >= 1
    exact = size / max(height, width)
    assert abs(scaled[0] - height * exact) <= 0.5 + 1e-6 or scaled[0] == 1
    assert abs(scaled[1] - width * exact) <= 0.5 + 1e-6 or scaled[1] == 1


@pytest.mark.parametrize(("height", "width"), [(1, 3000), (3000, 1), (40, 160), (160, 40), (7, 7)])
def test_padding_is_grey_below_and_right_of_the_picture(height, width):
    pixels, (valid_height, valid_width) = mask_pixels(np.full((height, width, 3), 255, np.uint8), size=64)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.float32
    white = torch.from_numpy((255 - MASK_MEAN) / MASK_STD)
    inside = pixels[:, :valid_height, :valid_width]
    close(inside, white[:, None, None].expand_as(inside))
    outside = torch.cat([pixels[:, valid_height:].flatten(1), pixels[:, :, valid_width:].flatten(1)], dim=1)
    close(outside, PADDING[:, None].expand_as(outside))


def test_siglip_squashes_the_whole_picture():
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, 40:] = (255, 0, 128)
    pixels = siglip_pixels(image, size=24)
    close(pixels[:, :, :8], torch.full((3, 24, 8), -1.0))
    close(pixels[:, :, 16:], torch.tensor([1.0, -1.0, 256 / 255 - 1])[:, None, None].expand(3, 24, 8))


def test_views_are_read_and_left_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    before = image.copy()
    flipped = image[:, ::-1]
    close(siglip_pixels(flipped, size=16), siglip_pixels(flipped.copy(), size=16))
    close(mask_pixels(flipped, size=16)[0], mask_pixels(flipped.copy(), size=16)[0])
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((4, 4, 3), np.float32),
            r"shape \(4, 4, 3\) and type float32; expected \(height, width, 3\) of uint8 RGB",
        ),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\) and type uint8; expected"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\).*convert it first"),
        (np.zeros((0, 4, 3), np.uint8), r"zero size"),
        (np.zeros((1, 20000, 3), np.uint8), r"too large"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    for prepare in (siglip_pixels, mask_pixels):
        with pytest.raises(InputError, match=message):
            prepare(image, 16)

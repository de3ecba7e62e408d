"""SAM's input and output sizes: scaling, filling up, and the way back, against the released code's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.vltp_golden import CHAIN_TOLERANCE, config, exactly, io, near

from leanseg.errors import InputError
from leanseg.models.sam.pictures import fill_up, full_masks, normalised, sam_pixels, scaled_size


def _sizes(folder: Path) -> list[str]:
    return ["preprocessed", *sorted(name for name in io(folder) if name.startswith("post_"))]


def _constants(raw: torch.Tensor, given: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel: the fixture's model has drawn ones, which it does not state."""
    pairs = zip(raw.flatten(1).numpy(), given[:, : raw.shape[1], : raw.shape[2]].flatten(1).numpy(), strict=True)
    slopes = [np.polyfit(before.astype(np.float64), after.astype(np.float64), 1) for before, after in pairs]
    return [float(-offset / slope) for slope, offset in slopes], [float(1 / slope) for slope, _ in slopes]


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "case"), exactly("losses_postprocess_metrics", _sizes))
def test_as_released(folder: Path, case: str):
    stored = io(folder)
    if case == "preprocessed":
        raw = stored["raw_image"]
        filled = fill_up(normalised(raw, *_constants(raw, stored[case])), stored[case].shape[-1])
        return near(filled, stored[case], CHAIN_TOLERANCE)  # values are up to 2000, and the constants recovered
    height, width, out_height, out_width = (int(side) for side in re.findall(r"\d+", case))
    size = int(re.search(r"image_size (\d+)", config(folder)["source"])[1])
    full = full_masks(stored["low_res"], valid_size=(height, width), output_size=(out_height, out_width), size=size)
    near(full, stored[case])


def test_a_picture_keeps_its_shape_and_is_filled_up_with_zeros():
    picture = np.full((30, 60, 3), 255, np.uint8)
    pixels, valid = sam_pixels(picture, size=40)
    assert (tuple(pixels.shape), valid) == ((3, 40, 40), (20, 40))
    assert torch.equal(pixels[:, 20:], torch.zeros(3, 20, 40))
    near(pixels[:, 0, 0], (255 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375]))


def test_a_picture_of_the_inputs_size_is_only_normalised():
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    pixels, valid = sam_pixels(picture, size=40)
    assert valid == (40, 30)
    near(pixels[:, :, :30], normalised(torch.from_numpy(picture).float().permute(2, 0, 1)))


def test_thin_pictures_keep_a_pixel():
    assert scaled_size(5000, 1) == (1024, 1)


def test_what_is_no_picture_or_does_not_fit_is_refused():
    with pytest.raises(InputError, match="expected \\(height, width, 3\\) of uint8 RGB"):
        sam_pixels(np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="50 x 20 does not fit into 40 x 40"):
        fill_up(torch.zeros(3, 50, 20), 40)
    with pytest.raises(InputError, match="part is 0 x 5 of an input of 64 x 64"):
        full_masks(torch.zeros(1, 1, 16, 16), valid_size=(0, 5), output_size=(9, 9), size=64)

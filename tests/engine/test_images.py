"""Pictures of every mode become RGB; what cannot be read is refused in one line; masks come back as written."""

import numpy as np
import pytest
from PIL import Image

from leanseg.engine.images import read_image, read_mask, replacing, write_mask_png
from leanseg.errors import InputError


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_colours_are_kept(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)
    assert np.array_equal(read_image(str(tmp_path / "a.png")), pixels)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")
    assert upright.shape == (8, 4, 3)
    assert upright[0, 3].tolist() == [255, 255, 255] and upright.sum() == 3 * 255


def test_transparency_is_flattened_on_white(tmp_path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = [255, 0, 128]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    opaque, clear, half = read_image(tmp_path / "a.png")[0].tolist()
    assert opaque == [200, 0, 0] and clear == [255, 255, 255]
    assert abs(half[0] - 227) <= 1 and abs(half[1] - 127) <= 1


def test_palette_with_a_transparent_entry(tmp_path):
    picture = Image.frombytes("P", (2, 1), b"\x00\x01")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png")[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, dtype):
    grey = np.array([[0, 257, 65535, 32896]], dtype=dtype)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0].tolist() == [[0] * 3, [1] * 3, [255] * 3, [128] * 3]


def test_grey_bilevel_and_cmyk(tmp_path):
    Image.fromarray(np.array([[7, 9]], dtype=np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0].tolist() == [[7] * 3, [9] * 3]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bilevel.png")
    assert read_image(tmp_path / "bilevel.png")[0].tolist() == [[255] * 3, [0] * 3]
    Image.new("CMYK", (2, 2), (0, 0, 0, 255)).save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg").max() < 5


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="floating-point values") as error:
        read_image(tmp_path / "a.tif")
    one_line(error)


def test_unreadable_pictures_are_refused_in_one_line(tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "header.png").write_bytes(content[:20])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no picture")
    expected = {
        "cut.png": "truncated or damaged",
        "header.png": "header.png",
        "empty.png": "not a picture",
        "text.jpg": "not a picture",
        "absent.png": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message) as error:
            read_image(tmp_path / name)
        assert name in one_line(error)


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.eps").read_bytes())
    for name in ("a.eps", "a.png"):
        with pytest.raises(InputError, match="not a picture that can be read"):
            read_image(tmp_path / name)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"too large: 10000 x 10000 = 100\.0 megapixels") as error:
        read_image(tmp_path / "bomb.png")
    one_line(error)
    Image.new("1", (17_000, 2)).save(tmp_path / "long.png")
    with pytest.raises(InputError, match="16384 per side"):
        read_image(tmp_path / "long.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb400.png")
    with pytest.raises(InputError, match="too large"):
        read_image(tmp_path / "bomb400.png")


def test_masks_come_back_as_written(tmp_path, rng):
    mask = rng.random((9, 5)) > 0.5
    write_mask_png(tmp_path / "deep" / "mask.png", mask)
    stored = Image.open(tmp_path / "deep" / "mask.png")
    assert stored.mode == "L" and np.array_equal(np.array(stored), mask.astype(np.uint8) * 255)


def test_masks_are_read_from_one_colour_on_black(tmp_path, rng):
    mask = rng.random((5, 7)) < 0.5
    write_mask_png(tmp_path / "grey.png", mask)
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "ones.png")
    Image.fromarray((mask[:, :, None] * [0, 90, 200]).astype(np.uint8)).save(tmp_path / "blue.png")
    for name in ("grey.png", "ones.png", "blue.png"):
        assert np.array_equal(read_mask(tmp_path / name), mask)
    for whole in (np.zeros_like(mask), np.ones_like(mask)):
        assert np.array_equal(read_mask(write_mask_png(tmp_path / "whole.png", whole)), whole)
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).save(tmp_path / "numbers.png")
    with pytest.raises(InputError, match=r"numbers\.png is no mask: it holds several colours; expected one"):
        read_mask(tmp_path / "numbers.png")


def test_masks_of_a_wrong_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"mask of shape \(2, 2, 1\)"):
        write_mask_png(tmp_path / "a.png", np.zeros((2, 2, 1), dtype=bool))
    with pytest.raises(InputError, match="expected bool"):
        write_mask_png(tmp_path / "a.png", np.zeros((2, 2), dtype=np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_stays(tmp_path):
    (tmp_path / "a.png").write_bytes(b"before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"before"

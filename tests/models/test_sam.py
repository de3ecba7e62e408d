"""SAM's configuration, the parts' shapes and refusals, and its weight files, hostile ones included."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam

from leanseg.errors import InputError, WeightsError
from leanseg.models.sam.config import SIZES, SamConfig
from leanseg.models.sam.image_encoder import from_windows, relative_table, to_windows
from leanseg.models.sam.model import Sam
from leanseg.models.sam.weights import load_sam


@pytest.mark.parametrize(
    ("size", "parameters"), [("b", 89_670_912), ("l", 308_278_272), ("h", 637_026_048)], ids=["b", "l", "h"]
)
def test_released_sizes_have_the_released_number_of_parameters(size: str, parameters: int):
    with torch.device("meta"):
        sam = Sam(SamConfig.named(size))
    counted = {name: sum(each.numel() for each in part.parameters()) for name, part in sam.named_children()}
    assert counted == {"image_encoder": parameters, "prompt_encoder": 6_220, "mask_decoder": 4_058_340}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"heads": True}, "heads is True"),
        ({"image_size": 57}, "image_size is 57; expected a multiple of the patch size 8"),
        ({"image_size": 8192}, "at most 4096"),
        ({"image_size": 81 * 8}, "648 in patches of 8 is a grid of 81 x 81 tokens; expected at most 80 x 80"),
        ({"image_size": 4096, "patch_size": 16}, "is a grid of 256 x 256 tokens; expected at most 80 x 80"),
        ({"window": 15}, "window is 15 on a grid of 7 x 7 tokens; expected at most 14"),
        ({"image_size": 160, "window": 21}, "window is 21 on a grid of 20 x 20 tokens; expected at most 20"),
        ({"width": 25}, "image encoder is 25 wide; expected a multiple of its 2 parts"),
        ({"dim": 18}, "decoder, at half its width, is 18 wide"),
        ({"dim": 20}, "dim is 20 and mask_channels 16"),
        ({"global_blocks": (1, 4)}, r"global_blocks hold \[4\]"),
    ],
)
def test_sizes_that_make_no_model_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(WeightsError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize("changes", [{"window": 14}, {"image_size": 80 * 8, "window": 80}])
def test_the_released_window_fits_any_grid_and_a_grid_may_be_larger_than_the_released(changes: dict[str, Any]):
    assert tiny_config(**changes).window == changes["window"]


def test_an_unknown_size_lists_the_known_ones():
    with pytest.raises(WeightsError, match=r"unknown SAM size 'huge'.*Known: b, h, l"):
        SamConfig.named("huge")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (7, 5), (6, 9)])
def test_windows_go_back_to_where_they_were_cut(height: int, width: int):
    features = torch.randn(2, height, width, 4)
    windows = to_windows(features, 3)
    assert windows.shape == (2 * -(-height // 3) * -(-width // 3), 3, 3, 4)
    assert torch.equal(from_windows(windows, 3, height, width), features)


def test_a_table_of_another_length_is_stretched():
    table = relative_table(torch.arange(3.0)[:, None], 3)
    assert table.shape == (3, 3, 1)
    assert table[0, 2].item() == 0.0
    assert table[2, 0].item() == 2.0
    assert table[1, 1].item() == pytest.approx(1.0)


def test_pixels_of_another_size_are_refused():
    with pytest.raises(InputError, match="pixels are 40 x 56; expected 56 x 56"):
        tiny_sam().image_encoder(torch.zeros(1, 3, 40, 56))


@torch.inference_mode()
def test_half_precision_passes_the_neck_in_float32():
    sam = tiny_sam()
    tokens = sam.image_encoder.embed(pixels(sam)).half()
    given = Sam(sam.config)
    given.load_state_dict(sam.state_dict())
    embedding = given.half().image_encoder.to_embedding(tokens)
    assert embedding.dtype == torch.float16
    torch.testing.assert_close(embedding.float(), sam.image_encoder.to_embedding(tokens.float()), atol=5e-3, rtol=5e-3)


@torch.inference_mode()
def test_masks_come_one_per_row_and_none_for_no_row():
    sam = tiny_sam()
    image = sam.image_encoder(pixels(sam))
    prompts = torch.randn(3, 1, 16)
    masks, qualities = sam.masks(image, prompts)
    assert (masks.shape, qualities.shape) == ((3, 1, 28, 28), (3, 1))
    alone, _ = sam.masks(image, prompts[1:2])
    torch.testing.assert_close(masks[1:2], alone, atol=1e-5, rtol=1e-5)
    none, no_qualities = sam.masks(image, prompts[:0])
    assert (none.shape, no_qualities.shape) == ((0, 1, 28, 28), (0, 1))


def test_images_and_prompts_that_do_not_pair_up_are_refused():
    sam = tiny_sam()
    with pytest.raises(InputError, match="2 image embeddings came with 3 prompts"):
        sam.masks(torch.zeros(2, 16, 7, 7), torch.zeros(3, 1, 16))
    with pytest.raises(InputError, match="the prompts come for no rows"):
        sam.prompt_encoder()
    with pytest.raises(InputError, match=r"the prompts come for \[2, 3\] rows"):
        sam.prompt_encoder(boxes=torch.zeros(2, 4), embeddings=torch.zeros(3, 1, 16))


def _saved(folder: Path, ending: str, prefix: str = "") -> Path:
    state = {prefix + name: tensor.contiguous() for name, tensor in tiny_sam().state_dict().items()}
    path = folder / f"weights{ending}"
    save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("prefix", ["", "model.visual_model."], ids=["sam", "lisa"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_come_back_exactly(tmp_path: Path, ending: str, prefix: str):
    path = _saved(tmp_path, ending, prefix)
    loaded = load_sam(path, tiny_config())
    path.write_bytes(b"")  # no parameter is a window into the file
    assert not loaded.training
    for name, tensor in tiny_sam().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_folder_of_safetensors_and_other_types(tmp_path: Path):
    _saved(tmp_path, ".safetensors").rename(tmp_path / "model.safetensors")
    loaded = load_sam(tmp_path, tiny_config(), dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.bfloat16}


def test_released_sizes_are_told_by_their_width(tmp_path: Path):
    path = tmp_path / "sam.safetensors"
    save_file({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}, path)
    with torch.device("meta"):
        names = len(Sam(SIZES["b"]).state_dict())
    with pytest.raises(WeightsError, match=f"lacks {names - 1} of {names} tensors.*blocks.11.mlp"):
        load_sam(path)


class _Payload:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import tests.models.test_sam as t; t._Payload.ran = True",))


def _refused(path: Path, config: SamConfig | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_sam(path, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_holds_a_program_is_refused_and_not_run(tmp_path: Path):
    torch.save({"image_encoder.pos_embed": _Payload()}, tmp_path / "sam.pth")
    assert "holds more than weights" in _refused(tmp_path / "sam.pth")
    assert not _Payload.ran


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list; expected tensors by name"),
        ({1: torch.zeros(2)}, "holds a dict; expected tensors by name"),
        ({"a": "text", "b": torch.zeros(2).to_sparse()}, r"holds 2 entries that are no plain tensors \(a, b\)"),
        ({"a": torch.zeros(2)}, "holds 0 tensors named image_encoder.pos_embed"),
        ({f"{p}image_encoder.pos_embed": torch.zeros(2) for p in "xy"}, "holds 2 tensors named"),
        ({"image_encoder.pos_embed": torch.zeros(1, 7, 7, 24)}, "an image encoder 24 wide; expected a released size"),
        ({"image_encoder.pos_embed": torch.zeros(())}, "an image encoder 0 wide"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: Any, message: str):
    torch.save(content, tmp_path / "sam.pth")
    with pytest.raises(WeightsError, match=message):
        load_sam(tmp_path / "sam.pth")


def test_damaged_and_foreign_files_are_refused(tmp_path: Path):
    whole = _saved(tmp_path, ".pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "is no whole file of torch.save" in _refused(tmp_path / "cut.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert "expected its zip format" in _refused(tmp_path / "old.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    assert "cannot be read" in _refused(tmp_path / "other.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1_000_000))
    assert "compressed entries" in _refused(tmp_path / "bomb.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 20)
    assert "no whole safetensors file" in _refused(tmp_path / "cut.safetensors")
    (tmp_path / "sam.onnx").write_bytes(b"")
    assert "ends with .onnx; expected .pth" in _refused(tmp_path / "sam.onnx")
    assert "there is no file" in _refused(tmp_path / "absent.pth")


def test_tensors_of_another_shape_or_type_are_named(tmp_path: Path):
    state = {**tiny_sam().state_dict(), "image_encoder.neck.0.weight": torch.zeros(5, 3)}
    torch.save(state, tmp_path / "sam.pth")
    message = _refused(tmp_path / "sam.pth", tiny_config())
    assert "image_encoder.neck.0.weight [5, 3] instead of [16, 24, 1, 1]" in message
    whole = {name: tensor.long() for name, tensor in tiny_sam().state_dict().items()}
    torch.save(whole, tmp_path / "sam.pth")
    assert "as whole numbers" in _refused(tmp_path / "sam.pth", tiny_config())


def test_tensors_that_nobody_needs_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    state = {**tiny_sam().state_dict(), "mask_decoder.extra": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "sam.pth")
    with caplog.at_level(logging.WARNING):
        load_sam(tmp_path / "sam.pth", tiny_config())
    assert "holds 1 tensors that are not used: mask_decoder.extra" in caplog.text

from __future__ import annotations

import pytest
import torch
from tests.models.golden_folders import close, config, golden, part, suffixes, tensors

from leanseg.errors import WeightsError
from leanseg.models.instructseg.swin import Swin, from_released, relative_position_index, to_released

LEVELS = ("res2", "res3", "res4", "res5")


def tiny() -> Swin:
    torch.manual_seed(0)
    return Swin(embed_dim=8, depths=(1, 2, 1, 1), n_heads=(1, 2, 2, 4), window_size=3).eval()


def from_fixture(folder) -> Swin:
    sizes = config(folder)
    model = Swin(
        embed_dim=sizes["embed_dim"],
        depths=sizes["depths"],
        n_heads=sizes["num_heads"],
        window_size=sizes["window_size"],
        mlp_ratio=float(sizes.get("mlp_ratio", 4)),
    )
    model.load_state_dict(from_released(tensors(folder, "state_dict")))
    return model.eval()


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("swin", lambda folder: suffixes(folder, "x")))
def test_feature_maps_equal_the_reference(folder, key):
    prefix = key.removeprefix("x").lstrip("_")
    expected = tensors(folder, "outputs")
    with torch.inference_mode():
        features = from_fixture(folder)(tensors(folder, "inputs")[key])
    for name, actual in zip(LEVELS, features, strict=True):
        close(actual, expected[f"{prefix}_{name}" if prefix else name])


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("swin", lambda folder: ("names",)))
def test_released_state_dict_survives_loading_and_saving(folder, key):
    released = tensors(folder, "state_dict")
    saved = to_released(from_fixture(folder).state_dict())
    assert saved.keys() == released.keys()
    for name, tensor in released.items():
        assert saved[name].dtype == tensor.dtype and torch.equal(saved[name], tensor), name


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("e2e", lambda folder: ("swin",)))
def test_feature_maps_inside_the_whole_model(folder, key):
    sizes = config(folder)["swin"]
    model = Swin(
        embed_dim=sizes["embed_dim"],
        depths=sizes["depths"],
        n_heads=sizes["num_heads"],
        window_size=sizes["window_size"],
    ).eval()
    model.load_state_dict(from_released(part(tensors(folder, "state_dict"), "model.vision_tower_mask.")))
    expected = tensors(folder, "outputs")
    with torch.inference_mode():
        features = model(tensors(folder, "inputs")["images"])
    for name, actual in zip(LEVELS, features, strict=True):
        close(actual, expected[f"swin_{name}"])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 70), (5, 131), (1, 1)])
def test_maps_halve_and_round_up(height, width):
    with torch.inference_mode():
        features = tiny()(torch.randn(2, 3, height, width))
    sizes = [(-(-height // 4), -(-width // 4))]
    for _ in range(3):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    assert [tuple(level.shape) for level in features] == [(2, 8 * 2**i, *size) for i, size in enumerate(sizes)]
    assert all(level.isfinite().all() for level in features)


def test_pictures_of_a_batch_are_independent():
    model, pixels = tiny(), torch.randn(3, 3, 40, 52)
    with torch.inference_mode():
        together = model(pixels)
        alone = model(pixels[1:2])
    for batch, single in zip(together, alone, strict=True):
        close(batch[1:2], single)


def test_every_parameter_takes_part():
    model = tiny().train()
    sum(level.square().mean() for level in model(torch.randn(1, 3, 40, 40))).backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def test_training_has_no_randomness_by_default():
    model, pixels = tiny(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        calm = model(pixels).res5
        assert torch.equal(model.train()(pixels).res5, calm)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(dtype):
    model, pixels = tiny(), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        exact = model(pixels).res5
        rounded = model.to(dtype)(pixels.to(dtype)).res5
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).abs().mean() < 0.05


def test_autocast():
    model, pixels = tiny(), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        exact = model(pixels).res5
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(pixels).res5
    assert (rounded.float() - exact).abs().mean() < 0.05


def test_relative_position_index_counts_every_offset():
    index = relative_position_index(window_size=4)
    assert index.shape == (16, 16) and index.dtype == torch.int64
    assert index.diagonal().unique().tolist() == [24]  # no offset is the middle of the 7 x 7 table
    assert index.unique().tolist() == list(range(49))
    assert (index + index.T == 48).all()


def test_a_model_from_the_meta_device_works_once_its_buffers_are_restored():
    source, pixels = tiny(), torch.randn(1, 3, 32, 32)
    with torch.device("meta"):
        model = tiny()
    model.load_state_dict(source.state_dict(), assign=True)
    model.restore_buffers(torch.device("cpu"))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    with torch.inference_mode():
        assert torch.equal(model(pixels).res5, source(pixels).res5)


def test_foreign_names_are_refused():
    with pytest.raises(WeightsError, match=r"'layers\.0\.blocks\.0\.attn\.bias' is no name of a released Swin"):
        from_released({"layers.0.blocks.0.attn.bias": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"without a prefix"):
        from_released({"model.vision_tower_mask.norm0.weight": torch.zeros(1)})
    for name in ("norm0.weight", "backbone.swin.layernorm.weight", "backbone.hidden_states_norms.stage5.bias"):
        with pytest.raises(WeightsError, match=r"is no name of a Swin state dict; pass"):
            to_released({name: torch.zeros(1)})


def test_four_stages_are_needed():
    with pytest.raises(WeightsError, match=r"depths \[2, 2\] and heads \[1, 2, 4, 8\]; expected four numbers each"):
        Swin(embed_dim=8, depths=(2, 2), n_heads=(1, 2, 4, 8), window_size=3)

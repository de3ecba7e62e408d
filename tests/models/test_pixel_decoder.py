from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.models.golden_folders import close, config, golden, suffixes, tensors

from leanseg.errors import WeightsError
from leanseg.models.instructseg.pixel_decoder import (
    DeformableAttention,
    PixelDecoder,
    PixelFeatures,
    SinePosition,
    deformable_attention,
    pixel_centres,
)

CPU = torch.device("cpu")
SIZES = [(3, 4), (5, 7), (1, 9)]


def tiny() -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(in_channels=(4, 8, 12, 16), dim=32, mask_dim=16, n_layers=2, n_heads=4, ffn_dim=24).eval()


def maps(batch: int = 2, height: int = 24, width: int = 40) -> list[torch.Tensor]:
    return [torch.randn(batch, 4 * (i + 1), height >> i, width >> i) for i in range(4)]


def samples(batch: int = 2, n_queries: int = 6, dtype: torch.dtype = torch.float64):
    """Random values, locations (some far outside) and weights for 3 heads of width 2."""
    generator = torch.Generator().manual_seed(1)
    n_tokens = sum(h * w for h, w in SIZES)
    value = torch.randn(batch, n_tokens, 3, 2, generator=generator, dtype=dtype)
    locations = torch.rand(batch, n_queries, 3, len(SIZES), 4, 2, generator=generator, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(batch, n_queries, 3, len(SIZES), 4, generator=generator, dtype=dtype)
    return value, locations, weights


def by_grid_sample(value, sizes, locations, weights):
    """The textbook form: sample every level with zero padding, then sum with the weights."""
    batch, _, n_heads, width = value.shape
    total = torch.zeros(batch, locations.shape[1], n_heads, width, dtype=value.dtype)
    for level, tokens in enumerate(value.split([h * w for h, w in sizes], dim=1)):
        for head in range(n_heads):
            plane = tokens[:, :, head].transpose(1, 2).unflatten(2, sizes[level])
            grid = locations[:, :, head, level] * 2 - 1
            sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            total[:, :, head] += (sampled * weights[:, None, :, head, level]).sum(-1).transpose(1, 2)
    return total.flatten(2)


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("position_sine", lambda folder: suffixes(folder, "x")))
def test_sine_positions_equal_the_reference(folder, key):
    sizes = config(folder)
    position = SinePosition(
        n_features=sizes["num_pos_feats"], temperature=float(sizes["temperature"]), eps=sizes["eps"]
    )
    pixels = tensors(folder, "inputs")[key]
    expected = tensors(folder, "outputs")[key.replace("x", "pos", 1)]
    close(position(tuple(pixels.shape[-2:]), CPU, torch.float32).expand_as(expected), expected)


def attention_of(folder) -> DeformableAttention:
    sizes = config(folder)
    return DeformableAttention(
        dim=sizes["d_model"], n_heads=sizes["n_heads"], n_points=sizes["n_points"], n_levels=sizes["n_levels"]
    )


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("ms_deform_attn", lambda folder: ("core", "module", "start")))
def test_deformable_attention_equals_the_reference(folder, key):
    given, expected, module = tensors(folder, "inputs"), tensors(folder, "outputs"), attention_of(folder)
    sizes = [(h, w) for h, w in given["spatial_shapes"].tolist()]
    if key == "core":
        close(
            deformable_attention(given["core_value"], sizes, given["core_loc"], given["core_w"]), expected["core_out"]
        )
    elif key == "module":
        module.load_state_dict(tensors(folder, "state_dict"))
        with torch.inference_mode():
            close(module(given["query"], given["reference_points"], given["value_flat"], sizes), expected["out"])
    else:
        close(module.sampling_offsets.bias.detach(), expected["init_sampling_offsets_bias"])


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("pixel_decoder"))
def test_pixel_decoder_equals_the_reference(folder, key):
    sizes, expected = config(folder), tensors(folder, "outputs")
    model = PixelDecoder(
        in_channels=sizes["in_channels"],
        dim=sizes["conv_dim"],
        mask_dim=sizes["mask_dim"],
        n_layers=sizes["enc_layers"],
        n_heads=sizes["nheads"],
        ffn_dim=sizes["dim_feedforward"],
        n_points=sizes["n_points"],
    )
    model.load_state_dict(tensors(folder, "state_dict"))
    with torch.inference_mode():
        mask_features, multi_scale = model(**tensors(folder, "inputs"))
    close(mask_features, expected["mask_features"])
    close(multi_scale[0], expected["encoder_features"])
    for level, actual in enumerate(multi_scale):
        close(actual, expected[f"ms{level}"])


def test_deformable_core_equals_grid_sampling():
    value, locations, weights = samples()
    close(deformable_attention(value, SIZES, locations, weights), by_grid_sample(value, SIZES, locations, weights))


def test_deformable_core_gradients_equal_those_of_grid_sampling():
    leaves = [tensor.requires_grad_() for tensor in samples()]
    direction = torch.randn(2, 6, 6, dtype=torch.float64)
    gradients = []
    for core in (deformable_attention, by_grid_sample):
        value, locations, weights = leaves
        gradients.append(torch.autograd.grad((core(value, SIZES, locations, weights) * direction).sum(), leaves))
    for ours, theirs in zip(*gradients, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("place", [-1e30, -5.0, 6.0, 1e30])
def test_locations_far_outside_count_as_zero(place):
    value, locations, weights = samples(dtype=torch.float32)
    assert not deformable_attention(value, SIZES, torch.full_like(locations, place), weights).any()


def test_a_pixel_centre_reads_that_pixel():
    value, _, _ = samples(batch=1, dtype=torch.float32)
    centres = pixel_centres(SIZES, CPU)
    n_tokens = value.shape[1]
    locations = centres[:, :, None, :, None].expand(-1, -1, 3, -1, 1, -1).contiguous()
    own_level = torch.repeat_interleave(torch.arange(3), torch.tensor([h * w for h, w in SIZES]))
    weights = F.one_hot(own_level, 3).float()[None, :, None, :, None].expand(1, n_tokens, 3, 3, 1).contiguous()
    close(deformable_attention(value, SIZES, locations, weights), value.flatten(2))


def test_sine_positions_are_kept_per_size_and_serve_training_after_inference():
    position = SinePosition(n_features=8)
    with torch.inference_mode():
        first = position((3, 5), CPU, torch.float32)
    assert position((3, 5), CPU, torch.float32) is first
    assert not first.is_inference()
    for height in range(1, 60):
        position((height, 2), CPU, torch.float32)
    assert len(position._cache) <= SinePosition.CACHED_SIZES
    assert not position.state_dict()
    assert position((3, 5), CPU, torch.bfloat16).dtype == torch.bfloat16


def test_shapes_of_odd_maps():
    given = [torch.randn(1, 4, 9, 13), torch.randn(1, 8, 5, 7), torch.randn(1, 12, 3, 4), torch.randn(1, 16, 2, 2)]
    with torch.inference_mode():
        mask_features, multi_scale = tiny()(*given)
    assert mask_features.shape == (1, 16, 9, 13)
    assert [tuple(level.shape) for level in multi_scale] == [(1, 32, 2, 2), (1, 32, 3, 4), (1, 32, 5, 7)]


def test_frames_of_a_batch_are_independent():
    model, given = tiny(), maps(batch=3)
    with torch.inference_mode():
        mask_features, multi_scale = model(*given)
        alone_features, alone_scale = model(*(level[2:] for level in given))
    close(mask_features[2:], alone_features)
    for batch, single in zip(multi_scale, alone_scale, strict=True):
        close(batch[2:], single)


def test_every_parameter_gets_a_gradient():
    model = tiny().train()
    mask_features, multi_scale = model(*maps())
    (mask_features.square().mean() + sum(level.square().mean() for level in multi_scale)).backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_stays_near_float32(autocast):
    model, given = tiny(), maps()
    with torch.inference_mode():
        exact, _ = model(*given)
        if autocast:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rounded, _ = model(*given)
        else:
            rounded, _ = model.to(torch.bfloat16)(*(level.bfloat16() for level in given))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().mean() < 0.03 * exact.abs().mean() + 0.01


def test_rows_pick_frames():
    features = PixelFeatures(
        torch.randn(3, 4, 2, 2), tuple(torch.randn(3, 4, 2**i, 2**i) for i in range(3)), torch.randn(3, 4, 8, 8)
    )
    picked = features.rows(torch.tensor([2, 0, 2, 2]))
    assert (features.n_frames, picked.n_frames) == (3, 4)
    assert torch.equal(picked.res5[1], features.res5[0])
    assert torch.equal(picked.mask_features[3], features.mask_features[2])
    assert all(torch.equal(new[0], old[2]) for new, old in zip(picked.multi_scale, features.multi_scale, strict=True))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(WeightsError, match=r"channels \[4, 8\]; expected four, of res2, res3, res4, res5"):
        PixelDecoder(in_channels=(4, 8), dim=32, mask_dim=16, n_layers=1, n_heads=4, ffn_dim=24)
    with pytest.raises(WeightsError, match=r"40 channels wide; expected a multiple of 32"):
        PixelDecoder(in_channels=(4, 8, 12, 16), dim=40, mask_dim=16, n_layers=1, n_heads=4, ffn_dim=24)
    with pytest.raises(WeightsError, match=r"32 channels do not split into 5 attention heads; use a divisor of 32"):
        DeformableAttention(dim=32, n_heads=5)

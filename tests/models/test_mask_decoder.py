from __future__ import annotations

import pytest
import torch
from tests.models.golden_folders import close, config, golden, part, same_mask, tensors
from torch import nn

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.mask_decoder import Attention, MaskDecoder, attention_region
from leanseg.models.instructseg.pixel_decoder import PixelDecoder, PixelFeatures

N_QUERIES = 5


def tiny(n_layers: int = 4) -> MaskDecoder:
    torch.manual_seed(0)
    return MaskDecoder(dim=32, mask_dim=16, n_queries=N_QUERIES, n_layers=n_layers, n_heads=4, ffn_dim=24).eval()


def features(n_frames: int = 2) -> PixelFeatures:
    generator = torch.Generator().manual_seed(1)
    levels = tuple(torch.randn(n_frames, 32, 3 * 2**i, 2 * 2**i, generator=generator) for i in range(3))
    return PixelFeatures(torch.zeros(n_frames, 8, 3, 2), levels, torch.randn(n_frames, 16, 24, 16, generator=generator))


def questions(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, N_QUERIES, 32, generator=generator), torch.randn(batch, 1, 32, generator=generator)


def from_fixture(folder) -> MaskDecoder:
    sizes = config(folder)
    model = MaskDecoder(
        dim=sizes["hidden_dim"],
        mask_dim=sizes["mask_dim"],
        n_queries=sizes["num_queries"],
        n_layers=sizes["dec_layers"],
        n_heads=sizes["nheads"],
        ffn_dim=sizes["dim_feedforward"],
    )
    model.load_state_dict(tensors(folder, "state_dict"))
    return model.eval()


def given(folder) -> tuple[torch.Tensor, torch.Tensor, PixelFeatures]:
    inputs = tensors(folder, "inputs")
    pixel = PixelFeatures(inputs["x0"], (inputs["x0"], inputs["x1"], inputs["x2"]), inputs["mask_features"])
    return inputs["seg_query"], inputs["SEG_embedding"], pixel


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("transformer_decoder", lambda folder: ("training", "inference")))
def test_predictions_equal_the_reference(folder, key):
    expected = tensors(folder, "outputs")
    with torch.inference_mode():
        predictions = from_fixture(folder)(*given(folder), last_only=key == "inference")
    names = [f"aux{i}_" for i in range(config(folder)["dec_layers"])] if key == "training" else []
    for prefix, prediction in zip([*names, ""], predictions, strict=True):
        close(prediction.score_logits.unsqueeze(2), expected[f"{prefix}pred_SEG_logits"])
        close(prediction.mask_logits, expected[f"{prefix}pred_masks"])
        same_mask(prediction.mask_logits > 0, expected[f"{prefix}pred_masks"] > 0)


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("transformer_decoder", lambda folder: ("empty_masks",)))
def test_empty_masks_are_counted_as_in_the_reference(folder, key):
    sizes, (queries, score_embedding, pixel) = config(folder), given(folder)
    with torch.inference_mode():
        predictions = from_fixture(folder)(queries, score_embedding, pixel)
    counts = []
    for index, prediction in enumerate(predictions):
        size = pixel.multi_scale[index % 3].shape[-2:]
        resized = nn.functional.interpolate(prediction.mask_logits, size=size, mode="bilinear", align_corners=False)
        empty = (resized.sigmoid() < 0.5).flatten(2).all(-1)
        counts.append(int(empty.sum()) * sizes["nheads"])
    assert counts == sizes["fully_masked_rows_per_prediction"]


def e2e_cases(folder):
    return config(folder)["cases"]


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "key"), golden("e2e", e2e_cases))
def test_masks_inside_the_whole_model(folder, key):
    sizes, state, expected = config(folder)["mask_former"], tensors(folder, "state_dict"), tensors(folder, "outputs")
    maps = [expected[f"swin_res{i}"] for i in (2, 3, 4, 5)]
    pixel_decoder = PixelDecoder(
        in_channels=[level.shape[1] for level in maps],
        dim=sizes["conv_dim"],
        mask_dim=sizes["mask_dim"],
        n_layers=sizes["pixel_enc_layers"],
        n_heads=sizes["nheads"],
        ffn_dim=sizes["pixel_ffn"],
    )
    decoder = MaskDecoder(
        dim=sizes["hidden_dim"],
        mask_dim=sizes["mask_dim"],
        n_queries=sizes["num_queries"],
        n_layers=sizes["decoder_layers"],
        n_heads=sizes["nheads"],
        ffn_dim=sizes["dim_feedforward"],
    )
    pixel_decoder.load_state_dict(part(state, "pixel_decoder."))
    decoder.load_state_dict(part(state, "predictor."))
    with torch.inference_mode():
        mask_features, (coarse, middle, fine) = pixel_decoder(*maps)
        pixel = PixelFeatures(maps[3], (coarse, middle, fine), mask_features)
        queries, score_embedding = expected[f"{key}.seg_query_proj"], expected[f"{key}.SEG_embedding"]
        prediction = decoder(queries, score_embedding, pixel, last_only=True)[-1]
    close(prediction.score_logits.unsqueeze(2), expected[f"{key}.pred_SEG_logits"], absolute=1e-4)
    close(prediction.mask_logits, expected[f"{key}.pred_masks"], absolute=1e-4)


def test_attention_equals_the_one_of_torch():
    torch.manual_seed(3)
    ours, theirs = Attention(dim=32, n_heads=4), nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(3, 5, 32), torch.randn(3, 7, 32), torch.randn(3, 7, 32)
    allowed = torch.rand(3, 5, 7) > 0.4
    allowed[..., 0] = True
    with torch.inference_mode():
        expected, _ = theirs(query, key, value, attn_mask=~allowed.repeat_interleave(4, dim=0))
        close(ours(query, key, value, allowed), expected)
        close(ours(query, key, value), theirs(query, key, value)[0])


def test_only_the_answer_equals_the_last_of_all_predictions():
    model, pixel, (queries, score_embedding) = tiny(), features(), questions()
    with torch.inference_mode():
        every = model(queries, score_embedding, pixel)
        (answer,) = model(queries, score_embedding, pixel, last_only=True)
    assert len(every) == 5
    close(answer.mask_logits, every[-1].mask_logits)
    close(answer.score_logits, every[-1].score_logits)


@pytest.mark.parametrize("last_only", [True, False])
def test_instructions_that_share_a_frame_equal_copies_of_the_frame(last_only):
    model, pixel, (queries, score_embedding) = tiny(), features(2), questions(6)
    with torch.inference_mode():
        shared = model(queries, score_embedding, pixel, last_only=last_only)[-1]
        copied = model(queries, score_embedding, pixel.rows(torch.tensor([0, 0, 0, 1, 1, 1])), last_only=last_only)[-1]
        alone = model(queries[4:5], score_embedding[4:5], pixel.rows(torch.tensor([1])), last_only=last_only)[-1]
    close(shared.mask_logits, copied.mask_logits)
    close(shared.score_logits, copied.score_logits)
    close(shared.mask_logits[4:5], alone.mask_logits)


def test_a_query_looks_at_its_mask_or_everywhere():
    logits = torch.tensor([[[-1.0, 2.0, -3.0], [-1.0, -2.0, -3.0], [0.0, -1.0, 1.0]]])
    assert attention_region(logits).tolist() == [[[False, True, False], [True, True, True], [True, False, True]]]


def test_masks_empty_everywhere_stay_finite():
    model, (queries, score_embedding) = tiny(), questions()
    pixel = features()
    dark = PixelFeatures(pixel.res5, pixel.multi_scale, torch.zeros_like(pixel.mask_features))
    with torch.no_grad():
        model.mask_embed.layers[-1].weight.zero_()
        model.mask_embed.layers[-1].bias.fill_(-1)
        dark.mask_features.fill_(1)
        predictions = model(queries, score_embedding, dark)
    assert all((prediction.mask_logits < 0).all() for prediction in predictions)
    assert all(prediction.score_logits.isfinite().all() for prediction in predictions)


def test_the_score_is_a_dot_product_with_the_embedding():
    model, pixel, (queries, score_embedding) = tiny(), features(), questions()
    with torch.inference_mode():
        once = model(queries, score_embedding, pixel)[-1]
        twice = model(queries, 2 * score_embedding, pixel)[-1]
    close(twice.score_logits, 2 * once.score_logits)
    assert torch.equal(twice.mask_logits, once.mask_logits)


def test_all_predictions_train_every_parameter_in_use():
    model, pixel, (queries, score_embedding) = tiny().train(), features(), questions()
    queries.requires_grad_(), score_embedding.requires_grad_(), pixel.mask_features.requires_grad_()
    predictions = model(queries, score_embedding, pixel)
    sum(each.mask_logits.square().mean() + each.score_logits.square().mean() for each in predictions).backward()
    untrained = [name for name, each in model.named_parameters() if each.grad is None]
    assert untrained == ["query_feat.weight", "SEG_query_embed.weight"]
    assert not model.query_feat.weight.requires_grad and not model.SEG_query_embed.weight.requires_grad
    assert all(each.grad is not None for each in (queries, score_embedding, pixel.mask_features))


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_runs_and_stays_near_at_the_first_prediction(autocast):
    model, pixel, (queries, score_embedding) = tiny(), features(), questions()
    with torch.inference_mode():
        exact = model(queries, score_embedding, pixel)[0]
        if autocast:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rounded = model(queries, score_embedding, pixel)[0]
        else:
            levels = tuple(level.bfloat16() for level in pixel.multi_scale)
            low = PixelFeatures(pixel.res5.bfloat16(), levels, pixel.mask_features.bfloat16())
            rounded = model.to(torch.bfloat16)(queries.bfloat16(), score_embedding.bfloat16(), low)[0]
    assert rounded.mask_logits.dtype == torch.bfloat16
    assert (rounded.mask_logits.float() - exact.mask_logits).abs().mean() < 0.03 * exact.mask_logits.abs().mean()


def test_what_does_not_fit_is_refused():
    model, (queries, score_embedding) = tiny(), questions(3)
    with pytest.raises(InputError, match=r"got 4 queries; expected 5, as it was built"):
        model(queries[:, :4], score_embedding, features(3))
    with pytest.raises(InputError, match=r"3 instructions do not share 2 frames evenly; pick the frame of each with"):
        model(queries, score_embedding, features(2))
    with pytest.raises(WeightsError, match=r"32 channels do not split into 5 attention heads; use a divisor of 32"):
        Attention(dim=32, n_heads=5)

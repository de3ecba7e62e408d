from __future__ import annotations

import inspect

import pytest
import torch
from tests.golden_cases import arrays, chosen_cases
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from leanseg.core.merging import exact_schedule
from leanseg.errors import AttachError, BudgetError
from leanseg.hf.merging import attend, encode_with_merging

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
KINDS = {"siglip": (SiglipVisionConfig, SiglipVisionModel), "clip": (CLIPVisionConfig, CLIPVisionModel)}


def layers_of(kind="siglip", implementation="sdpa", **options):
    torch.manual_seed(0)
    config, model = KINDS[kind]
    made = model(config(**SMALL | options, image_size=28, patch_size=7, attn_implementation=implementation)).eval()
    for parameter in made.parameters():  # attention that is far from uniform
        parameter.requires_grad_(False)
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    tower = getattr(made, "vision_model", made)
    return tower.encoder.layers


def states(batch=2, n_tokens=17):
    return torch.randn(batch, n_tokens, 32, generator=torch.Generator().manual_seed(1))


def slow_layer(layer, tokens, r, first, proportional):
    """One layer on one row of [features, size, origin, members], by the definition: no batches, no gather, float64."""
    attention = layer.self_attn
    normed = torch.stack([layer.layer_norm1(token["x"]) for token in tokens])
    heads, width = attention.num_heads, attention.head_dim
    q, k, v = (p(normed).view(-1, heads, width) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    logits = torch.einsum("ihd,jhd->hij", q, k) * width**-0.5
    if proportional:
        logits = logits + torch.tensor([float(token["size"]) for token in tokens]).double().log()
    mixed = attention.out_proj(torch.einsum("hij,jhd->ihd", logits.softmax(-1), v).flatten(1))
    for token, change, key in zip(tokens, mixed, k.mean(1), strict=True):
        token["x"], token["key"] = token["x"] + change, key
    pairs = []
    for i in range(0, len(tokens), 2):
        if first and i == 0:
            continue
        alike = [torch.cosine_similarity(tokens[i]["key"], other["key"], dim=0) for other in tokens[1::2]]
        best = max(range(len(alike)), key=lambda j: alike[j])
        pairs.append((float(alike[best]), i, 2 * best + 1))
    pairs.sort(key=lambda pair: -pair[0])
    gone = {source: target for _, source, target in pairs[:r]}
    for source, target in gone.items():
        tokens[target].setdefault("merging", [dict(tokens[target])]).append(tokens[source])
    for token in tokens:
        parts = token.pop("merging", None)
        if parts:
            token["size"] = sum(part["size"] for part in parts)
            token["x"] = sum(part["x"] * part["size"] for part in parts) / token["size"]
            token["members"] = sorted(member for part in parts for member in part["members"])
    rest = [i for _, i, _ in pairs[r:]] if r else [i for i in range(len(tokens)) if i % 2 == 0]
    if first and r:
        rest = [0, *sorted(rest)]
    left = [*rest, *range(1, len(tokens), 2)] if r else range(len(tokens))
    tokens = [tokens[i] for i in left]
    for token in tokens:
        token["x"] = token["x"] + layer.mlp(layer.layer_norm2(token["x"])[None])[0]
    return tokens


def slow(layers, hidden, schedule, first=False, proportional=True):
    tokens = [{"x": x, "size": 1, "origin": i, "members": [i]} for i, x in enumerate(hidden)]
    for layer, r in zip(layers, schedule, strict=True):
        tokens = slow_layer(layer, tokens, r, first, proportional)
    return sorted(tokens, key=lambda token: token["origin"])


@pytest.mark.parametrize("proportional", [True, False])
@pytest.mark.parametrize(
    ("kind", "implementation", "schedule", "first"),
    [
        ("siglip", "sdpa", [4, 3, 2, 1], False),
        ("siglip", "eager", [0, 8, 0, 4], False),
        ("clip", "sdpa", [3, 3, 3, 0], True),
    ],
)
def test_it_is_what_the_definition_gives(kind, implementation, schedule, first, proportional):
    layers = layers_of(kind, implementation).double()
    hidden = states().double()
    features, selection = encode_with_merging(layers, hidden, schedule, class_token=first, proportional=proportional)
    for row in range(2):
        expected = slow(layers, hidden[row], schedule, first, proportional)
        assert selection.indices[row].tolist() == [token["origin"] for token in expected]
        groups = [(selection.owner[row] == slot).nonzero()[:, 0].tolist() for slot in range(selection.k)]
        assert groups == [token["members"] for token in expected]
        assert selection.sizes[row].tolist() == [token["size"] for token in expected]
        # Eager attention takes its softmax in float32.
        wanted = torch.stack([token["x"] for token in expected])
        torch.testing.assert_close(features[row], wanted, rtol=1e-4, atol=1e-5)
    assert selection.features is None


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_merges_it_is_the_plain_encoder_bit_for_bit(kind, implementation):
    layers = layers_of(kind, implementation)
    plain = hidden = states()
    for layer in layers:
        plain = layer(plain, None)
    features, selection = encode_with_merging(layers, hidden, [0] * 4)
    assert torch.equal(features, plain)
    assert selection.k == selection.n_tokens == 17 and selection.owner is None


def test_layers_before_the_first_merge_are_plain_bit_for_bit():
    layers = layers_of()
    plain = hidden = states()
    for layer in layers[:3]:
        plain = layer(plain, None)
    features, _ = encode_with_merging(layers[:3], hidden, [0, 0, 0])
    assert torch.equal(features, plain)


@pytest.mark.parametrize("keep", [1, 2, 8, 9, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_count_is_reached_exactly(keep, dtype):
    layers = layers_of(num_hidden_layers=5).to(dtype)
    schedule = exact_schedule(17, keep, 5)
    features, selection = encode_with_merging(layers, states().to(dtype), schedule)
    assert features.shape == (2, keep, 32) and features.dtype == dtype
    assert selection.k == keep and selection.sizes.sum(1).tolist() == [17.0, 17.0]


def test_the_class_token_stays_alone_in_the_first_slot():
    layers = layers_of("clip")
    _, selection = encode_with_merging(layers, states(), [7, 4, 2, 1], class_token=True)
    assert selection.k == 3 and selection.sizes[:, 0].tolist() == [1.0, 1.0]
    assert selection.indices[:, 0].tolist() == [0, 0]


def test_hooks_are_gone_also_after_an_error():
    layers = layers_of()
    encode_with_merging(layers, states(), [1, 1, 1, 1])
    attention = layers[0].self_attn
    with pytest.raises(RuntimeError):
        attend(attention, torch.zeros(1, 3, 7), None)
    assert not any(layer.self_attn.k_proj._forward_hooks for layer in layers)


@pytest.mark.golden
@pytest.mark.parametrize("path", chosen_cases("pruners/tome", "*.npz", prefix="attention"))
def test_parity_of_proportional_attention(path):
    case = arrays(path)
    width, heads = case["x"].shape[2], case["x"].shape[2] // case["metric"].shape[2]
    attention = layers_of(hidden_size=width, num_attention_heads=heads)[0].self_attn
    parts = zip((attention.q_proj, attention.k_proj, attention.v_proj), range(3), strict=True)
    for projection, place in parts:
        rows = slice(place * width, (place + 1) * width)
        projection.weight.copy_(case["qkv_w"][rows])
        projection.bias.copy_(case["qkv_b"][rows])
    attention.out_proj.weight.copy_(case["proj_w"])
    attention.out_proj.bias.copy_(case["proj_b"])
    weighed, keys = attend(attention, case["x"], case["size"][..., 0])
    torch.testing.assert_close(weighed, case["out_prop"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(keys, case["metric"], rtol=1e-5, atol=1e-5)
    plain, _ = attend(attention, case["x"], None)
    torch.testing.assert_close(plain, case["out_plain"], rtol=1e-5, atol=1e-5)
    assert float((case["out_prop"] - case["out_plain"]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([1, 1], "the schedule has 2 entries for 4 layers; expected one per layer"),
        ([9, 0, 0, 0], r"layer 0 is to merge 9 of 17 tokens away; expected 0\.\.8, half of what it has"),
        ([8, 5, 0, 0], r"layer 1 is to merge 5 of 9 tokens away; expected 0\.\.4"),
        ([0, 0, -1, 0], "layer 2 is to merge -1 of 17 tokens away"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(schedule, message):
    with pytest.raises(BudgetError, match=message):
        encode_with_merging(layers_of(), states(), schedule)


def test_attention_that_takes_no_bias_is_refused_once_it_is_needed():
    layers = layers_of()
    layers[0].self_attn.config._attn_implementation = "flash_attention_2"
    with pytest.raises(AttachError, match="uses 'flash_attention_2' attention, which cannot weigh merged tokens"):
        inspect.unwrap(attend)(layers[0].self_attn, states(), torch.ones(2, 17))

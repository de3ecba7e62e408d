from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    PhiConfig,
    PhiModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from leanseg.errors import AttachError
from leanseg.hf.cues import capture, language_attention, last_tokens, real_tokens

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def tower(kind, implementation="sdpa"):
    torch.manual_seed(0)
    config, model = {"siglip": (SiglipVisionConfig, SiglipVisionModel), "clip": (CLIPVisionConfig, CLIPVisionModel)}[
        kind
    ]
    made = model(config(**SMALL, image_size=28, patch_size=7, attn_implementation=implementation))
    for parameter in made.parameters():  # attention that is far from uniform
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def pixels(batch=2):
    return torch.randn(batch, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def test_threads_take_turns_and_do_not_hear_each_other():
    model, images = tower("siglip"), [pixels() + index for index in range(4)]
    layer = model.encoder.layers[-2]
    started, plain_passes = threading.Barrier(5), []

    def captured(image):
        with torch.no_grad():
            started.wait()
            with capture(layer) as seen:
                model(image)
        return seen.attention

    def plain():
        with torch.no_grad():
            started.wait()
            plain_passes.extend(model(images[0]).last_hidden_state for _ in range(20))

    with ThreadPoolExecutor(5) as threads:
        others = threads.submit(plain)
        found = list(threads.map(captured, images))
        others.result()
    started = threading.Barrier(1)
    for image, attention in zip(images, found, strict=True):
        assert torch.equal(attention, captured(image)), "a thread heard another one's pass"
    with torch.no_grad():
        expected = model(images[0]).last_hidden_state
    assert all(torch.equal(each, expected) for each in plain_passes)


@pytest.mark.parametrize("layer", [-2, -1])
@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_attention_is_that_of_the_eager_maps(kind, layer):
    model = tower(kind)
    with torch.no_grad(), capture(model.encoder.layers[layer]) as seen:
        output = model(pixels())
    with torch.no_grad():
        maps = tower(kind, "eager")(pixels(), output_attentions=True).attentions
        plain = model(pixels())
    torch.testing.assert_close(seen.attention, maps[layer].mean(dim=(1, 2)), atol=1e-6, rtol=0)
    assert torch.equal(output.last_hidden_state, plain.last_hidden_state), "listening changed the result"


def test_keys_are_averaged_over_heads():
    model = tower("siglip")
    layer = model.encoder.layers[1]
    inputs = []
    hook = layer.self_attn.k_proj.register_forward_hook(lambda _module, _args, output: inputs.append(output))
    with torch.no_grad(), capture(layer, attention=False) as seen:
        model(pixels())
    hook.remove()
    assert torch.equal(seen.keys, inputs[0].unflatten(-1, (4, 8)).transpose(1, 2).mean(dim=1))
    with pytest.raises(AttachError, match="no attention were captured"):
        _ = seen.attention


def test_a_layer_called_by_itself_is_heard_and_calls_are_one_batch():
    model = tower("siglip")
    hidden = model.embeddings(pixels(3))
    with torch.no_grad(), capture(model.encoder.layers[0]) as seen:
        model.encoder.layers[0](hidden[:2], None)
        model.encoder.layers[0](hidden[2:], None)
    assert seen.attention.shape == (3, 16) and seen.keys.shape == (3, 16, 8)
    torch.testing.assert_close(seen.attention.sum(dim=1), torch.ones(3))


def test_calls_of_different_lengths_stay_apart():
    model = tower("siglip")
    hidden = model.embeddings(pixels(1))
    with torch.no_grad(), capture(model.encoder.layers[0]) as seen:
        model.encoder.layers[0](hidden, None)
        model.encoder.layers[0](hidden[:, :9], None)
    assert [part.shape[1] for part in seen.attentions] == [16, 9]
    with pytest.raises(AttachError, match=r"the calls saw \[16, 9\] tokens"):
        _ = seen.attention


def test_padding_receives_nothing_and_a_causal_mask_is_refused():
    model = tower("siglip", "eager")
    hidden = model.embeddings(pixels(1))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 12:] = torch.finfo(torch.float32).min
    with torch.no_grad(), capture(model.encoder.layers[0]) as seen:
        model.encoder.layers[0](hidden, mask)
    assert seen.attention[0, 12:].abs().max() == 0
    causal = torch.full((16, 16), torch.finfo(torch.float32).min).triu(1)[None, None]
    with pytest.raises(AttachError, match="differs between queries"), capture(model.encoder.layers[0]):
        model.encoder.layers[0](hidden, causal)


def test_the_config_is_given_back_also_after_an_exception():
    model = tower("siglip")
    module = model.encoder.layers[0].self_attn
    config = module.config
    with pytest.raises(ZeroDivisionError), capture(module):
        assert module.config is not config
        assert model.config._attn_implementation == "sdpa", "the shared configuration was changed"
        raise ZeroDivisionError
    assert module.config is config
    with capture(module):
        pass


def test_what_cannot_be_listened_to_is_refused():
    module = tower("siglip").encoder.layers[0].self_attn
    with capture(module), pytest.raises(AttachError, match="is being captured already"), capture(module):
        pass
    refused = pytest.raises(AttachError, match="does not choose its attention by a `config`")
    with refused, capture(torch.nn.Linear(2, 2)):
        pass


def decoder(kind, implementation="sdpa"):
    torch.manual_seed(0)
    config, model = {"llama": (LlamaConfig, LlamaModel), "phi": (PhiConfig, PhiModel)}[kind]
    heads = {"num_key_value_heads": 2} if kind == "llama" else {}
    made = model(config(**SMALL, **heads, vocab_size=50, attn_implementation=implementation, pad_token_id=0)).eval()
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("kind", ["llama", "phi"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_language_attention_is_that_of_the_eager_maps(kind, layer, side, implementation):
    embeds = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, 9, dtype=torch.long)
    if side != "none":
        mask[1, slice(0, 3) if side == "left" else slice(6, 9)] = 0
    kwargs = {"inputs_embeds": embeds, "attention_mask": mask if side != "none" else None}
    queries = last_tokens(kwargs["attention_mask"], 2, 9, embeds.device)
    assert queries.tolist() == [8, 5 if side == "right" else 8]
    found = language_attention(decoder(kind, implementation), layer, kwargs, queries=queries)
    with torch.no_grad():
        maps = decoder(kind, "eager")(**kwargs, output_attentions=True).attentions[layer].mean(dim=1)
    expected = torch.stack([maps[row, query] for row, query in enumerate(queries)])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_language_attention_touches_no_cache_and_stops_at_the_layer():
    from transformers import DynamicCache

    model = decoder("llama")
    cache, ran = DynamicCache(config=model.config), []
    hooks = [layer.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, layer in enumerate(model.layers)]
    kwargs = {"inputs_embeds": torch.randn(1, 5, 32), "past_key_values": cache, "use_cache": True}
    language_attention(model, 1, kwargs, queries=torch.tensor([4]))
    assert ran == [0] and cache.get_seq_length() == 0
    for hook in hooks:
        hook.remove()


def test_language_layer_must_exist():
    with pytest.raises(AttachError, match=r"language_layer is 3; it must be a whole number in 0\.\.2"):
        language_attention(decoder("phi"), 3, {"inputs_embeds": torch.zeros(1, 2, 32)}, queries=torch.tensor([1]))


def test_real_tokens_are_read_from_any_mask():
    device = torch.device("cpu")
    flags = torch.tensor([[0, 1, 1]])
    own = torch.tensor([[[[0, 0, 0], [0, 1, 0], [0, 1, 1]]]]).bool()
    additive = torch.where(own, 0.0, torch.finfo(torch.float32).min)
    for mask in (flags, own, additive, {"full_attention": own}):
        assert real_tokens(mask, 1, 3, device).tolist() == [[False, True, True]]
    assert real_tokens(None, 1, 2, device).all()
    with pytest.raises(AttachError, match=r"the attention mask is shape \(3,\)"):
        real_tokens(torch.ones(3), 1, 3, device)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tests.hf.families import Inputs, model_of
from tests.hf.methods import Halves

from leanseg import Pruner, Selection, attach
from leanseg.errors import AttachError
from leanseg.hf.layouts import find
from leanseg.hf.masks import causal, check_can_be_biased, with_bias

ROWS = [[3, "image", 4], [5, "image", 2, "image", 6]]


@dataclass(frozen=True, kw_only=True)
class Alone(Pruner):
    """Keeps the first K tokens; each stands for itself alone, all others for nobody."""

    def select(self, tokens, k):
        owner = torch.arange(tokens.n_tokens).repeat(tokens.batch, 1)
        owner[:, k:] = -1
        return Selection(torch.arange(k).repeat(tokens.batch, 1), tokens.n_tokens, owner)


@dataclass(frozen=True, kw_only=True)
class Copies(Pruner):
    """Keeps every fourth token, which stands for itself and its three copies."""

    merges: ClassVar[bool] = True

    def select(self, tokens, k):
        owner = (torch.arange(tokens.n_tokens) // 4).repeat(tokens.batch, 1)
        return Selection(torch.arange(0, tokens.n_tokens, 4).repeat(tokens.batch, 1), tokens.n_tokens, owner)


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_5_vl", "idefics3"])
def test_sizes_of_one_are_plain_pruning(family, implementation):
    model, inputs = model_of(family, implementation), Inputs(family, ROWS).make()
    with attach(model, Alone(keep_ratio=0.5)):
        plain, tokens = run(model, inputs), model.generate(**inputs, max_new_tokens=3, do_sample=False)
    with attach(model, Alone(keep_ratio=0.5), mass_preserving=True) as trace:
        torch.testing.assert_close(run(model, inputs)[trace.kept >= 0], plain[trace.kept >= 0], atol=1e-5, rtol=1e-4)
        assert torch.equal(model.generate(**inputs, max_new_tokens=3, do_sample=False), tokens)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_copies_weigh_as_much_as_if_all_of_them_were_there(implementation):
    """Without rotary positions a token and its three copies are one token with the log of four on its logits."""
    # PaliGemma's prompt sees all of itself, so that no query comes before some of the copies.
    model, inputs = model_of("paligemma", implementation), Inputs("paligemma", ROWS).make()
    layout, base = find(model)
    projector, rotary = layout.part(base, "projector"), layout.part(base, "language").rotary_emb
    copied = projector.register_forward_hook(lambda _m, _a, out: out[:, ::4].repeat_interleave(4, dim=1))
    still = rotary.register_forward_hook(lambda _m, _a, out: (torch.ones_like(out[0]), torch.zeros_like(out[1])))
    try:
        whole, expected = run(model, inputs), model.generate(**inputs, max_new_tokens=4, do_sample=False)
        with attach(model, Copies(keep_ratio=0.25), mass_preserving=True) as trace:
            massed, steps = run(model, inputs), model.generate(**inputs, max_new_tokens=4, do_sample=False)
        with attach(model, Copies(keep_ratio=0.25)):
            plain = run(model, inputs)
    finally:
        copied.remove()
        still.remove()
    real = trace.kept >= 0
    kept = trace.gather(whole)
    torch.testing.assert_close(massed[real], kept[real], atol=1e-4, rtol=1e-3)
    assert (plain[real] - kept[real]).abs().max() > 1e-2
    assert torch.equal(steps, expected)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_one_attention_layer_gives_what_all_copies_give(implementation):
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=10,
        attn_implementation=implementation,
    )
    model = LlamaModel(config).eval()
    embeds, queries = torch.randn(1, 5, 32), torch.randn(1, 3, 32)
    sizes = torch.tensor([[4, 1, 2, 7, 3]])
    positions = torch.zeros(1, 20, dtype=torch.long)
    copies = embeds.repeat_interleave(sizes[0], dim=1)
    with torch.no_grad():
        whole = model(
            inputs_embeds=torch.cat([copies, queries], dim=1),
            position_ids=positions,
            attention_mask=torch.ones(1, 20, dtype=torch.long),
        ).last_hidden_state[:, -3:]
        mask = with_bias(causal(torch.ones(1, 8, dtype=torch.bool), 8), sizes.log(), torch.float32)
        short = model(
            inputs_embeds=torch.cat([embeds, queries], dim=1), position_ids=positions[:, :8], attention_mask=mask
        ).last_hidden_state[:, -3:]
    torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "implementation"),
    [(name, "sdpa") for name in ("llava", "llava_next", "paligemma", "internvl", "qwen2_5_vl", "qwen3_vl", "mistral3")]
    + [("llava", "eager"), ("paligemma", "eager")],
)
def test_cached_steps_carry_the_mass_along(family, implementation):
    model, inputs = model_of(family, implementation), Inputs(family, ROWS).make()
    if family == "paligemma":
        del inputs["token_type_ids"]
    options = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with attach(model, "uniform(keep_ratio=0.3)", mass_preserving=True):
        cached = model.generate(**inputs, **options)
        again = model.generate(**inputs, **options, use_cache=False)
    with attach(model, "uniform(keep_ratio=0.3)"):
        plain = model.generate(**inputs, **options)
    for one, other in zip(cached.logits, again.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert (cached.logits[0] - plain.logits[0]).abs().max() > 1e-3


def test_sizes_come_from_the_method_where_it_merges():
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4]]).make()
    masks = []
    language = find(model)[0].part(find(model)[1], "language")
    with attach(model, Halves(keep_ratio=0.25), mass_preserving=True):
        hook = language.register_forward_pre_hook(
            lambda _m, _a, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
        )
        run(model, inputs)
    hook.remove()
    assert masks[0].shape == (1, 1, 11, 11)
    torch.testing.assert_close(masks[0][0, 0, -1].exp(), torch.tensor([1.0] * 6 + [13.0] + [1.0] * 4))


def test_nothing_dropped_is_the_model_alone():
    model, inputs = model_of("llava"), Inputs("llava", ROWS).make()
    plain = run(model, inputs)
    with attach(model, "identity", mass_preserving=True):
        assert torch.equal(run(model, inputs), plain)


def test_where_the_logits_cannot_be_reached_it_is_refused():
    refused = pytest.raises(AttachError, match=r"needs full attention in every layer.*'gemma3_text' has")
    with refused, attach(model_of("gemma3"), "uniform(keep_ratio=0.5)", mass_preserving=True):
        pass
    config = model_of("llava").config.get_text_config()
    for name in ("flash_attention_2", "flex_attention"):
        other = type(config)()
        other._attn_implementation_internal = name
        with pytest.raises(AttachError, match=f"which '{name}' does not allow; use"):
            check_can_be_biased(other)
    from transformers import MistralConfig

    with pytest.raises(AttachError, match="'mistral' has a sliding window"):
        check_can_be_biased(MistralConfig(sliding_window=8, attn_implementation="sdpa"))

"""What VLTP's guide multiplies and adds for one question: CLIP's tower, the projector, LLaMA on all tokens."""

from __future__ import annotations

from typing import Any

from leanseg.costs import formulas


def guide(config: Any, text_tokens: int) -> dict[str, int]:
    """Return the multiply-adds of each part; `config` has the fields of `models.vltp.config.GuideConfig`.

    `text_tokens`: of template, question and answer together. The answer is given, so that one pass reads all, and no
    language head is run: only hidden states are wanted. Layers of the tower that nobody reads are not run either.
    """
    eye, language = config.vision, config.language
    tokens = eye.n_tokens
    patches = formulas.convolution(tokens, eye.patch_size, 3, eye.hidden_size)
    # The class token is one more.
    layer = formulas.transformer_layer(tokens + 1, eye.hidden_size, eye.intermediate_size)
    projected = formulas.linear(tokens, eye.hidden_size, language.hidden_size)
    if config.projector == "mlp":
        projected += formulas.linear(tokens, language.hidden_size, language.hidden_size)
    return {
        "vision": patches + eye.n_layers_run * layer,
        "projector": projected,
        "language": language.num_hidden_layers * language_layer(language, tokens + text_tokens),
    }


def language_layer(language: Any, length: int) -> int:
    """One layer of LLaMA: grouped attention, and a feed-forward of three products, of which one is a gate."""
    width = language.hidden_size
    key_value = width * language.num_key_value_heads // language.num_attention_heads
    work = 2 * formulas.linear(length, width, width) + 2 * formulas.linear(length, width, key_value)
    return (
        work
        + formulas.attention(length, length, width)
        + 3 * formulas.linear(length, width, language.intermediate_size)
    )

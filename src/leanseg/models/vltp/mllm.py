"""The guide's network: a LLaVA that reads a picture and a question, and whose hidden states are all that is wanted.

The modules are Hugging Face's `LlavaForConditionalGeneration` under its names. They are run here part by part, so that
a picture passes the tower once for any number of questions, layers that nobody reads are not run, and no id of the
vocabulary is spent on image tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers import LlamaConfig as LlamaSizes

from leanseg.models.vltp.config import GuideConfig
from leanseg.models.vltp.conversation import IMAGE_ID
from leanseg.shapes import Float, Int

MAX_NEW_TOKENS = 32


def build_mllm(config: GuideConfig) -> LlavaForConditionalGeneration:
    """Build the network; LISA's projector is one linear layer, which Hugging Face's class of two cannot express."""
    vision, language = config.vision, config.language
    mllm = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=vision.hidden_size,
                intermediate_size=vision.intermediate_size,
                num_hidden_layers=vision.num_hidden_layers,
                num_attention_heads=vision.num_attention_heads,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                hidden_act=vision.hidden_act,
                layer_norm_eps=vision.layer_norm_eps,
            ),
            text_config=LlamaSizes(
                vocab_size=language.vocab_size,
                hidden_size=language.hidden_size,
                intermediate_size=language.intermediate_size,
                num_hidden_layers=language.num_hidden_layers,
                num_attention_heads=language.num_attention_heads,
                num_key_value_heads=language.num_key_value_heads,
                hidden_act=language.hidden_act,
                rms_norm_eps=language.rms_norm_eps,
                max_position_embeddings=language.max_position_embeddings,
                rope_parameters={"rope_type": "default", "rope_theta": language.rope_theta},
            ),
            vision_feature_layer=vision.select_layer,
            image_token_index=0,
            image_seq_length=vision.n_tokens,
        )
    )
    if config.projector == "linear":
        mllm.model.multi_modal_projector = nn.Linear(vision.hidden_size, language.hidden_size)
    return mllm


def image_features(
    mllm: LlavaForConditionalGeneration, pixels: Float[Tensor, "b 3 s s"], n_layers: int
) -> Float[Tensor, "b n d"]:
    """Return the projected image tokens: CLIP's hidden state behind `n_layers` layers, without the class token."""
    tower = mllm.model.vision_tower
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:n_layers]:
        hidden = layer(hidden, None)
    return mllm.model.multi_modal_projector(hidden[:, 1:])


def embedded(
    mllm: LlavaForConditionalGeneration, ids: Int[Tensor, "c t"], features: Float[Tensor, "c n d"]
) -> Float[Tensor, "c t d"]:
    """Look ids up, and put each row's image tokens where its `IMAGE_ID` stand, N times; other negative ids are none."""
    table = mllm.model.language_model.embed_tokens
    embeds = table(ids.clamp(min=0))
    return embeds.masked_scatter((ids == IMAGE_ID)[..., None], features.to(embeds.dtype))


def read(mllm: LlavaForConditionalGeneration, embeds: Float[Tensor, "c t d"]) -> Float[Tensor, "c t d"]:
    """Return the last hidden states, behind the last norm. Rows may be filled up on the right: nobody looks ahead."""
    return mllm.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state


class Generated(NamedTuple):
    """Ids (1, T + new) of a conversation with its answer, and the states (1, T + new - 1, D) that led to it."""

    ids: Tensor
    hidden: Tensor


def generate(
    mllm: LlavaForConditionalGeneration,
    ids: Int[Tensor, "1 t"],
    features: Float[Tensor, "1 n d"],
    *,
    end_id: int,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Generated:
    """Continue one conversation greedily, up to the end mark (included) or `max_new_tokens`."""
    fed, states, cache = embedded(mllm, ids, features), [], None
    for _ in range(max_new_tokens):
        output = mllm.model.language_model(inputs_embeds=fed, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        states.append(output.last_hidden_state)
        token = mllm.lm_head(output.last_hidden_state[:, -1:]).argmax(dim=-1)
        ids = torch.cat([ids, token], dim=1)
        if token.item() == end_id:
            break
        fed = mllm.model.language_model.embed_tokens(token)
    return Generated(ids, torch.cat(states, dim=1))

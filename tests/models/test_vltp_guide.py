"""What the guide is asked, what it reads, and which of its states becomes the embedding of [SEG]."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.vltp_fixtures import INSTRUCTION, picture, tiny_tokenizer, tiny_vltp, tiny_vltp_config
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from leanseg.errors import InputError, WeightsError
from leanseg.models.vltp import mllm
from leanseg.models.vltp.conversation import (
    ANSWER,
    IGNORED,
    IMAGE_ID,
    TEMPLATES,
    TRAIN_ANSWERS,
    TRAIN_QUESTIONS,
    conversation,
)
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.pictures import LONGEST, clip_pixels
from leanseg.models.vltp.tokenizer import SPECIAL, GuideTokenizer, load_guide_tokenizer

N_IMAGE = 16


def _pixels(batch: int = 1, seed: int = 3) -> Tensor:
    return torch.randn((batch, 3, 30, 30), generator=torch.Generator().manual_seed(seed))


# What stands before the picture, between the question and the answer, and behind the answer.
SAID = {
    "llava_v1": (
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the human's questions. USER: ",
        " ASSISTANT:",
        "</s>",
    ),
    "llava_llama_2": (
        "[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to understand the visual "
        "content that the user provides, and assist the user with a variety of tasks using natural language.\n"
        "<</SYS>>\n\n",
        " [/INST]",
        " </s>",
    ),
}


def _ids(answer: str | None = ANSWER, instruction: str = INSTRUCTION, template: str = "llava_v1") -> Tensor:
    said = TEMPLATES[template]
    return conversation(tiny_tokenizer(), instruction, image_tokens=N_IMAGE, answer=answer, template=said).ids


def _asking(template: str) -> VLTP:
    return tiny_vltp(guide=replace(tiny_vltp_config().guide, template=template))


def _text(ids: list[int]) -> str:
    return tiny_tokenizer().backend.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_conversation_is_lisas(template: str):
    tokenizer, (before, asked, end) = tiny_tokenizer(), SAID[template]
    ids = _ids(template=template).tolist()
    assert ids[0] == tokenizer.start_id and ids[-1] == tokenizer.end_id and ids.count(tokenizer.start_id) == 1
    first = ids.index(IMAGE_ID)
    assert ids[first : first + N_IMAGE] == [IMAGE_ID] * N_IMAGE and ids.count(IMAGE_ID) == N_IMAGE
    assert _text(ids[1:first]) == f"{before}<im_start>"
    behind = f"<im_end>\n {INSTRUCTION} Please output segmentation mask.{asked}"
    assert _text(ids[first + N_IMAGE :]) == f"{behind} [SEG].{end}"
    assert _text(_ids(answer=None, template=template)[first + N_IMAGE :].tolist()) == behind
    assert torch.equal(_ids(instruction="  the red cup "), _ids())


@pytest.mark.parametrize("answer", TRAIN_ANSWERS)
@pytest.mark.parametrize("question", TRAIN_QUESTIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_labels_are_the_answer_and_its_end(template: str, question: str, answer: str):
    said = TEMPLATES[template]
    asked = conversation(
        tiny_tokenizer(), INSTRUCTION, image_tokens=N_IMAGE, answer=answer, question=question, template=said
    )
    wanted = asked.labels[asked.labels != IGNORED]
    assert _text(wanted.tolist()).strip() == f"{answer}{SAID[template][2]}"
    assert torch.equal(asked.ids[-len(wanted) :], wanted)


@pytest.mark.parametrize("mark", SPECIAL)
def test_an_instruction_may_not_hold_a_mark(mark: str):
    with pytest.raises(InputError, match=r"the instruction holds .*; expected words; leave it out") as caught:
        conversation(tiny_tokenizer(), f"the cup {mark}", image_tokens=4)
    assert mark in str(caught.value)


def test_a_conversation_without_a_picture_has_no_image_token():
    ids = conversation(tiny_tokenizer(), INSTRUCTION, image_tokens=0).ids
    assert int((ids < 0).sum()) == 0 and len(ids) == len(_ids()) - N_IMAGE


def test_the_tokenizer_comes_back_and_one_without_the_marks_is_refused(tmp_path):
    tiny_tokenizer().save(tmp_path)
    loaded = load_guide_tokenizer(tmp_path)
    text = "It is [SEG].</s>"
    assert loaded.encode(text) == tiny_tokenizer().encode(text)
    assert loaded.seg_id in loaded.encode(text) and loaded.vocab_size == tiny_tokenizer().vocab_size
    backend = Tokenizer.from_str(tiny_tokenizer().backend.to_str().replace("[SEG]", "[XYZ]"))
    with pytest.raises(WeightsError, match=r"has no token '\[SEG\]'; expected LISA's"):
        GuideTokenizer(backend)


@pytest.mark.parametrize("size", [(480, 640), (641, 333), (224, 224), (50, 61), (30, 470), (17, 19)])
def test_clip_sees_what_its_released_processor_makes(size: tuple[int, int]):
    image = picture(*size)
    expected = CLIPImageProcessorPil()(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(clip_pixels(image), expected)


def test_of_a_thin_picture_only_the_middle_is_scaled():
    image = picture(2, 40 * LONGEST)
    middle = image[:, 20 * LONGEST - LONGEST : 20 * LONGEST + LONGEST]
    assert torch.equal(clip_pixels(image, size=30), clip_pixels(middle, size=30))
    for wrong in (image[..., 0], image.astype(np.float32)):
        with pytest.raises(InputError, match=r"expected .height, width, 3. of uint8 RGB"):
            clip_pixels(wrong)


@torch.inference_mode()
def test_the_tower_is_huggingfaces_at_the_selected_layer():
    model = tiny_vltp()
    expected = torch.stack(list(model.mllm.model.get_image_features(_pixels(2)).pooler_output))
    assert torch.equal(model.look(_pixels(2)), expected)
    last = tiny_vltp_config().guide.vision.num_hidden_layers
    assert not torch.equal(mllm.image_features(model.mllm, _pixels(2), last), expected)


def _by_huggingface(model: VLTP, ids: Tensor, pixels: Tensor) -> Tensor:
    """Return the last hidden states of transformers' own forward pass, whose image tokens have an id."""
    image_id = model.mllm.config.image_token_id
    assert image_id not in ids.tolist()
    output = model.mllm(
        input_ids=torch.where(ids == IMAGE_ID, image_id, ids)[None], pixel_values=pixels, output_hidden_states=True
    )
    torch.testing.assert_close(model.mllm.lm_head(output.hidden_states[-1]), output.logits, atol=0, rtol=0)
    return output.hidden_states[-1][0]


@torch.inference_mode()
@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_guidance_is_the_projected_state_before_seg(projector: str):
    config = tiny_vltp_config()
    model = tiny_vltp(guide=replace(config.guide, projector=projector))
    ids = _ids("It is [SEG] and [SEG].")
    places = (ids == tiny_tokenizer().seg_id).nonzero()[:, 0]
    hidden = _by_huggingface(model, ids, _pixels())
    found = model.guidance(_pixels(), [INSTRUCTION], answer="It is [SEG] and [SEG].")
    torch.testing.assert_close(found.states, model.seg_projector(hidden[places - 1]))
    assert len(places) == 2 and found.conversation.tolist() == [0, 0]
    own = model.seg_projector(hidden[places])
    assert (found.states - own).abs().max() > 1e-3
    assert isinstance(model.mllm.model.multi_modal_projector, nn.Linear) == (projector == "linear")


@torch.inference_mode()
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_guide_is_asked_in_its_configurations_template(template: str, monkeypatch: pytest.MonkeyPatch):
    model, heard = _asking(template), []
    embedded = mllm.embedded
    monkeypatch.setattr(mllm, "embedded", lambda *given: heard.append(given[1]) or embedded(*given))
    model.guidance(_pixels(), [INSTRUCTION])
    model.guidance(_pixels(), [INSTRUCTION], generate=True)
    taught, free = heard
    assert torch.equal(taught[0], _ids(template=template))
    assert torch.equal(free[0], _ids(answer=None, template=template))


@torch.inference_mode()
def test_several_conversations_are_read_as_if_alone():
    model = tiny_vltp()
    asked = ["the red cup", "the dog left of the very red cup", "a dog"]
    together = model.guidance(_pixels(), asked)
    apart = [model.guidance(_pixels(), [each]).states for each in asked]
    torch.testing.assert_close(together.states, torch.cat(apart))
    assert together.conversation.tolist() == [0, 1, 2]
    each_its_own = model.guidance(_pixels(3), asked)
    torch.testing.assert_close(each_its_own.states[1:2], model.guidance(_pixels(3)[1:2], asked[1:2]).states)
    with pytest.raises(InputError, match="2 pictures came with 3 instructions"):
        model.guidance(_pixels(2), asked)


@torch.inference_mode()
def test_the_picture_matters_and_so_does_its_absence():
    model = tiny_vltp()
    first, second = (model.guidance(_pixels(seed=seed), [INSTRUCTION]).states for seed in (3, 4))
    blind = model.ask(model.look(_pixels())[:, :0], [INSTRUCTION]).states
    assert not torch.allclose(first, second) and not torch.allclose(first, blind)


@torch.inference_mode()
def test_a_free_answer_is_the_greedy_one_of_huggingface():
    model, ids = tiny_vltp(), _ids(answer=None)[None]
    features = model.look(_pixels())
    said = mllm.generate(model.mllm, ids, features, end_id=tiny_tokenizer().end_id, max_new_tokens=9)
    embeds = mllm.embedded(model.mllm, ids, features)
    expected = model.mllm.generate(
        inputs_embeds=embeds, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False, pad_token_id=0,
        eos_token_id=tiny_tokenizer().end_id,
    )  # fmt: skip
    assert torch.equal(said.ids[:, ids.shape[1] :], expected)
    whole = mllm.read(model.mllm, mllm.embedded(model.mllm, said.ids, features))
    torch.testing.assert_close(said.hidden, whole[:, :-1], atol=1e-5, rtol=1e-5)


def _that_always_says(token: int) -> VLTP:
    """Return a model whose language head says one word, whatever it is asked."""
    model = tiny_vltp()
    model.mllm.lm_head.register_forward_hook(
        lambda module, given, logits: torch.nn.functional.one_hot(torch.tensor(token), logits.shape[-1]).expand_as(
            logits
        )
    )
    return model


@torch.inference_mode()
def test_a_free_answer_may_name_several_things_or_none():
    many = _that_always_says(tiny_tokenizer().seg_id).guidance(_pixels(), ["a cup", "a dog"], generate=True)
    assert many.states.shape == (2 * mllm.MAX_NEW_TOKENS, 16)
    assert many.conversation.tolist() == [0] * mllm.MAX_NEW_TOKENS + [1] * mllm.MAX_NEW_TOKENS
    none = _that_always_says(tiny_tokenizer().end_id).guidance(_pixels(), ["a cup", "a dog"], generate=True)
    assert none.states.shape == (0, 16) and none.conversation.shape == (0,)


@torch.inference_mode()
def test_the_end_mark_ends_a_free_answer():
    model = _that_always_says(tiny_tokenizer().end_id)
    ids = _ids(answer=None)[None]
    said = mllm.generate(model.mllm, ids, model.look(_pixels()), end_id=tiny_tokenizer().end_id)
    assert said.ids.shape[1] == ids.shape[1] + 1 and said.hidden.shape[1] == ids.shape[1]


def test_what_does_not_fit_into_the_positions_is_refused():
    model = tiny_vltp()
    for generate in (False, True):
        with pytest.raises(InputError, match=r"is .* tokens long, 16 of them the picture's; expected at most 512"):
            model.guidance(_pixels(), ["cup " * 300], generate=generate)


def test_a_model_without_a_tokenizer_says_so():
    with pytest.raises(WeightsError, match="has no tokenizer; expected one at construction"):
        VLTP(tiny_vltp_config()).guidance(_pixels(), [INSTRUCTION])


def test_the_language_head_can_be_trained_through():
    model = tiny_vltp().train()
    asked = conversation(tiny_tokenizer(), INSTRUCTION, image_tokens=N_IMAGE, answer="Sure, [SEG].")
    hidden, _ = model.read(model.look(_pixels()), [asked])
    logits = model.mllm.lm_head(hidden)
    nn.functional.cross_entropy(logits[0, :-1], asked.labels[1:], ignore_index=IGNORED).backward()
    assert model.mllm.model.language_model.embed_tokens.weight.grad.abs().sum() > 0
    assert model.mllm.model.multi_modal_projector.weight.grad.abs().sum() > 0

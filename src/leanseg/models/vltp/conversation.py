"""What is said to the guide and what it answers, as token ids: LISA's conversations (arXiv:2308.00692), as coded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leanseg.errors import InputError
from leanseg.models.vltp.tokenizer import END, IMAGE_END, IMAGE_START, GuideTokenizer, check_instruction

IMAGE_ID = -200  # stands for one image token among the ids
IGNORED = -100  # a label that asks for nothing
CHAT = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
LLAMA_2_CHAT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
QUESTION = " {} Please output segmentation mask."
ANSWER = "[SEG]."
TRAIN_QUESTIONS = ("{} Please respond with segmentation mask.", "{} Please output segmentation mask.")
TRAIN_ANSWERS = (
    "It is [SEG].",
    "Sure, [SEG].",
    "Sure, it is [SEG].",
    "Sure, the segmentation result is [SEG].",
    "[SEG].",
)


class Template(NamedTuple):
    """What stands before a picture's marks, between a question and its answer, and behind that.

    The start mark is no part of it: it is put first as an id, once.
    """

    before: str
    asked: str
    end: str


# The separators are LLaVA's (arXiv:2304.08485), as coded: LLaMA 2's answers have a blank before the end mark.
TEMPLATES = {
    "llava_v1": Template(f"{CHAT} USER: ", " ASSISTANT:", END),
    "llava_llama_2": Template(f"[INST] <<SYS>>\n{LLAMA_2_CHAT}\n<</SYS>>\n\n", " [/INST]", f" {END}"),
}


class Conversation(NamedTuple):
    """Ids (T,) with `IMAGE_ID` for every image token, and labels (T,): the answer's ids, `IGNORED` elsewhere."""

    ids: Tensor
    labels: Tensor


def conversation(
    tokenizer: GuideTokenizer,
    instruction: str,
    *,
    image_tokens: int,
    answer: str | None = ANSWER,
    question: str = QUESTION,
    template: Template = TEMPLATES["llava_v1"],
) -> Conversation:
    r"""Return one picture's conversation: `{before}{picture}\n{question}{asked} {answer}{end}` of a template.

    The answer is given beforehand (teacher forcing, as in LISA's evaluation); with `answer=None` it is left to be
    generated. The texts before and behind the picture are encoded each by itself. `image_tokens` 0 = no picture.
    """
    check_instruction(instruction)
    asked = f"{IMAGE_END}\n{question.format(instruction.strip())}{template.asked}"
    behind = tokenizer.encode(asked)
    start = len(behind)
    if answer is not None:
        whole = tokenizer.encode(f"{asked} {answer}{template.end}")
        start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, behind, strict=False)))
        behind = whole
    before = [tokenizer.start_id, *tokenizer.encode(template.before + IMAGE_START), *[IMAGE_ID] * image_tokens]
    ids = torch.tensor(before + behind)
    labels = ids.clone()
    labels[: len(before) + start] = IGNORED
    return Conversation(ids, labels)


def check_length(ids: Tensor, limit: int) -> None:
    """Refuse a conversation that is longer than the language model's positions."""
    if len(ids) > limit:
        raise InputError(
            f"the conversation is {len(ids)} tokens long, {int((ids == IMAGE_ID).sum())} of them the picture's; "
            f"expected at most {limit}; shorten the instruction"
        )


def padded(rows: Sequence[Tensor], filling: int) -> Tensor:
    """Return rows of different lengths as one tensor, filled up on the right."""
    return pad_sequence(list(rows), batch_first=True, padding_value=filling)

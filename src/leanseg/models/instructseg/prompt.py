"""The four tasks' prompts as token ids, with placeholders where frames, instruction and mask tokens go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from leanseg.errors import InputError, unknown_name
from leanseg.shapes import Int

IMAGE_ID, SEG_ID, REFER_ID, TEMPORAL_ID = -200, -201, -204, -205
PLACEHOLDERS = {"<image>": IMAGE_ID, "<seg>": SEG_ID, "<refer>": REFER_ID, "<temporal>": TEMPORAL_ID}
_SPLIT = re.compile("(" + "|".join(PLACEHOLDERS) + ")")

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_ANSWER = "\nSure, the segmentation result is [SEG]<seg>"
_IMAGE_TURN = (
    "This is an image <temporal>\n<image>\n, please doing {name} according to the following instruction:\n<refer>"
)
_VIDEO_TURN = (
    "There are reference frames and key frame <temporal>\n<image>\n. Please doing {name} according to the following "
    "instruction.\nThis is all the instruction: <refer>\n"
)
_PAPER_TURN = "<temporal>\n<image>\nYou need to perform {name} on the {visual} according to the Text Prompt.\n<refer>"


@runtime_checkable
class Encoder(Protocol):
    """What a prompt needs of a tokenizer."""

    seg_id: int
    eos_id: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """One instructed segmentation task: its names, its human turns and whether it looks at a clip."""

    name: str
    alias: str
    video: bool
    released_name: str
    paper_name: str

    def turn(self, template: str) -> str:
        """Return the human turn, with placeholders."""
        if template == "paper":
            return _PAPER_TURN.format(name=self.paper_name, visual="video" if self.video else "image")
        return (_VIDEO_TURN if self.video else _IMAGE_TURN).format(name=self.released_name)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="referring",
            alias="res",
            video=False,
            released_name="Referring Segmentation",
            paper_name="Referring Expression Segmentation",
        ),
        Task(
            name="reasoning",
            alias="reasonseg",
            video=False,
            released_name="Reasoning Segmentation",
            paper_name="Reasoning Segmentation",
        ),
        Task(
            name="video_referring",
            alias="rvos",
            video=True,
            released_name="Referring Segmentation",
            paper_name="Referring Video Object Segmentation",
        ),
        Task(
            name="video_reasoning",
            alias="revos",
            video=True,
            released_name="Reasoning Segmentation",
            paper_name="Reasoning Video Object Segmentation",
        ),
    )
}
TEMPLATES = ("released", "paper")


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompt:
    """One instruction's prompt: `ids` is the text with placeholders, `refer_ids` the instruction and a final [SEG]."""

    task: str
    template: str
    text: str
    instruction: str
    ids: Int[Tensor, " length"]
    refer_ids: Int[Tensor, " refer"]
    eos_id: int

    @property
    def n_text(self) -> int:
        """Text ids without the four placeholders (69 for images and 80 for clips in the release)."""
        return int((self.ids >= 0).sum())


def find_task(name: str) -> Task:
    """Return a task by its name or by its data set's short name (res, reasonseg, rvos, revos)."""
    found = {**TASKS, **{task.alias: task for task in TASKS.values()}}.get(name)
    if found is None:
        raise InputError(unknown_name("task", name, TASKS))
    return found


def prompt_text(task: str, template: str = "released") -> str:
    r"""Return the whole conversation of a task, with placeholders.

    The released template is what the weights were trained on. The paper's supplement names only the sentence "You need
    to perform ... according to the Text Prompt."; its place between the visual tokens and the instruction is our
    reading.

    >>> prompt_text("referring").endswith("ASSISTANT: \nSure, the segmentation result is [SEG]<seg><|endoftext|>")
    True
    """
    if template not in TEMPLATES:
        raise InputError(unknown_name("template", template, TEMPLATES))
    return f"{_SYSTEM} USER: {find_task(task).turn(template)} ASSISTANT: {_ANSWER}<|endoftext|>"


def clean_instruction(task: str, instruction: str | Sequence[Any]) -> str:
    """Return the instruction's text as the release writes it for the task.

    Referring tasks end every sentence with a full stop and join several; reasoning tasks take the first sentence, on
    clips without the mark "(s)". Nothing is lower-cased.

    >>> clean_instruction("referring", ["man in red", "guy on left"])
    'man in red. guy on left.'
    """
    sentences = [instruction] if isinstance(instruction, str) else list(instruction)
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise InputError(f"the instruction is {sentence!r}; expected text; say in words what to segment")
    if not sentences or not all(sentence.strip() for sentence in sentences):
        raise InputError("the instruction is empty; expected words such as 'the dog on the left'; say what to segment")
    kind = find_task(task)
    if kind.alias in ("res", "rvos"):
        return "".join(f" {sentence}." for sentence in sentences).strip()
    first = sentences[0].strip()
    return first.replace("(s)", "") if kind.video else first


def build_prompt(tokenizer: Encoder, task: str, instruction: str | Sequence[str], template: str = "released") -> Prompt:
    """Encode one instruction; each text chunk between placeholders is encoded by itself, no start token is added."""
    kind = find_task(task)
    text = prompt_text(task, template)
    cleaned = clean_instruction(task, instruction)
    ids: list[int] = []
    for chunk in _SPLIT.split(text):
        if chunk in PLACEHOLDERS:
            ids.append(PLACEHOLDERS[chunk])
        elif chunk:
            ids.extend(tokenizer.encode(chunk))
    return Prompt(
        task=kind.name,
        template=template,
        text=text,
        instruction=cleaned,
        ids=torch.tensor(ids),
        refer_ids=torch.tensor([*tokenizer.encode(cleaned), tokenizer.seg_id]),
        eos_id=tokenizer.eos_id,
    )


def check_length(prompt: Prompt, *, n_visual: int, n_queries: int, limit: int) -> None:
    """Refuse an instruction whose whole sequence is longer than the language model's positions.

    `n_visual` counts image and temporal tokens together, `n_queries` the mask tokens.
    """
    fixed = prompt.n_text + n_visual + n_queries
    given = len(prompt.refer_ids)
    if fixed + given > limit:
        room = max(0, limit - fixed - 1)
        raise InputError(
            f"the instruction is {given - 1} tokens long; expected at most {room} beside {fixed} tokens of template, "
            f"frames and masks in the model's {limit} positions; shorten the instruction"
        )

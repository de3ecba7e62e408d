"""Prompts: the reference's ids from the text chunks up, cleaning of instructions, templates, and refusals."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.golden_cases import GOLDEN
from tests.models.instructseg_fixtures import tiny_tokenizer

from leanseg.errors import InputError
from leanseg.models.instructseg.prompt import (
    PLACEHOLDERS,
    TASKS,
    TEMPLATES,
    Prompt,
    build_prompt,
    check_length,
    clean_instruction,
    find_task,
    prompt_text,
)
from leanseg.models.presets import PRESETS


class TableTokenizer:
    """Knows the ids of exactly the texts it was given, so that any other text or split of it is an error."""

    def __init__(self, table: dict[str, list[int]], seg_id: int, eos_id: int) -> None:
        self.table, self.seg_id, self.eos_id = table, seg_id, eos_id

    def encode(self, text: str) -> list[int]:
        return self.table[text]


def _text_chunks(chunks: list[str]) -> list[str]:
    """Join the chunks between placeholders; the reference marks the place of a ready-made [SEG] id with <gt>."""
    texts = [""]
    for chunk in chunks:
        if chunk in PLACEHOLDERS:
            texts.append("")
        else:
            texts[-1] += "[SEG]" if chunk == "<gt>" else chunk
    return texts


def _text_ids(input_ids: list[int]) -> list[list[int]]:
    cuts = [-1, *(place for place, index in enumerate(input_ids) if index < 0), len(input_ids)]
    return [input_ids[start + 1 : stop] for start, stop in pairwise(cuts)]


def _golden_prompts() -> list[Any]:
    files = sorted((GOLDEN / "instructseg").glob("prompts*/prompts.json"))
    if not files:
        return [pytest.param({}, {}, "", marks=pytest.mark.skip(reason="no golden prompts"), id="prompts/absent")]
    found = []
    for file in files:
        for task, content in json.loads(file.read_text(encoding="utf-8"))["tasks"].items():
            for number, case in enumerate(content["cases"]):
                found.append(pytest.param(content, case, task, id=f"{file.parent.name}/{task}_{number}"))
    return found


@pytest.mark.golden
@pytest.mark.parametrize(("content", "case", "task"), _golden_prompts())
def test_reference_prompts(content: dict[str, Any], case: dict[str, Any], task: str):
    ids, refer_ids = case["input_ids"], case["token_refer_id"]
    table = dict(zip(_text_chunks(content["chunks"]), _text_ids(ids), strict=True))
    instruction = clean_instruction(task, case["raw"])
    assert instruction == case["instruction"]
    tokenizer = TableTokenizer({**table, instruction: refer_ids[:-1]}, seg_id=refer_ids[-1], eos_id=ids[-1])
    prompt = build_prompt(tokenizer, task, case["raw"])
    assert prompt.text == content["prompt"].replace("<gt>", "[SEG]")
    assert prompt.ids.tolist() == ids
    assert prompt.refer_ids.tolist() == refer_ids
    assert (prompt.ids != prompt.eos_id).long().tolist() == case["attention_mask"]
    assert (prompt.ids == PLACEHOLDERS["<refer>"]).long().tolist() == case["refer_embedding_indices"]
    lengths = case["lengths"]
    assert (prompt.n_text, len(prompt.refer_ids)) == (lengths["text_ids"], lengths["refer_ids"])
    full = PRESETS["full"]
    fixed = prompt.n_text + len(prompt.refer_ids) + full.mask.num_queries
    for name, length in lengths.items():
        if "image" in name or "video" in name:  # full_image, video_146
            kept = full.vision.n_tokens if "full" in name else int(name.rpartition("_")[2])
            frames = full.reference_frames if "video" in name else 1
            assert fixed + frames * full.ovp.num_queries + kept == length


def test_a_tokenizer_with_other_ids_is_noticed():
    tokenizer = TableTokenizer({}, seg_id=1, eos_id=0)
    with pytest.raises(KeyError):
        build_prompt(tokenizer, "referring", "the dog")


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("referring", "the dog", "the dog."),
        ("referring", ["the dog", "a brown one"], "the dog. a brown one."),
        ("video_referring", "the dog", "the dog."),
        ("video_referring", ["A dog", "it runs"], "A dog. it runs."),
        ("reasoning", "  What barks?  ", "What barks?"),
        ("reasoning", ["What barks?", "ignored"], "What barks?"),
        ("video_reasoning", "Which dog(s) bark(s)? ", "Which dog bark?"),
    ],
)
def test_cleaning(task: str, given: str | list[str], expected: str):
    assert clean_instruction(task, given) == expected


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_prompt_has_each_placeholder_once_and_ends_the_same(task: str, template: str):
    prompt = build_prompt(tiny_tokenizer(), task, "the dog", template)
    for placeholder in PLACEHOLDERS.values():
        assert (prompt.ids == placeholder).sum() == 1
    assert prompt.ids[-1] == prompt.eos_id
    assert prompt.refer_ids[-1] == tiny_tokenizer().seg_id
    assert (prompt.task, prompt.template) == (task, template)
    assert prompt.text.endswith(" ASSISTANT: \nSure, the segmentation result is [SEG]<seg><|endoftext|>")


def test_paper_template_names_task_and_medium():
    assert "You need to perform Referring Expression Segmentation on the image according to" in prompt_text(
        "res", "paper"
    )
    assert "You need to perform Reasoning Video Object Segmentation on the video according to" in prompt_text(
        "revos", "paper"
    )
    assert len({prompt_text(task, template) for task in TASKS for template in TEMPLATES}) == 8


def test_short_names_are_the_data_sets():
    assert [find_task(alias).name for alias in ("res", "reasonseg", "rvos", "revos")] == list(TASKS)


@pytest.mark.parametrize("given", ["", "   ", [], ["the dog", " "]])
def test_empty_instruction(given: str | list[str]):
    with pytest.raises(InputError, match="the instruction is empty; expected words"):
        clean_instruction("referring", given)


def test_instruction_that_is_no_text():
    with pytest.raises(InputError, match="the instruction is 3; expected text"):
        clean_instruction("referring", [3])


def test_unknown_task_and_template():
    with pytest.raises(InputError, match="unknown task 'refering'; did you mean 'referring'"):
        find_task("refering")
    with pytest.raises(InputError, match="unknown template 'papers'; did you mean 'paper'"):
        prompt_text("referring", "papers")


def _prompt(n_text: int, n_refer: int) -> Prompt:
    ids = torch.tensor([*range(n_text), *PLACEHOLDERS.values()])
    return Prompt(
        task="referring",
        template="released",
        text="",
        instruction="",
        ids=ids,
        refer_ids=torch.arange(n_refer),
        eos_id=0,
    )


def test_length_limit_is_exact():
    check_length(_prompt(69, 11), n_visual=857, n_queries=100, limit=1037)
    with pytest.raises(InputError, match="the instruction is 11 tokens long; expected at most 10 beside 1026 tokens"):
        check_length(_prompt(69, 12), n_visual=857, n_queries=100, limit=1037)
    with pytest.raises(InputError, match="expected at most 0 beside"):
        check_length(_prompt(69, 2), n_visual=857, n_queries=100, limit=10)

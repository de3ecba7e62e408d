"""Builds the small model's tokenizer from the instructions of generated scenes and the fixed prompt texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from leanseg.data import scenes
from leanseg.data.scenes import SceneOptions, generate_scene
from leanseg.models.instructseg.prompt import PLACEHOLDERS, TASKS, clean_instruction, prompt_text
from leanseg.models.instructseg.tokenizer import END_OF_TEXT, SEG, TextTokenizer, train_tokenizer


def scene_texts(n_scenes: int, *, clips_every: int = 10) -> Iterable[str]:
    """Yield the instructions of training scenes and clips, those that a tokenizer is learnt from."""
    options = SceneOptions(n_instructions=16)
    for seed in range(n_scenes):
        drawn = list(generate_scene(seed, options).instructions)
        if seed % clips_every == 0:
            drawn += scenes.generate_clip(seed, options).instructions
        yield from (clean_instruction("referring", one.text) for one in drawn)


def fixed_texts() -> list[str]:
    """Return the texts between the placeholders of every prompt of the released template, longest first."""
    marks = "|".join(re.escape(mark) for mark in (*PLACEHOLDERS, SEG, END_OF_TEXT))
    texts = {part for task in TASKS for part in re.split(marks, prompt_text(task)) if len(part.strip()) > 1}
    return sorted(texts, key=lambda text: (-len(text), text))


def build_tokenizer(texts: Iterable[str], *, vocabulary: int = 3000) -> TextTokenizer:
    """Learn a lower-casing byte-level BPE from `texts`, so that no input is unknown; deterministic for given texts.

    The fixed texts of the prompts are single tokens: they carry no information, and the language model need not read
    sixty tokens to learn so.
    """
    return train_tokenizer(
        texts, vocab_size=vocabulary, lower_case=True, prefix_space=True, min_frequency=2, whole_texts=fixed_texts()
    )


def write_tokenizer(directory: Path, *, n_scenes: int = 5000) -> TextTokenizer:
    """Build the shipped model's tokenizer and write it into `directory`."""
    tokenizer = build_tokenizer(scene_texts(n_scenes))
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(directory)
    return tokenizer

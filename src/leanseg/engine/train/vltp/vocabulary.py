"""Builds the small guide's tokenizer from the instructions of generated scenes and the conversations' fixed texts."""

from __future__ import annotations

from collections.abc import Iterable

from leanseg.engine.train.vocabulary import scene_texts
from leanseg.models.vltp.conversation import TEMPLATES, TRAIN_ANSWERS, TRAIN_QUESTIONS
from leanseg.models.vltp.tokenizer import GuideTokenizer, train_guide_tokenizer


def build_guide_tokenizer(
    texts: Iterable[str], *, vocabulary: int = 2000, template: str = "llava_v1"
) -> GuideTokenizer:
    """Learn a lower-casing byte-level BPE from `texts` and the answers, so that no input is unknown; deterministic.

    What every conversation of the template says alike becomes single tokens: there is nothing to read in it.
    """
    said = TEMPLATES[template]
    questions = [question.partition("{}")[2] for question in TRAIN_QUESTIONS]
    return train_guide_tokenizer(
        [*texts, *TRAIN_ANSWERS],
        vocab_size=vocabulary,
        lower_case=True,
        prefix_space=True,
        min_frequency=2,
        whole_texts=[said.before, *questions, said.asked],
    )


def scene_tokenizer(template: str, n_scenes: int = 2000) -> GuideTokenizer:
    """Build the tokenizer of the generated scenes' sentences, those of training."""
    return build_guide_tokenizer(scene_texts(n_scenes), template=template)

"""The guide's text to ids: LLaMA's tokenizer, or a small model's own, with [SEG] and the marks around a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.files import write_json
from leanseg.models.instructseg.tokenizer import TOKENIZER_FILE, read_backend, train_backend

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
SEG, IMAGE_START, IMAGE_END = "[SEG]", "<im_start>", "<im_end>"
SPECIAL = (UNKNOWN, START, END, SEG, IMAGE_START, IMAGE_END)


class GuideTokenizer:
    """Encodes text without adding special tokens; marks inside a text become one id each.

    [SEG]'s id is looked up, never encoded: LLaMA's tokenizers may put a blank before an encoded mark (a trap of LISA).
    """

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self.start_id, self.end_id, self.seg_id, _, _ = (self._required(mark) for mark in SPECIAL[1:])

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding table needs at least."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text chunk."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and the small file that Hugging Face's loader reads beside it."""
        directory = Path(directory)
        self.backend.save(str(directory / TOKENIZER_FILE))
        special = {"bos_token": START, "eos_token": END, "unk_token": UNKNOWN, "pad_token": UNKNOWN}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
        write_json(directory / "tokenizer_config.json", config)

    def _required(self, token: str) -> int:
        found = self.backend.token_to_id(token)
        if found is None:
            raise WeightsError(
                f"the tokenizer has no token {token!r}; expected LISA's: LLaMA's with {', '.join(SPECIAL[3:])} added; "
                "take tokenizer.json and added_tokens.json of the weights"
            )
        return int(found)


def load_guide_tokenizer(directory: str | Path) -> GuideTokenizer:
    """Read the tokenizer of a model folder (tokenizer.json)."""
    return GuideTokenizer(read_backend(directory))


def train_guide_tokenizer(texts: Iterable[str], *, vocab_size: int, **options: Any) -> GuideTokenizer:
    """Train a tokenizer of at most `vocab_size` ids on `texts`; options of `train_backend`."""
    return GuideTokenizer(train_backend(texts, SPECIAL, vocab_size=vocab_size, **options))


def check_instruction(instruction: str) -> None:
    """Refuse an instruction that holds a mark, which would be read as one.

    >>> check_instruction("the red cup")
    """
    held = [mark for mark in SPECIAL if mark in instruction]
    if held:
        raise InputError(
            f"the instruction holds {', '.join(held)}, by which the model marks something else; expected words; "
            "leave it out"
        )

"""Text to token ids: a byte-level BPE read from the release's tokenizer.json, never from remote code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from leanseg.errors import WeightsError
from leanseg.models.instructseg.files import check_json_size, read_json, write_json

SEG = "[SEG]"
END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """Encodes text without adding special tokens; [SEG] and the end-of-text mark inside a text become one id each."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self.seg_id = self._required(SEG)
        self.eos_id = self._required(END_OF_TEXT)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding table needs at least."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text chunk."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and the two small files that Hugging Face's loader reads beside it."""
        directory = Path(directory)
        self.backend.save(str(directory / TOKENIZER_FILE))
        special = {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk", "pad")}
        write_json(directory / "special_tokens_map.json", special)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
        write_json(directory / "tokenizer_config.json", config)

    def _required(self, token: str) -> int:
        found = self.backend.token_to_id(token)
        if found is None:
            raise WeightsError(
                f"the tokenizer has no token {token!r}; expected an InstructSeg tokenizer; take the release's files"
            )
        return int(found)


def load_tokenizer(directory: str | Path) -> TextTokenizer:
    """Read the tokenizer of a model folder."""
    return TextTokenizer(read_backend(directory))


def read_backend(directory: str | Path) -> Tokenizer:
    """Read `tokenizer.json` of a model folder, and tokens that only `added_tokens.json` lists."""
    path = Path(directory) / TOKENIZER_FILE
    if not path.is_file():
        raise WeightsError(
            f"{directory} has no {TOKENIZER_FILE}; expected it beside config.json; copy it from the release"
        )
    check_json_size(path)
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust parser raises bare Exception
        raise WeightsError(f"{path} cannot be read as a tokenizer ({error}); fetch the file again") from error
    _add_listed_tokens(backend, path.with_name("added_tokens.json"))
    backend.no_padding()
    backend.no_truncation()
    return backend


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, **options: Any) -> TextTokenizer:
    """Train a tokenizer of at most `vocab_size` ids on `texts`; options of `train_backend`."""
    return TextTokenizer(train_backend(texts, (END_OF_TEXT, SEG), vocab_size=vocab_size, **options))


def train_backend(
    texts: Iterable[str],
    special_tokens: Sequence[str],
    *,
    vocab_size: int,
    lower_case: bool = False,
    prefix_space: bool = False,
    min_frequency: int = 0,
    whole_texts: Sequence[str] = (),
) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` ids on `texts`; the same texts give the same tokenizer.

    `special_tokens` have the first ids, in their order. `prefix_space` gives a first word the id that it has after a
    space. Pairs rarer than `min_frequency` are not merged. Each of `whole_texts` becomes one id, beyond `vocab_size`,
    wherever it stands, in its own case.
    """
    backend = Tokenizer(models.BPE())
    if lower_case:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_tokens([AddedToken(text, normalized=False) for text in whole_texts])
    return backend


def _add_listed_tokens(backend: Tokenizer, path: Path) -> None:
    if not path.is_file():
        return
    listed = read_json(path)
    wrong = sorted(token for token, index in listed.items() if type(index) is not int)
    if wrong:
        raise WeightsError(
            f"{path} gives {wrong[0]!r} the id {listed[wrong[0]]!r}; expected a whole number; fetch it again"
        )
    for index, token in sorted((index, token) for token, index in listed.items()):
        if backend.token_to_id(token) is not None:
            continue
        backend.add_tokens([AddedToken(token, normalized=False, special=token == SEG)])
        if backend.token_to_id(token) != index:
            raise WeightsError(
                f"{path} gives {token!r} the id {index}, tokenizer.json leads to {backend.token_to_id(token)}"
            )

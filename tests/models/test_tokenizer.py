"""The tokenizer file: round trip, listed tokens, and broken files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.models.instructseg_fixtures import tiny_tokenizer

from leanseg.errors import WeightsError
from leanseg.models.instructseg import files
from leanseg.models.instructseg.tokenizer import load_tokenizer, train_tokenizer


def test_special_tokens_are_cut_out_of_the_text_and_nothing_is_added():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("the dog is [SEG]<|endoftext|>")
    assert ids[-2:] == [tokenizer.seg_id, tokenizer.eos_id]
    assert ids[:-2] == tokenizer.encode("the dog is ")
    assert tokenizer.encode("") == []


def test_every_text_survives():
    tokenizer = tiny_tokenizer()
    for text in ("Żółw 🐢 left of\n the  dog", "tab\tand \\ and \x00"):
        assert tokenizer.backend.decode(tokenizer.encode(text)) == text


def test_training_is_repeatable_and_keeps_to_the_size():
    texts = ["the red apple", "the dog left of the red apple"]
    first, second = (train_tokenizer(texts, vocab_size=280) for _ in range(2))
    assert first.backend.to_str() == second.backend.to_str()
    assert first.vocab_size <= 280


def test_saved_tokenizer_gives_the_same_ids(tmp_path: Path):
    tiny_tokenizer().save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "Sure, the segmentation result is [SEG]"
    assert loaded.encode(text) == tiny_tokenizer().encode(text)
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["eos_token"] == "<|endoftext|>"


def test_tokens_of_added_tokens_json_are_added_with_their_ids(tmp_path: Path):
    tokenizer = tiny_tokenizer()
    tokenizer.save(tmp_path)
    listed = {"[SEG]": tokenizer.seg_id, "[NEW]": tokenizer.vocab_size, "[NEXT]": tokenizer.vocab_size + 1}
    (tmp_path / "added_tokens.json").write_text(json.dumps(listed))
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode("[NEXT][NEW]") == [tokenizer.vocab_size + 1, tokenizer.vocab_size]
    assert loaded.vocab_size == tokenizer.vocab_size + 2
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[NEW]": 5}))
    with pytest.raises(WeightsError, match=r"gives '\[NEW\]' the id 5, tokenizer.json leads to"):
        load_tokenizer(tmp_path)
    for content, message in (
        ("[1]", "holds a JSON list; expected an object"),
        ('{"[NEW]": 1e400}', r"gives '\[NEW\]' the id inf; expected a whole number"),
    ):
        (tmp_path / "added_tokens.json").write_text(content)
        with pytest.raises(WeightsError, match=message):
            load_tokenizer(tmp_path)


def test_missing_and_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WeightsError, match=r"has no tokenizer.json; expected it beside config.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 1)
    with pytest.raises(WeightsError, match=r"tokenizer.json is 2 bytes large; expected at most 1"):
        load_tokenizer(tmp_path)


def test_tokenizer_without_the_mask_token(tmp_path: Path):
    tiny_tokenizer().save(tmp_path)
    content = (tmp_path / "tokenizer.json").read_text().replace("[SEG]", "[GES]")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=r"has no token '\[SEG\]'"):
        load_tokenizer(tmp_path)

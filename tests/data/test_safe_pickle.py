"""Plain data comes out of a pickle, and nothing else does: whatever is done to the file, the worst is a DataError."""

from __future__ import annotations

import contextlib
import copyreg
import datetime
import json
import pickle
import pickletools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.golden_cases import cases

from leanseg.data import safe_pickle
from leanseg.data.pickle_machine import MAX_DEPTH
from leanseg.data.safe_pickle import loads, read
from leanseg.data.scenes.export.refcoco import old_pickle
from leanseg.errors import DataError

REFS = [
    {
        "ref_id": 7, "split": "testA", "sent_ids": [1, 2], "sentences": [
            {"sent_id": 1, "sent": "the café's dog", "raw": 'A "dog"\\\n', "tokens": ["the", "dog"]},
        ],
    }
]  # fmt: skip
scalar = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    scalar,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("datasets/refer_seg/pickle_safety", "good*.p"))
def test_good_pickles_load(path):
    expected = json.loads((path.parents[1] / "refcocog" / "expected_refs.json").read_text(encoding="utf-8"))
    assert read(path) == expected


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("datasets/refer_seg/pickle_safety", "bad*.p"))
def test_bad_pickles_are_refused(path):
    expected = "truncated or damaged" if "truncated" in path.name else "nothing was run"
    with pytest.raises(DataError, match=expected) as caught:
        read(path)
    assert path.name in str(caught.value)


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("datasets/refer_seg", "refcoco*"))
def test_the_sample_files_load(path):
    (file,) = path.glob("refs(*).p")
    assert read(file) == json.loads((path / "expected_refs.json").read_text(encoding="utf-8"))


@given(plain, st.integers(0, 5))
@settings(deadline=None)
def test_plain_data_comes_back(value, protocol):
    expected = value
    if protocol < 3 and "bytes" in pickletools_names(value):
        return  # older protocols call a function to make bytes
    assert loads(pickle.dumps(value, protocol)) == expected


def pickletools_names(value: object) -> str:
    return "bytes" if any(op.name == "GLOBAL" for op, _, _ in pickletools.genops(pickle.dumps(value, 0))) else ""


def test_text_of_python_2_with_its_escapes():
    assert loads(old_pickle(REFS)) == loads(pickle.dumps(REFS, 2)) == REFS
    assert loads(b"S'\\x41\\102\\t\\q\\'\\\\\\xe9'\n.") == "AB\t\\q'\\é"
    assert loads(b"(I01\nI00\nI7\nL12L\nF2.5\nt.") == (True, False, 7, 12, 2.5)


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), {1, 2}, frozenset([1]), bytearray(b"a"), len, DataError])
@pytest.mark.parametrize("protocol", range(6))
def test_anything_but_plain_data_is_refused(value, protocol):
    with pytest.raises(DataError, match=r"nothing was run|set or a byte array"):
        loads(pickle.dumps([value], protocol))


def test_an_extension_that_is_registered_is_refused_all_the_same(monkeypatch):
    copyreg.add_extension("builtins", "len", 240)
    try:
        with pytest.raises(DataError, match="EXT1"):
            loads(b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("builtins", "len", 240)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without a last instruction"),
        (b".", "leaves 0 values"),
        (b"(.", "leaves 1 values"),
        (b"K\x01K\x02.", "leaves 2 values"),
        (b"\xff.", "no instruction"),
        (b"\x80\x09.", "protocol that does not exist"),
        (b"a.", "more than is there"),
        (b"t.", "more than is there"),
        (b"K\x01l.", "more than is there"),
        (b"(a.", "expects a value"),
        (b"(K\x01a.", "expects a list"),
        (b"]K\x01s.", "expects a value|more than is there"),
        (b"(K\x01d.", "pairs a key with nothing"),
        (b"}K\x01K\x02s.", "no text"),
        (b"(p0\n.", "expects a value"),
        (b"g7\n.", "never memorised"),
        (b"]2.", "doubles"),
        (b"]p0\ng0\na.", "into itself"),
        (b"Ix\n.", "no whole number"),
        (b"I" + b"9" * 5000 + b"\n.", "no whole number"),
        (b"\x8a\xff" + b"\x01" * 255 + b".", "no whole number"),
        (b"Fx\n.", "no number"),
        (b"Sx\n.", "no quoted text"),
        (b"S'x\n.", "no quoted text"),
        (b"S'x'.", "more than is there"),
        (b"\x8c\x01\xff.", "no text"),
        (b"T\xff\xff\xff\xff.", "negative length"),
        (b"X\xff\xff\xff\xffa.", "more than is there"),
        (b"\x8e" + b"\xff" * 8 + b"a.", "more than is there"),
    ],
)
def test_damaged_pickles_say_where(data, message):
    with pytest.raises(DataError, match=message) as caught:
        loads(data, "refs(unc).p")
    assert "refs(unc).p is truncated or damaged: what stands at byte" in str(caught.value)


def test_a_high_memo_number_costs_nothing():
    assert loads(b"K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.") == (7, 7)


def test_depth_and_repetition_are_bounded(monkeypatch):
    monkeypatch.setattr("leanseg.data.pickle_machine.MAX_VALUES", 300_000)
    deep = b"]" * (MAX_DEPTH + 1) + b"a" * MAX_DEPTH + b"."
    with pytest.raises(DataError, match="deep"):
        loads(b"(" + b"]\x85" * 1 + b"l0" + deep)
    with pytest.raises(DataError, match="deep"):
        loads(b")" + b"\x85" * 200_000 + b".")
    laughs = b"]p0\n0" + b"".join(b"(g%d\ng%d\nlp%d\n0" % (k, k, k + 1) for k in range(30)) + b"g30\n."
    with pytest.raises(DataError, match="more than 300000 values"):
        loads(laughs)


def test_recalled_lists_are_copies():
    value = loads(b"(]p0\ng0\nl.")
    assert value == [[], []] and value[0] is not value[1]
    twice = ["a", {"b": 1}]
    assert loads(pickle.dumps([twice, twice], 2)) == [twice, twice]
    held: list[object] = []
    held.append({"itself": held})
    for protocol in range(6):
        with pytest.raises(DataError, match="puts it into itself"):
            loads(pickle.dumps(held, protocol))


def test_values_are_counted(monkeypatch):
    monkeypatch.setattr("leanseg.data.pickle_machine.MAX_VALUES", 100)
    with pytest.raises(DataError, match="more than 100 values"):
        loads(b"(" + b"N" * 200 + b"l.")


def test_files_are_bounded_and_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no such file: .*refs\(unc\)\.p; give"):
        read(tmp_path / "refs(unc).p")
    (tmp_path / "refs.p").write_bytes(pickle.dumps(REFS))
    assert read(tmp_path / "refs.p") == REFS
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="expected a pickle of at most 10"):
        read(tmp_path / "refs.p")


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutated_and_cut_pickles_never_do_worse_than_a_data_error(data):
    protocol = data.draw(st.integers(0, 5))
    whole = bytearray(pickle.dumps(REFS, protocol))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(0, len(whole)))]
    with contextlib.suppress(DataError):
        loads(bytes(whole))


@given(st.binary(max_size=60))
@example(b"cposix\nsystem\n(S'true'\ntR.")
@settings(max_examples=400, deadline=None)
def test_any_bytes_never_do_worse_than_a_data_error(data):
    with contextlib.suppress(DataError):
        loads(data)

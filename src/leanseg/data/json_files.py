"""JSON of strangers: bounded, and indexed where it is large, so that only places in the file stay in memory.

Annotation files reach a gigabyte. They are read once, value by value; what is kept of each is where it begins and ends,
and it is parsed again when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, final, overload

import numpy as np
from numpy.typing import NDArray

from leanseg.errors import DataError

MAX_WHOLE_BYTES = 256 * 1024 * 1024
MAX_INDEXED_BYTES = 8 * 1024 * 1024 * 1024
MAX_VALUE_BYTES = 64 * 1024 * 1024
MAX_VALUES = 20_000_000
_BLOCK_BYTES = 1024 * 1024
_SPACE = " \t\n\r"
Note = Callable[[Any], None]


def read_json(path: Path, *, encodings: Sequence[str] = ("utf-8",)) -> Any:
    """Return a whole JSON document of at most 256 MiB; the first of `encodings` that fits is taken.

    Raises:
        DataError: the file is missing, too large, or no JSON.
    """
    _check_size(path, MAX_WHOLE_BYTES)
    data = path.read_bytes()
    why: Exception | None = None
    for encoding in encodings:
        try:
            return json.loads(data.decode(encoding))
        except (ValueError, RecursionError) as error:
            why = why or error
    raise _no_json(path, why)


@final
class JsonItems(Sequence[Any]):
    """The values of a JSON array in a file, parsed when asked for."""

    def __init__(self, path: Path, spans: NDArray[np.int64]) -> None:
        self.path, self.spans = path, spans

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        start, end = self.spans[index].tolist()
        return _value_at(self.path, start, end)


@final
class JsonMembers:
    """The members of a JSON object in a file, parsed when asked for."""

    def __init__(self, path: Path, spans: dict[str, tuple[int, int]]) -> None:
        self.path, self.spans = path, spans

    def __len__(self) -> int:
        return len(self.spans)

    def __contains__(self, key: str) -> bool:
        return key in self.spans

    def __getitem__(self, key: str) -> Any:
        return _value_at(self.path, *self.spans[key])


def index_array(path: Path, note: Note | None = None) -> JsonItems:
    """Return the values of a file that holds one JSON array; `note` sees each value once, its text undecoded."""
    with _cursor(path) as cursor:
        items = JsonItems(path, cursor.array(note))
        cursor.end()
    return items


def index_arrays(path: Path, notes: dict[str, Note]) -> dict[str, JsonItems]:
    """Return the arrays named in `notes` of a file that holds one JSON object; other members are passed over."""
    found: dict[str, JsonItems] = {}
    with _cursor(path) as cursor:
        for key in cursor.names():
            if key in notes:
                found[key] = JsonItems(path, cursor.array(notes[key]))
            else:
                cursor.value()
        cursor.end()
    lacking = [key for key in notes if key not in found]
    if lacking:
        raise DataError(f"{path} has no member {', '.join(lacking)}; expected an annotation file; get it again")
    return found


def index_members(path: Path) -> JsonMembers:
    """Return the members of a file that holds one JSON object."""
    spans: dict[str, tuple[int, int]] = {}
    with _cursor(path) as cursor:
        for key in cursor.names():
            _, start, end = cursor.value()
            spans[key] = start, end
        cursor.end()
    return JsonMembers(path, spans)


def _value_at(path: Path, start: int, end: int) -> Any:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return json.loads(file.read(end - start).decode("utf-8"))
    except (ValueError, RecursionError, FileNotFoundError) as error:
        raise _no_json(path, error) from None


def _check_size(path: Path, most: int) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise DataError(f"no such file: {path}; give the folder of the data set") from None
    if size > most:
        raise DataError(f"{path} has {size} bytes; expected JSON of at most {most}; get the file again")


def _no_json(path: Path, why: object) -> DataError:
    reason = "nested too deeply" if isinstance(why, RecursionError) else " ".join(str(why).split())[:160]
    return DataError(f"{path} cannot be read as JSON ({reason}); the file is truncated or damaged; get it again")


def _cursor(path: Path) -> _Cursor:
    _check_size(path, MAX_INDEXED_BYTES)
    return _Cursor(path)


@final
class _Cursor:
    """Walks through a JSON file by values; bytes are taken for characters, so that places are those of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("rb")
        self._text, self._at, self._base, self._whole = "", 0, 0, False
        self._decode = json.JSONDecoder().raw_decode

    def __enter__(self) -> _Cursor:
        if self._more() and self._text.startswith("\xef\xbb\xbf"):
            self._at = 3
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _more(self) -> bool:
        """Read on, at least doubling what is not done with; return whether there was more."""
        if self._whole:
            return False
        self._text, self._base, self._at = self._text[self._at :], self._base + self._at, 0
        block = self._file.read(max(_BLOCK_BYTES, len(self._text)))
        self._text += block.decode("latin-1")
        self._whole = not block
        return not self._whole

    def _peek(self) -> str:
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, expected: str) -> str:
        found = self._peek()
        if not found or found not in expected:
            what = f"{found!r}" if found else "the end"
            raise _no_json(self.path, f"{what} at byte {self._base + self._at} instead of one of {' '.join(expected)}")
        self._at += 1
        return found

    def value(self) -> tuple[Any, int, int]:
        """Return the next value and where it begins and ends in the file."""
        self._peek()
        # Reading on moves the window; then the value is decoded again from its new place.
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > MAX_VALUE_BYTES or not self._more():
                    raise _no_json(self.path, error) from None
            else:
                # A number at the rim of the window may go on behind it.
                if end < len(self._text) or not self._more():
                    break
        start = self._base + self._at
        span = start, start + end - self._at
        self._at = end
        return value, *span

    def array(self, note: Note | None) -> NDArray[np.int64]:
        """Return where each value of the array that comes next begins and ends."""
        self._take("[")
        spans: list[tuple[int, int]] = []
        if self._peek() == "]":
            self._take("]")
            return np.zeros((0, 2), dtype=np.int64)
        while True:
            value, start, end = self.value()
            spans.append((start, end))
            if len(spans) > MAX_VALUES:
                raise DataError(f"{self.path} holds more than {MAX_VALUES} values; get the file again")
            if note is not None:
                note(value)
            if self._take(",]") == "]":
                return np.array(spans, dtype=np.int64)

    def names(self) -> Iterator[str]:
        """Yield the keys of the object that comes next; the caller takes the value before asking for the next key."""
        self._take("{")
        if self._peek() == "}":
            self._take("}")
            return
        while True:
            key, _, _ = self.value()
            if not isinstance(key, str):
                raise _no_json(self.path, "a key that is no text")
            self._take(":")
            yield key.encode("latin-1", "replace").decode("utf-8", "replace")
            if self._take(",}") == "}":
                return

    def end(self) -> None:
        """Refuse anything behind the last value."""
        if self._peek():
            raise _no_json(self.path, f"more than one value: another begins at byte {self._base + self._at}")

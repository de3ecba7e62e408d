"""The stack machine of the pickle format, less everything that reaches beyond plain data.

What each instruction does stands in `pickle_steps`. A read beyond the end of the file is an IndexError inside and
becomes a DataError with the place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, final

from leanseg.errors import DataError

MAX_VALUES = 10_000_000
MAX_DEPTH = 32
MAX_INTEGER_BYTES = 16
_MAX_LINE_BYTES = 1024 * 1024

_FORBIDDEN = {
    b"c": "GLOBAL", b"\x93": "STACK_GLOBAL", b"R": "REDUCE", b"b": "BUILD", b"i": "INST", b"o": "OBJ",
    b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX", b"P": "PERSID", b"Q": "BINPERSID", b"\x82": "EXT1", b"\x83": "EXT2",
    b"\x84": "EXT4", b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
}  # fmt: skip
_UNNEEDED = {b"\x8f": "EMPTY_SET", b"\x90": "ADDITEMS", b"\x91": "FROZENSET", b"\x96": "BYTEARRAY8"}
SCALARS = frozenset({int, str, float, bool, bytes, type(None)})
MARK = object()  # where a list, tuple or dict that is being gathered begins


@final
class Machine:
    """Runs one pickle; `name` is what errors call the file."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.values = 0
        self._copied: dict[int, Any] = {}

    def run(self, steps: Sequence[Callable[[Machine], None] | None]) -> Any:
        """Return what the pickle builds; `steps` holds one step per instruction byte, None for refused ones."""
        data, end = self.data, len(self.data)
        while self.at < end:
            code = data[self.at]
            if code == 0x2E:
                if len(self.stack) != 1 or self.stack[0] is MARK:
                    raise self.damaged(f"leaves {len(self.stack)} values at the end instead of one")
                return self.stack[0]
            step = steps[code]
            if step is None:
                raise self._refusal(bytes([code]))
            self.at += 1
            try:
                step(self)
            except (IndexError, struct.error):
                raise self.damaged("needs more than is there") from None
        raise self.damaged("ends without a last instruction")

    def _refusal(self, code: bytes) -> DataError:
        if code in _FORBIDDEN:
            return DataError(
                f"{self.name} asks for code to be run or objects to be made (instruction {_FORBIDDEN[code]} at byte "
                f"{self.at}); expected lists, dicts, text and numbers only, and nothing was run; do not use this file, "
                "get it from where the data set is published"
            )
        if code in _UNNEEDED:
            return DataError(
                f"{self.name} holds a set or a byte array (instruction {_UNNEEDED[code]} at byte {self.at}); expected "
                "lists, dicts, text and numbers only; get the file again"
            )
        return self.damaged("is no instruction of a pickle")

    def damaged(self, why: str) -> DataError:
        """Return the error of a file that is not whole."""
        return DataError(
            f"{self.name} is truncated or damaged: what stands at byte {self.at} {why}; expected a whole pickle; get "
            "the file again"
        )

    def push(self, value: Any) -> None:
        """Push one more value, counted."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.too_much()
        self.stack.append(value)

    def too_much(self) -> DataError:
        """Return the error of a file that builds without measure."""
        return DataError(
            f"{self.name} holds more than {MAX_VALUES} values, or repeats and nests them more than {MAX_DEPTH} deep; "
            "that is no annotation file; get it again"
        )

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if self.at + count > len(self.data):
            raise IndexError
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def line(self) -> bytes:
        """Return the bytes up to the next line feed."""
        end = self.data.find(b"\n", self.at, self.at + _MAX_LINE_BYTES)
        if end < 0:
            raise IndexError
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def gathered(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise IndexError
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def pop(self) -> Any:
        """Pop one value."""
        value = self.stack.pop()
        if value is MARK:
            raise self.damaged("expects a value before it")
        return value

    def top(self, kind: type) -> Any:
        """Return the last value, a list or dict that is to be filled."""
        if type(self.stack[-1]) is not kind:
            raise self.damaged(f"expects a {kind.__name__} before it")
        if id(self.stack[-1]) in self._copied:
            raise self.damaged("changes a value that was used already, or puts it into itself")
        return self.stack[-1]

    def fill(self, target: dict[Any, Any], flat: list[Any]) -> dict[Any, Any]:
        """Put keys and values, one after the other in `flat`, into a dict."""
        if len(flat) % 2:
            raise self.damaged("pairs a key with nothing")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if type(key) is not str:  # numbers could be chosen to collide
                raise self.damaged("uses as a key what is no text")
            target[key] = value
        return target

    def number(self, text: bytes) -> int:
        """Return a whole number from digits, bounded."""
        try:
            if len(text) > 3 * MAX_INTEGER_BYTES:
                raise ValueError
            return int(text)
        except ValueError:
            raise self.damaged("is no whole number of reasonable length") from None

    def text(self, data: bytes, encoding: str) -> str:
        """Return text."""
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            raise self.damaged("is no text") from None

    def memorise(self, index: int) -> None:
        """Remember the last value."""
        if self.stack[-1] is MARK:
            raise self.damaged("expects a value before it")
        self.memo[index] = self.stack[-1]

    def recall(self, value: Any) -> None:
        """Push a value again; a list, tuple or dict as a copy, so that none can hold itself or grow without end."""
        if type(value) not in SCALARS:
            self._copied[id(value)] = value
            value = self._copy(value, MAX_DEPTH)
        self.push(value)

    def _copy(self, value: Any, depth: int) -> Any:
        self.values += 1
        if depth == 0 or self.values > MAX_VALUES:
            raise self.too_much()
        if type(value) is dict:
            return {key: self._copy(entry, depth - 1) for key, entry in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._copy(entry, depth - 1) for entry in value)
        return value

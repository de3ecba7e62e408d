"""The instructions of a pickle that build plain data, one step each; their names are those of `pickletools`."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from leanseg.data.pickle_machine import MARK, MAX_INTEGER_BYTES, SCALARS, Machine

Step = Callable[[Machine], None]
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _value(make: Callable[[Machine], Any]) -> Step:
    def step(machine: Machine) -> None:
        machine.push(make(machine))

    return step


def _unpacked(form: str) -> Callable[[Machine], Any]:
    width = struct.calcsize(form)
    return lambda machine: struct.unpack(form, machine.take(width))[0]


def _sized(form: str, make: Callable[[Machine, bytes], Any]) -> Step:
    """Return the step of an instruction whose bytes follow their length."""
    length = _unpacked(form)

    def step(machine: Machine) -> None:
        count = length(machine)
        if count < 0:
            raise machine.damaged("has a negative length")
        machine.push(make(machine, machine.take(count)))

    return step


def _int(machine: Machine) -> int | bool:
    text = machine.line()
    # Protocol 0 and 1 write booleans as numbers with a leading zero.
    return text == b"01" if text in (b"00", b"01") else machine.number(text)


def _float(machine: Machine) -> float:
    text = machine.line()
    try:
        return float(text[: 3 * MAX_INTEGER_BYTES])
    except ValueError:
        raise machine.damaged("is no number") from None


def _string(machine: Machine) -> str:
    """Return a text that Python 2 wrote as a literal."""
    text = machine.line()
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise machine.damaged("is no quoted text")
    text = text[1:-1]
    return (_ESCAPE.sub(_unescaped, text) if b"\\" in text else text).decode("latin-1")


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[0] < 0x38:
        return bytes([int(code, 8) & 0xFF])
    return _ESCAPED.get(code, code if code in (b"'", b'"', b"\\") else b"\\" + code)


def _integer(machine: Machine, data: bytes) -> int:
    if len(data) > MAX_INTEGER_BYTES:
        raise machine.damaged("is no whole number of reasonable length")
    return int.from_bytes(data, "little", signed=True)


def _tuple(count: int) -> Step:
    def step(machine: Machine) -> None:
        machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

    return step


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: Machine) -> None:
    values = machine.gathered()
    machine.top(list).extend(values)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(dict), [key, value])


def _set_items(machine: Machine) -> None:
    values = machine.gathered()
    machine.fill(machine.top(dict), values)


def _get(index: Callable[[Machine], Any]) -> Step:
    def step(machine: Machine) -> None:
        number = index(machine)
        if number not in machine.memo:
            raise machine.damaged("recalls a value that was never memorised")
        machine.recall(machine.memo[number])

    return step


def _put(index: Callable[[Machine], Any]) -> Step:
    return lambda machine: machine.memorise(index(machine))


def _pop(machine: Machine) -> None:
    machine.stack.pop()


def _again(machine: Machine) -> None:
    if type(machine.stack[-1]) not in SCALARS:
        raise machine.damaged("doubles what is no text or number")
    machine.push(machine.stack[-1])


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] > 5:
        raise machine.damaged("names a protocol that does not exist")


def _latin(machine: Machine, data: bytes) -> str:
    return machine.text(data, "latin-1")


def _utf8(machine: Machine, data: bytes) -> str:
    return machine.text(data, "utf-8")


def _bytes(machine: Machine, data: bytes) -> bytes:
    return data


def _mark(machine: Machine) -> None:
    machine.push(MARK)


def _nothing(machine: Machine) -> None:
    """FRAME: only a hint for reading ahead."""
    machine.take(8)


_TABLE: dict[bytes, Step] = {
    b"(": _mark, b"0": _pop, b"1": lambda machine: machine.gathered().clear(), b"2": _again,
    b"\x80": _protocol, b"\x95": _nothing,
    b"N": _value(lambda machine: None), b"\x88": _value(lambda machine: True), b"\x89": _value(lambda machine: False),
    b"I": _value(_int), b"L": _value(lambda machine: machine.number(machine.line().removesuffix(b"L"))),
    b"K": _value(_unpacked("<B")), b"M": _value(_unpacked("<H")), b"J": _value(_unpacked("<i")),
    b"\x8a": _sized("<B", _integer), b"\x8b": _sized("<i", _integer),
    b"F": _value(_float), b"G": _value(_unpacked(">d")),
    b"S": _value(_string), b"U": _sized("<B", _latin), b"T": _sized("<i", _latin),
    b"V": _value(lambda machine: machine.text(machine.line(), "raw-unicode-escape")),
    b"\x8c": _sized("<B", _utf8), b"X": _sized("<I", _utf8), b"\x8d": _sized("<Q", _utf8),
    b"C": _sized("<B", _bytes), b"B": _sized("<I", _bytes), b"\x8e": _sized("<Q", _bytes),
    b"]": _value(lambda machine: []), b"}": _value(lambda machine: {}), b")": _value(lambda machine: ()),
    b"l": _value(lambda machine: machine.gathered()), b"t": _value(lambda machine: tuple(machine.gathered())),
    b"d": _value(lambda machine: machine.fill({}, machine.gathered())),
    b"\x85": _tuple(1), b"\x86": _tuple(2), b"\x87": _tuple(3),
    b"a": _append, b"e": _extend, b"s": _set_item, b"u": _set_items,
    b"g": _get(lambda machine: machine.number(machine.line())), b"h": _get(_unpacked("<B")),
    b"j": _get(_unpacked("<I")), b"p": _put(lambda machine: machine.number(machine.line())),
    b"q": _put(_unpacked("<B")), b"r": _put(_unpacked("<I")),
    b"\x94": lambda machine: machine.memorise(len(machine.memo)),
}  # fmt: skip
STEPS: tuple[Step | None, ...] = tuple(_TABLE.get(bytes([code])) for code in range(256))
"""One step per instruction byte; None where the instruction is refused."""

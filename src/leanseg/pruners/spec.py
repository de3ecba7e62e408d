"""Spec strings: a pruner in one line, `evtp(keep_ratio=0.2)`, parsed and never evaluated."""

import ast
import hashlib
import importlib.util
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from leanseg.errors import LeansegError, SpecError, unknown_name
from leanseg.pruners.base import Pruner
from leanseg.pruners.registry import LEARNED, PRUNERS, WRAPPERS

LONGEST = 500
DEEPEST = 4
_FILE = re.compile(r"(?P<path>[^()]+\.py):(?P<rest>[A-Za-z_]\w*(?:\(.*\))?)", re.DOTALL)
_GRAMMAR = "expected name or name(key=value, ...), as in evtp(keep_ratio=0.2)"


def pruner(
    spec: str, *, keep_ratio: float | None = None, allow_files: bool = True, learned: Mapping[str, Any] | None = None
) -> Pruner:
    """Return the pruner that `spec` describes.

    `name(key=value, ...)` with a name of `PRUNERS` or `WRAPPERS`; a value is a Python literal or, for wrappers, another
    such spec, at most 4 deep and 500 characters. `keep_ratio` serves where the spec names none. With `allow_files`,
    `mine.py:Mine(keep_ratio=0.2)` takes the class `Mine` from a file, which RUNS that file: leave it off for anything
    that comes from a network, a record or a configuration file. `learned`: a model's modules, by the names of the
    fields that hold them and that no text can; with them the names of `LEARNED` are known too.

    >>> pruner("random(seed=3)", keep_ratio=0.1)
    Random(keep_ratio=0.1, seed=3)
    """
    if not isinstance(spec, str):
        raise SpecError(f"a pruner spec is a string, not {type(spec).__name__}; {_GRAMMAR}")
    if len(spec) > LONGEST:
        raise SpecError(f"the pruner spec is {len(spec)} characters long; at most {LONGEST} are read")
    text = spec.strip()
    known = _Known(learned)
    in_file = _FILE.fullmatch(text)
    if in_file is None:
        return _build(_parse(text), known, keep_ratio, depth=1)
    if not allow_files:
        raise SpecError(f"pruners from files are not accepted here, only registered names: {', '.join(known.classes)}")
    node = _parse(in_file["rest"])
    outer = node.func if isinstance(node, ast.Call) else node
    if isinstance(outer, ast.Name):  # only the outermost name is the file's; specs inside it are registered ones
        known.classes[outer.id] = _from_file(in_file["path"], outer.id)
    return _build(node, known, keep_ratio, depth=1)


class _Known:
    """The classes that a spec may name, and what the fields without a text hold."""

    def __init__(self, learned: Mapping[str, Any] | None) -> None:
        self.classes: dict[str, type[Pruner]] = {**PRUNERS, **WRAPPERS, **({} if learned is None else LEARNED)}
        self.learned = learned or {}

    def find(self, name: str) -> type[Pruner]:
        if name in LEARNED and name not in self.classes:
            raise SpecError(
                f"{name!r} is a stage method of VLTP models, which choose tokens inside SAM by what they have learnt; "
                "expected a pruner that needs no model: take one of `leanseg pruners`, such as evtp, or segment with a "
                "VLTP model, such as vltp-nano"
            )
        if name not in self.classes:
            raise SpecError(unknown_name("pruner", name, self.classes))
        return self.classes[name]


def _parse(text: str) -> ast.expr:
    # A backslash has no use in a spec, and Python warns about unknown escapes.
    if not text or "\\" in text:
        raise SpecError(f"cannot read the pruner spec {text!r}; {_GRAMMAR}")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise SpecError(f"cannot read the pruner spec {text!r} ({reason}); {_GRAMMAR}") from None


def _build(node: ast.expr, names: _Known, keep_ratio: float | None, depth: int) -> Pruner:
    if depth > DEEPEST:
        raise SpecError(f"the pruner spec is nested more than {DEEPEST} deep")
    named = node.func if isinstance(node, ast.Call) else node
    if not isinstance(named, ast.Name):
        raise SpecError(f"cannot read {ast.unparse(node)!r} as a pruner; {_GRAMMAR}")
    made = names.find(named.id)
    values: dict[str, Any] = {}
    for argument in node.keywords if isinstance(node, ast.Call) else []:
        if argument.arg is None:
            raise SpecError(f"{named.id}(**...) is not possible in a pruner spec; {_GRAMMAR}")
        if argument.arg in values:
            raise SpecError(f"{named.id}: {argument.arg} is given twice")
        values[argument.arg] = _value(argument.value, names, _own_ratio(node, keep_ratio), depth)
    if isinstance(node, ast.Call) and node.args:
        raise SpecError(f"write a name before each value of {named.id}(...): {_GRAMMAR}")
    known = [field.name for field in fields(made) if field.init and field.repr]
    for key in values:
        if key not in known:
            raise SpecError(f"{named.id}: {unknown_name('option', key, known)}")
    if "keep_ratio" in known and "keep_ratio" not in values and keep_ratio is not None:
        values["keep_ratio"] = keep_ratio
    values |= {field.name: names.learned[field.name] for field in fields(made) if field.name in names.learned}
    needed = [field.name for field in fields(made) if field.init and field.default is MISSING]
    missing = [name for name in needed if name not in values and _has_no_factory(made, name)]
    if missing:
        example = f"{named.id}(keep_ratio=0.2)" if missing == ["keep_ratio"] else f"{named.id}({missing[0]}=...)"
        raise SpecError(f"{named.id} needs {' and '.join(missing)}; write {example}")
    try:
        return made(**values)
    except LeansegError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"{named.id} cannot be made from {ast.unparse(node)!r}: {error}") from error


def _own_ratio(node: ast.expr, keep_ratio: float | None) -> float | None:
    """Return the keep ratio that specs inside `node` inherit: the one written there, else the grid's."""
    for argument in node.keywords if isinstance(node, ast.Call) else []:
        if argument.arg == "keep_ratio" and isinstance(argument.value, ast.Constant):
            value = argument.value.value
            return value if isinstance(value, int | float) else keep_ratio
    return keep_ratio


def _value(node: ast.expr, names: _Known, keep_ratio: float | None, depth: int) -> Any:
    if isinstance(node, ast.Call):
        return _build(node, names, keep_ratio, depth + 1)
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        written = ast.unparse(node)
        hint = f"; write '{written}' in quotes, or {written}(...)" if isinstance(node, ast.Name) else ""
        raise SpecError(f"{written!r} is not a literal{hint}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{ast.unparse(node)!r} is not a finite number")
    return value


def _has_no_factory(made: type[Pruner], name: str) -> bool:
    return next(field for field in fields(made) if field.name == name).default_factory is MISSING


def _from_file(given: str, name: str) -> type[Pruner]:
    path = Path(given).expanduser()
    try:
        stamp = f"{path.resolve()} {path.stat().st_mtime_ns}"
    except OSError:
        raise SpecError(f"there is no file {given!r} to take the pruner {name} from") from None
    # One module per version of the file: the same class again for the same file, so that pickling works.
    module_name = f"leanseg_file_{path.stem}_{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    module = sys.modules.get(module_name)
    if module is None:
        found = importlib.util.spec_from_file_location(module_name, path)
        if found is None or found.loader is None:
            raise SpecError(f"{given!r} is not a Python file")
        module = importlib.util.module_from_spec(found)
        sys.modules[module_name] = module
        try:
            found.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise SpecError(f"{given!r} failed while it was run: {type(error).__name__}: {error}") from error
    classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Pruner)]
    if name not in classes:
        own = [key for key in classes if vars(module)[key].__module__ == module_name]
        raise SpecError(f"{given!r}: {unknown_name('pruner class', name, own)}")
    made: type[Pruner] = vars(module)[name]
    if not made.name:
        made.name = f"{given}:{name}"
    return made

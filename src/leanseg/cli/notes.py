"""What the reader of a result should know: the shipped model was trained on generated scenes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SMALL_MODELS = ("instructseg-nano", "vltp-nano")
# Trained on instructions of the scenes' TASK_KINDS alone.
TAUGHT_TASKS = ("vltp-nano",)
_IGNORED = str.maketrans(dict.fromkeys('.!;:"()', " "))
RELEASED = "leanseg segment ... --model instructseg --weights weic22/InstructSeg --dtype bfloat16"


def notes(source: Path, instructions: Sequence[str], model: str, weights: str | None = None) -> list[str]:
    """Return the sentences for a request to `model`; none for others than the small ones with their own weights."""
    if model not in SMALL_MODELS or weights is not None:
        return []
    said = []
    if not is_generated(source):
        said.append(
            f"{model} was trained on generated scenes only; on a photograph or any other picture its masks mean "
            f"little. For those load InstructSeg's released weights (7.4 GB): {RELEASED}"
        )
    unknown = unknown_words(instructions)
    if unknown:
        said.append(f"{model} has never seen the {_quoted(unknown)}; expect a guess")
    untaught = untaught_words(instructions) if model in TAUGHT_TASKS else []
    if untaught:
        said.append(
            f"{model} was taught to find things by name, kind or use, not by place, size or colour: never the "
            f"{_quoted(untaught)}; expect a guess, or ask instructseg-nano"
        )
    return said


def is_generated(source: Path) -> bool:
    """Return whether a picture, or a folder's first one, says that `leanseg scenes` made it, or comes with leanseg."""
    from importlib.resources import files

    from leanseg.data.scenes.export.files import SCENE_MARK, SOFTWARE_TAG
    from leanseg.engine.images import open_picture
    from leanseg.errors import InputError

    if source.resolve().is_relative_to(Path(str(files("leanseg"))).resolve() / "assets"):
        return True
    if source.is_dir():
        pictures = sorted(path for path in source.iterdir() if path.suffix.lower() in {".png", ".jpg"})
        return bool(pictures) and is_generated(pictures[0])
    with suppress(InputError, OSError, ValueError, SyntaxError), open_picture(source) as picture:
        return picture.getexif().get(SOFTWARE_TAG) == SCENE_MARK
    return False


def unknown_words(instructions: Sequence[str]) -> list[str]:
    """Return the words that no generated instruction holds, in order of appearance, each once.

    >>> unknown_words(["the zeppelin left of the red apple"])
    ['zeppelin']
    """
    from leanseg.data.scenes.phrasing import vocabulary

    known = set(vocabulary())
    return [word for word in _asked(instructions) if word not in known]


def untaught_words(instructions: Sequence[str]) -> list[str]:
    """Return the words of generated instructions that tell no kind and no use, in order of appearance, each once.

    >>> untaught_words(["the largest zeppelin", "the apple left of the largest car"])
    ['largest', 'left']
    """
    from leanseg.data.scenes.phrasing import words_beyond_tasks

    untaught = set(words_beyond_tasks())
    return [word for word in _asked(instructions) if word in untaught]


def _asked(instructions: Sequence[str]) -> list[str]:
    from leanseg.data.scenes.phrasing import words

    return list(dict.fromkeys(word for text in instructions for word in words(text.lower().translate(_IGNORED))))


def _quoted(found: Sequence[str]) -> str:
    return f"word{'s' if len(found) > 1 else ''} {', '.join(repr(word) for word in found)}"

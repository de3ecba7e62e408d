"""What a caller hands to a segmenter, checked before any long work: instructions, and frames one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from leanseg.errors import InputError
from leanseg.limits import check_picture_size

MAX_INSTRUCTION_CHARACTERS = 4000


def as_list(instruction: Any) -> list[Any]:
    """Return one instruction, or several, as a list."""
    if isinstance(instruction, str):
        return [instruction]
    if not isinstance(instruction, Sequence):
        raise InputError(f"the instruction is {instruction!r}; expected text or a list of texts; say what to segment")
    return list(instruction)


def checked_instructions(instructions: Sequence[Any]) -> list[str]:
    """Refuse a list without an instruction, and what is no text, empty, or of unreasonable length."""
    if not instructions:
        raise InputError("the list of instructions is empty; give at least one, such as 'the dog on the left'")
    for instruction in instructions:
        if not isinstance(instruction, str):
            raise InputError(f"the instruction is {instruction!r}; expected text; say in words what to segment")
        if not instruction.strip():
            raise InputError(
                "the instruction is empty; expected words such as 'the dog on the left'; say what to segment"
            )
        if len(instruction) > MAX_INSTRUCTION_CHARACTERS:
            raise InputError(
                f"the instruction is {len(instruction)} characters long; expected at most "
                f"{MAX_INSTRUCTION_CHARACTERS}; shorten the instruction"
            )
    return list(instructions)


def frames_of(clip: Any) -> Iterable[Any]:
    """Return the frames of an image, a clip or a sequence of frames."""
    if isinstance(clip, Image.Image):
        return [clip]
    array = clip if hasattr(clip, "shape") else None
    if array is not None and len(array.shape) == 3:
        return [array]
    if (array is not None and len(array.shape) == 4) or isinstance(clip, list | tuple):
        return clip
    given = f"an array of shape {tuple(array.shape)}" if array is not None else type(clip).__name__
    raise InputError(
        f"the clip is {given}; expected RGB uint8 of shape (H, W, 3) or (T, H, W, 3); read it with leanseg"
    )


def checked_frames(frames: Iterable[Any]) -> tuple[Iterator[NDArray[np.uint8]], bool]:
    """Return the frames, each checked when it is read, and whether there are several; the first two are read now."""
    source = iter(frames)
    head = [_checked_frame(frame) for frame in islice(source, 2)]
    if not head:
        raise InputError("the clip has no frames; give at least one")
    is_clip = len(head) > 1
    return _same_size(_after(head, source)), is_clip


def _checked_frame(frame: Any) -> NDArray[np.uint8]:
    if isinstance(frame, Image.Image):
        check_picture_size(frame.height, frame.width, "frame")
        frame = frame.convert("RGB")
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(
            f"a frame has shape {array.shape} and dtype {array.dtype}; expected RGB uint8 of shape (H, W, 3): "
            "convert it first"
        )
    check_picture_size(array.shape[0], array.shape[1], "frame")
    return array


def _after(head: list[NDArray[np.uint8]], source: Iterator[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the checked frames of `head`, emptying it so that none of them stays in memory, then those of `source`."""
    while head:
        yield head.pop(0)
    for frame in source:
        yield _checked_frame(frame)


def _same_size(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    first: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise InputError(f"frame {index} has shape {frame.shape}, the first {first}; all frames must have one size")
        yield frame

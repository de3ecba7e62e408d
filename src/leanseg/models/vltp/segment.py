"""Segmenting images, and clips frame by frame, with VLTP: one call in, masks out, nothing computed twice.

A picture passes the guide's tower once, the guide once per instruction, and SAM's blocks before the first stage once
for all instructions. The answers are those of computing everything anew (tested).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from leanseg.errors import InputError
from leanseg.models.inputs import as_list, checked_frames, checked_instructions, frames_of
from leanseg.models.instructseg.cache import FrameCache
from leanseg.models.output import Segmentation
from leanseg.models.timing import StageTimer
from leanseg.models.vltp.answers import STAGES, Frame, Run
from leanseg.models.vltp.encoders import PrunedEncoder
from leanseg.models.vltp.options import SegmentOptions, known_guidance, read_options
from leanseg.models.vltp.tokenizer import check_instruction

if TYPE_CHECKING:
    from leanseg.models.vltp.model import VLTP


@overload
def segment(
    model: VLTP, clip: Any, instruction: str, *, cache: FrameCache | None = None, **options: Any
) -> Segmentation: ...
@overload
def segment(
    model: VLTP, clip: Any, instruction: list[str], *, cache: FrameCache | None = None, **options: Any
) -> list[Segmentation]: ...
def segment(model: VLTP, clip: Any, instruction: Any, *, cache: FrameCache | None = None, **options: Any) -> Any:
    """Segment an image (H, W, 3) or a clip (T, H, W, 3), RGB uint8, or a list of frames; options in `SegmentOptions`.

    One instruction gives one `Segmentation`, a list a list of them. The mask of an instruction is the union of those of
    its [SEG]; its score is the mean probability inside the mask. No [SEG]: an empty mask of score 0, and SAM is not
    run. `cache` keeps what was made of pictures for later calls. Frames of a clip are segmented each by itself.

    Raises:
        InputError: an instruction, frame or option that cannot be used, before any long work.
    """
    parts = list(segment_stream(model, frames_of(clip), as_list(instruction), cache=cache, **options))
    results = [Segmentation.joined([frame[index] for frame in parts]) for index in range(len(parts[0]))]
    return results[0] if isinstance(instruction, str) else results


@overload
def segment_stream(
    model: VLTP, frames: Iterable[Any], instruction: str, *, cache: FrameCache | None = None, **options: Any
) -> Iterator[Segmentation]: ...
@overload
def segment_stream(
    model: VLTP, frames: Iterable[Any], instruction: list[str], *, cache: FrameCache | None = None, **options: Any
) -> Iterator[list[Segmentation]]: ...
def segment_stream(
    model: VLTP, frames: Iterable[Any], instruction: Any, *, cache: FrameCache | None = None, **options: Any
) -> Any:
    """Yield one frame's `Segmentation` (T = 1) at a time, or a list of them for a list of instructions.

    The inputs are checked when this is called, each later frame when it is read. Timings are the seconds since the
    frame before.

    Raises:
        InputError: as `segment`.
    """
    chosen = read_options(options)
    if model.training:
        raise InputError("the model is in training mode, in which dropout makes masks random; call model.eval() first")
    instructions = checked_instructions(as_list(instruction))
    for each in instructions:
        check_instruction(each)
        known_guidance(chosen, each, model.config.sam.dim)
    run = Run(
        model=model,
        options=chosen,
        encoder=_encoder(model, chosen),
        cache=FrameCache() if cache is None else cache,
        timer=StageTimer(model.device, STAGES),
    )
    checked, _ = checked_frames(frames)
    results = _run_stream(run, checked, instructions)
    return (frame[0] for frame in results) if isinstance(instruction, str) else results


def _encoder(model: VLTP, options: SegmentOptions) -> PrunedEncoder:
    if options.encoder is not None:
        return options.encoder
    stages = model.config.stages if options.stages is None else options.stages
    if options.keep_ratio is not None:
        stages = [(place, options.keep_ratio) for place, _ in stages]
    return model.encoder(stages, options.pruner, options.policy, options.reactivate, options.confidence)


def _run_stream(run: Run, frames: Iterable[NDArray[np.uint8]], instructions: list[str]) -> Iterator[list[Segmentation]]:
    for pixels in frames:
        # Entered anew for every frame: a generator must not leave inference mode on while its consumer works.
        with torch.inference_mode():
            frame = Frame(run, pixels)
            answers = [frame.answer(instruction) for instruction in instructions]
        timings = run.timer.take()
        yield [
            Segmentation(
                masks=answer.mask[None],
                scores=np.array([answer.score], dtype=np.float64),
                selections=answer.selections,
                timings=timings,
                protocol={**run.protocol, "n_seg": answer.n_seg, "instruction": instruction},
                soft=None if answer.soft is None else answer.soft[None],
            )
            for answer, instruction in zip(answers, instructions, strict=True)
        ]

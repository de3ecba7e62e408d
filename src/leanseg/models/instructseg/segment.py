"""Segmenting images and clips with InstructSeg: one call in, masks out, nothing computed twice.

A frame passes SigLIP and the pruner once, for its use as key frame and as reference frame of its neighbours; OVP once
per instruction; Swin and the pixel decoder once for all instructions; only the winning mask reaches full size. The
answers are those of computing everything anew for every frame and instruction (tested).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from leanseg.errors import InputError, WeightsError
from leanseg.models.inputs import as_list, checked_frames, checked_instructions, frames_of
from leanseg.models.instructseg.cache import FrameCache, with_references
from leanseg.models.instructseg.options import SegmentOptions, read_options
from leanseg.models.instructseg.prompt import Prompt, build_prompt
from leanseg.models.instructseg.stages import STAGES, Frame, FrameAnswer, Run
from leanseg.models.output import Segmentation
from leanseg.models.timing import StageTimer

if TYPE_CHECKING:
    from leanseg.models.instructseg.model import InstructSeg


@overload
def segment(
    model: InstructSeg, clip: Any, instruction: str, *, cache: FrameCache | None = None, **options: Any
) -> Segmentation: ...
@overload
def segment(
    model: InstructSeg, clip: Any, instruction: list[str], *, cache: FrameCache | None = None, **options: Any
) -> list[Segmentation]: ...
def segment(model: InstructSeg, clip: Any, instruction: Any, *, cache: FrameCache | None = None, **options: Any) -> Any:
    """Segment an image (H, W, 3) or a clip (T, H, W, 3), RGB uint8, or a list of frames; options in `SegmentOptions`.

    One instruction gives one `Segmentation`; a list gives a list of them in the same order, for which every frame is
    encoded once. The timings are those of the whole call. `cache` keeps frames' features for later calls on the same
    pictures.

    Raises:
        InputError: an instruction, frame or option that cannot be used, before any long work.
    """
    frames = frames_of(clip)
    parts = list(segment_stream(model, frames, as_list(instruction), cache=cache, **options))
    results = [Segmentation.joined([frame[index] for frame in parts]) for index in range(len(parts[0]))]
    return results[0] if isinstance(instruction, str) else results


@overload
def segment_stream(
    model: InstructSeg, frames: Iterable[Any], instruction: str, *, cache: FrameCache | None = None, **options: Any
) -> Iterator[Segmentation]: ...
@overload
def segment_stream(
    model: InstructSeg,
    frames: Iterable[Any],
    instruction: list[str],
    *,
    cache: FrameCache | None = None,
    **options: Any,
) -> Iterator[list[Segmentation]]: ...
def segment_stream(
    model: InstructSeg, frames: Iterable[Any], instruction: Any, *, cache: FrameCache | None = None, **options: Any
) -> Any:
    """Yield one frame's `Segmentation` (T = 1) at a time, or a list of them for a list of instructions.

    At most reference_frames + reference_frames / 2 + 1 frames are held at once, however long the clip is: a key frame's
    references are the two frames before and the two after it. The inputs are checked when this is called, each later
    frame when it is read. Timings are the seconds since the frame before.

    Raises:
        InputError: as `segment`.
    """
    chosen = read_options(options)
    if model.training:
        raise InputError("the model is in training mode, in which dropout makes masks random; call model.eval() first")
    instructions = checked_instructions(as_list(instruction))
    checked, is_clip = checked_frames(frames)
    run = Run(
        model=model,
        options=chosen,
        prompts=_prompts(model, instructions, chosen, is_clip),
        cache=FrameCache() if cache is None else cache,
        timer=StageTimer(model.device, STAGES),
    )
    results = _run_stream(run, checked, is_clip)
    return (frame[0] for frame in results) if isinstance(instruction, str) else results


def _run_stream(run: Run, frames: Iterable[NDArray[np.uint8]], is_clip: bool) -> Iterator[list[Segmentation]]:
    count = run.model.config.reference_frames if is_clip else 0
    protocol = _protocol(run, count)
    numbered = (Frame(run, pixels, index) for index, pixels in enumerate(frames))
    for frame, references in with_references(numbered, count):
        # Entered anew for every frame: a generator must not leave inference mode on while its consumer works.
        with torch.inference_mode():
            answers = frame.answers(references)
        timings = run.timer.take()
        yield [
            _segmentation(answer, timings, {**protocol, "instruction": prompt.instruction})
            for answer, prompt in zip(answers, run.prompts, strict=True)
        ]


def _segmentation(answer: FrameAnswer, timings: dict[str, float], protocol: dict[str, Any]) -> Segmentation:
    view = answer.view
    selection = None if view is None else view.selection
    return Segmentation(
        masks=answer.mask[None],
        scores=np.array([answer.score], dtype=np.float64),
        selections=() if selection is None else (selection,),
        coverage=() if view is None or selection is None else (view.coverage,),
        timings=timings,
        protocol=protocol,
        soft=None if answer.soft is None else answer.soft[None],
    )


def _protocol(run: Run, n_references: int) -> dict[str, Any]:
    model, options = run.model, run.options
    return {
        "model": options.model_name,
        "pruner": "none" if options.pruner is None else options.pruner.spec(),
        "site": options.site,
        "mass_preserving": options.mass_preserving,
        "position_ids": options.position_ids,
        "template": run.prompts[0].template,
        "task": run.prompts[0].task,
        "visual": options.visual,
        "dtype": str(model.language_dtype).removeprefix("torch."),
        "device": model.device.type,
        "reference_frames": n_references,
        "no_object_threshold": options.no_object_threshold,
        "grid": [run.grid.height, run.grid.width],
    }


def _prompts(model: InstructSeg, instructions: Sequence[str], options: SegmentOptions, is_clip: bool) -> list[Prompt]:
    """Encode every instruction and refuse one that is too long beside the tokens that will really be there."""
    task, config = options.task_for(is_clip), model.config
    kept = n_tokens = config.vision.n_tokens
    if options.pruner is not None and options.pruner.scope == "frame":
        kept = options.pruner.count(n_tokens)
    if options.visual != "all":
        kept = 0
    # Original positions number the dropped tokens as well.
    visual = n_tokens if options.position_ids == "original" else kept
    temporal = 0 if options.visual == "blind" else config.ovp.num_queries * (config.reference_frames if is_clip else 1)
    if model.tokenizer is None:
        raise WeightsError("this model has no tokenizer; expected one beside the weights; load it with from_pretrained")
    template = options.template or config.template
    prompts = [build_prompt(model.tokenizer, task, instruction, template) for instruction in instructions]
    for prompt in prompts:
        model.check_length(prompt, n_visual=visual + temporal)
    return prompts

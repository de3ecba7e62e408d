"""The stages of inference on single frames: each is computed once per frame, timed, and shared by what needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanseg.core.selection import Selection
from leanseg.core.tokens import Grid, VisualTokens
from leanseg.errors import WeightsError
from leanseg.metrics.coverage import coverage, information_bound
from leanseg.models.instructseg.assembly import TokenSequence
from leanseg.models.instructseg.cache import FrameCache, frame_digest
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.options import SegmentOptions
from leanseg.models.instructseg.pixel_decoder import PixelFeatures
from leanseg.models.instructseg.postprocess import Size, best_mask
from leanseg.models.instructseg.preprocess import mask_pixels, siglip_pixels
from leanseg.models.instructseg.prompt import Prompt

if TYPE_CHECKING:
    from leanseg.models.instructseg.model import InstructSeg

STAGES = ("encode", "select", "coverage", "project", "temporal", "language", "pixel", "decode", "postprocess")


class StageTimer:
    """Seconds per stage; on a GPU each stage waits for its kernels, so that time lands where it was spent."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's duration to a stage."""
        start = self._now()
        try:
            yield
        finally:
            self._seconds[name] += self._now() - start

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call and start again from zero."""
        taken, self._seconds = self._seconds, dict.fromkeys(STAGES, 0.0)
        return taken

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@dataclass(frozen=True, eq=False)
class Run:
    """What one call shares: the model, its options, one prompt per instruction, the feature cache and the clock."""

    model: InstructSeg
    options: SegmentOptions
    prompts: Sequence[Prompt]
    cache: FrameCache
    timer: StageTimer

    @property
    def grid(self) -> Grid:
        """The visual tokens' raster."""
        return Grid(self.model.config.vision.side, self.model.config.vision.side)

    def cached(self, kind: str, digest: bytes, compute: Callable[[], Any]) -> Any:
        """Return a frame's features from the cache, keyed by content, model and precision."""
        model = self.model
        key = (kind, digest, id(model), str(model.device), str(model.language_dtype), str(model.seg_query.dtype))
        return self.cache.get(key, compute)


@dataclass(frozen=True, eq=False)
class FrameTokens:
    """A frame's visual tokens as they enter the language model and OVP: (K, D), and which of the N they are."""

    tokens: Tensor
    selection: Selection | None = None
    coverage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FrameAnswer:
    """One instruction's answer on one frame."""

    mask: NDArray[np.bool_]
    score: float
    soft: NDArray[np.float32] | None = None


class Frame:
    """One frame of a call, and all about it that several key frames or instructions use, computed at first use."""

    def __init__(self, run: Run, pixels: NDArray[np.uint8]) -> None:
        self.run = run
        self.pixels = pixels
        self._temporal: dict[int, Tensor] = {}

    @cached_property
    def digest(self) -> bytes:
        """The frame's content as a cache key."""
        return frame_digest(self.pixels)

    @cached_property
    def visual(self) -> FrameTokens:
        """The pruned and projected tokens: the one place where pruning happens, for key and reference frames alike."""
        run, options, timer = self.run, self.run.options, self.run.timer
        with timer.stage("encode"):
            tokens = run.cached("vision", self.digest, self._encode)
        if options.site == "after_projector":
            with timer.stage("project"):
                tokens = run.model.project(tokens)
        if options.pruner is None:
            with timer.stage("project"):
                return FrameTokens(tokens[0] if options.site == "after_projector" else run.model.project(tokens)[0])
        with timer.stage("select"):
            candidates = VisualTokens(features=tokens, grid=run.grid)
            selection = options.pruner(candidates)
            tokens = selection.apply(tokens)
        facts: dict[str, Any] = {}
        if options.coverage:
            with timer.stage("coverage"):
                facts = _coverage_facts(candidates, selection)
        if options.site == "before_projector":
            with timer.stage("project"):
                tokens = run.model.project(tokens)
        return FrameTokens(tokens[0], selection, facts)

    def temporal(self, instruction: int) -> Tensor:
        """OVP's tokens (O, D) of this frame for an instruction; frames do not see each other: neighbours share them."""
        if instruction not in self._temporal:
            visual = self.visual.tokens
            with self.run.timer.stage("temporal"):
                refer_ids = self.run.prompts[instruction].refer_ids
                self._temporal[instruction] = self.run.model.temporal_tokens(visual.unsqueeze(0), refer_ids)
        return self._temporal[instruction]

    def _encode(self) -> Tensor:
        pixels = siglip_pixels(self.pixels, self.run.model.config.vision.image_size)
        return self.run.model.encode_vision(pixels.unsqueeze(0).to(self.run.model.device))

    def answers(self, references: Sequence[Frame]) -> list[FrameAnswer]:
        """Segment this frame for every instruction; the pixel branch runs once, the language model in batches."""
        run = self.run
        with run.timer.stage("pixel"):
            pixel, valid = run.cached("pixel", self.digest, self._pixel_features)
        found: list[FrameAnswer] = []
        step = run.options.instructions_per_pass
        for start in range(0, len(run.prompts), step):
            chosen = range(start, min(start + step, len(run.prompts)))
            sequences = [self._sequence(instruction, references) for instruction in chosen]
            with run.timer.stage("language"):
                states = run.model.language(sequences)
            with run.timer.stage("decode"):
                res5 = pixel.res5.expand(len(chosen), -1, -1, -1)
                embedding = run.model.score_embedding(states.refer, res5)
                prediction = run.model.decode(states.queries, embedding, pixel, last_only=True)[-1]
                _check_finite(prediction, run.model.language_dtype)
            with run.timer.stage("postprocess"):
                found.extend(self._answer(prediction, row, valid) for row in range(len(chosen)))
        return found

    def _sequence(self, instruction: int, references: Sequence[Frame]) -> TokenSequence:
        run, options = self.run, self.run.options
        nothing = run.model.seg_query.new_zeros((0, run.model.config.language.hidden_size))
        tokens, kept = nothing, None
        if options.visual == "all":
            tokens = self.visual.tokens
            kept = None if self.visual.selection is None else self.visual.selection.indices[0]
        temporal = nothing
        if options.visual != "blind":
            temporal = torch.cat([frame.temporal(instruction) for frame in references or (self,)])
        with run.timer.stage("language"):
            return run.model.assemble(
                run.prompts[instruction],
                tokens,
                temporal,
                kept=kept,
                n_tokens=run.grid.n_tokens,
                position_ids=options.position_ids,
            )

    def _answer(self, prediction: MaskPrediction, row: int, valid: Size) -> FrameAnswer:
        side, threshold = self.run.model.config.mask_image_size, self.run.options.no_object_threshold
        height, width = self.pixels.shape[:2]
        best = best_mask(prediction, row, valid_size=valid, output_size=(height, width), padded_size=(side, side))
        mask = best.mask.cpu().numpy()
        if threshold is not None and best.score < threshold:
            mask = np.zeros_like(mask)
        soft = best.probability.cpu().numpy() if self.run.options.soft else None
        return FrameAnswer(mask, best.score, soft)

    def _pixel_features(self) -> tuple[PixelFeatures, Size]:
        pixels, valid = mask_pixels(self.pixels, self.run.model.config.mask_image_size)
        return self.run.model.encode_pixels(pixels.unsqueeze(0).to(self.run.model.device)), valid


def _coverage_facts(tokens: VisualTokens, selection: Selection) -> dict[str, Any]:
    """Return one frame's covering radii, and the information bound under its own key, as JSON data."""
    radii = coverage(tokens, selection)
    bound = information_bound(tokens, selection, radius=radii.feature_max)
    facts: dict[str, Any] = {name: values[0] for name, values in radii.to_json().items()}
    return facts | {"information_bound": {name: values[0] for name, values in bound.to_json().items()}}


def _check_finite(prediction: MaskPrediction, dtype: torch.dtype) -> None:
    if not bool(torch.isfinite(prediction.score_logits).all()):
        raise WeightsError(
            f"the model computed NaN or infinite scores in {dtype}; expected finite ones: "
            "use float32 or bfloat16, or fetch the weights again if it does so already"
        )

"""The stages of inference on single frames: each is computed once per frame, timed, and shared by what needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanseg.core.tokens import Grid, VisualTokens
from leanseg.errors import WeightsError
from leanseg.models.instructseg.assembly import TokenSequence
from leanseg.models.instructseg.cache import FrameCache, frame_digest
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.options import SegmentOptions
from leanseg.models.instructseg.pixel_decoder import PixelFeatures
from leanseg.models.instructseg.postprocess import Size, best_mask
from leanseg.models.instructseg.preprocess import mask_pixels, siglip_pixels
from leanseg.models.instructseg.prompt import Prompt
from leanseg.models.instructseg.views import (
    EncodedFrame,
    FrameTokens,
    encode_frame,
    frame_view,
    image_attention,
    window_views,
)
from leanseg.models.timing import StageTimer

if TYPE_CHECKING:
    from leanseg.models.instructseg.model import InstructSeg

STAGES = ("encode", "select", "coverage", "project", "temporal", "language", "pixel", "decode", "postprocess")


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
class FrameAnswer:
    """One instruction's answer on one frame."""

    mask: NDArray[np.bool_]
    score: float
    view: FrameTokens | None
    soft: NDArray[np.float32] | None = None


class Frame:
    """One frame of a call, and all about it that several key frames or instructions use, computed at first use."""

    def __init__(self, run: Run, pixels: NDArray[np.uint8], index: int = 0) -> None:
        self.run = run
        self.pixels = pixels
        self.index = index
        self._candidates: dict[int | None, VisualTokens] = {}
        self._views: dict[int | None, FrameTokens] = {}
        self._temporal: dict[int, Tensor] = {}

    @cached_property
    def digest(self) -> bytes:
        """The frame's content as a cache key."""
        return frame_digest(self.pixels)

    @cached_property
    def encoded(self) -> EncodedFrame:
        """The vision tower's tokens, with what their layer sees where the pruner asks for it."""
        run = self.run
        cues = bool(run.options.tower_cues)
        with run.timer.stage("encode"):
            return run.cached(
                "vision and cues" if cues else "vision",
                self.digest,
                lambda: encode_frame(run.model, self.vision_pixels, cues=cues),
            )

    @property
    def vision_pixels(self) -> Tensor:
        """The frame as the vision tower takes it, (1, 3, s, s)."""
        model = self.run.model
        return siglip_pixels(self.pixels, model.config.vision.image_size).unsqueeze(0).to(model.device)

    @cached_property
    def projected(self) -> Tensor:
        """All tokens at the language model's width, (1, N, D)."""
        features = self.encoded.features
        with self.run.timer.stage("project"):
            return self.run.model.project(features)

    def candidates(self, instruction: int) -> VisualTokens:
        """The tokens among which the pruner chooses, with the cues that it asks for."""
        key = self._choice(instruction)
        if key not in self._candidates:
            self._candidates[key] = self._with_cues(instruction)
        return self._candidates[key]

    def view(self, instruction: int) -> FrameTokens:
        """The tokens that stay, chosen for this frame by itself."""
        key = self._choice(instruction)
        if key not in self._views:
            self._views[key] = frame_view(self, instruction)
        return self._views[key]

    def _choice(self, instruction: int) -> int | None:
        """Return what a choice of tokens depends on: the instruction where it steers the pruner, else nothing."""
        return instruction if self.run.options.language_cues else None

    def _with_cues(self, instruction: int) -> VisualTokens:
        run, options, encoded = self.run, self.run.options, self.encoded
        features = self.projected if options.site == "after_projector" else encoded.features
        attention = encoded.attention if "attention" in options.tower_cues else None
        keys = encoded.keys if "keys" in options.tower_cues else None
        guidance = None
        if "attention" in options.language_cues:
            tokens = self.projected[0]
            with run.timer.stage("select"):
                attention = self._language_attention(instruction, tokens)
        if "guidance" in options.language_cues:
            with run.timer.stage("select"):
                guidance = run.model.embed(run.prompts[instruction].refer_ids).mean(dim=0, keepdim=True)
        return VisualTokens(features=features, grid=run.grid, attention=attention, keys=keys, guidance=guidance)

    def _language_attention(self, instruction: int, tokens: Tensor) -> Tensor:
        """What each token receives from the last one in an early layer that reads all of this frame, and only it."""
        run = self.run
        prompt = run.prompts[instruction]
        temporal = run.model.temporal_tokens(tokens.unsqueeze(0), prompt.refer_ids)
        sequence = run.model.assemble(prompt, tokens, temporal)
        return image_attention(run.model, sequence)

    def temporal(self, instruction: int, view: FrameTokens, *, shared: bool = True) -> Tensor:
        """OVP's tokens (O, D) of this frame for an instruction; frames do not see each other: neighbours share them."""
        if shared and instruction in self._temporal:
            return self._temporal[instruction]
        with self.run.timer.stage("temporal"):
            refer_ids = self.run.prompts[instruction].refer_ids
            tokens = self.run.model.temporal_tokens(view.tokens.unsqueeze(0), refer_ids)
        if shared:
            self._temporal[instruction] = tokens
        return tokens

    def answers(self, references: Sequence[Frame]) -> list[FrameAnswer]:
        """Segment this frame for every instruction; the pixel branch runs once, the language model in batches."""
        run = self.run
        with run.timer.stage("pixel"):
            pixel, valid = run.cached("pixel", self.digest, self._pixel_features)
        found: list[FrameAnswer] = []
        step = run.options.instructions_per_pass
        for start in range(0, len(run.prompts), step):
            chosen = range(start, min(start + step, len(run.prompts)))
            read = [self._sequence(instruction, references) for instruction in chosen]
            sequences, views = [sequence for sequence, _ in read], [view for _, view in read]
            with run.timer.stage("language"):
                states = run.model.language(sequences)
            with run.timer.stage("decode"):
                res5 = pixel.res5.expand(len(chosen), -1, -1, -1)
                embedding = run.model.score_embedding(states.refer, res5)
                prediction = run.model.decode(states.queries, embedding, pixel, last_only=True)[-1]
                _check_finite(prediction, run.model.language_dtype)
            with run.timer.stage("postprocess"):
                found.extend(self._answer(prediction, row, valid, view) for row, view in enumerate(views))
        return found

    def _sequence(self, instruction: int, references: Sequence[Frame]) -> tuple[TokenSequence, FrameTokens | None]:
        """Return the language model's row for an instruction, and this frame's tokens unless it is answered blindly."""
        run, options = self.run, self.run.options
        nothing = run.model.seg_query.new_zeros((0, run.model.config.language.hidden_size))
        tokens, kept, log_sizes, temporal, view = nothing, None, None, nothing, None
        if options.visual != "blind":
            temporal, view = self._read(instruction, references or (self,))
        if options.visual == "all" and view is not None:
            tokens, log_sizes = view.tokens, view.log_sizes
            kept = None if view.selection is None else view.selection.indices[0]
        with run.timer.stage("language"):
            sequence = run.model.assemble(
                run.prompts[instruction],
                tokens,
                temporal,
                kept=kept,
                n_tokens=run.grid.n_tokens,
                position_ids=options.position_ids,
            )
        return replace(sequence, log_sizes=log_sizes), view

    def _read(self, instruction: int, references: Sequence[Frame]) -> tuple[Tensor, FrameTokens]:
        """Return OVP's tokens of the reference frames, and this frame's own tokens."""
        pruner = self.run.options.pruner
        if pruner is None or pruner.scope == "frame":
            parts = [frame.temporal(instruction, frame.view(instruction)) for frame in references]
            return torch.cat(parts), self.view(instruction)
        views = window_views(pruner, self, references, instruction)
        # What a frame keeps depends on the window it is seen in, so that neighbours cannot share it.
        parts = [frame.temporal(instruction, views[frame.index], shared=False) for frame in references]
        return torch.cat(parts), views[self.index]

    def _answer(self, prediction: MaskPrediction, row: int, valid: Size, view: FrameTokens | None) -> FrameAnswer:
        side, threshold = self.run.model.config.mask_image_size, self.run.options.no_object_threshold
        height, width = self.pixels.shape[:2]
        best = best_mask(prediction, row, valid_size=valid, output_size=(height, width), padded_size=(side, side))
        mask = best.mask.cpu().numpy()
        if threshold is not None and best.score < threshold:
            mask = np.zeros_like(mask)
        soft = best.probability.cpu().numpy() if self.run.options.soft else None
        return FrameAnswer(mask, best.score, view, soft)

    def _pixel_features(self) -> tuple[PixelFeatures, Size]:
        pixels, valid = mask_pixels(self.pixels, self.run.model.config.mask_image_size)
        return self.run.model.encode_pixels(pixels.unsqueeze(0).to(self.run.model.device)), valid


def _check_finite(prediction: MaskPrediction, dtype: torch.dtype) -> None:
    if not bool(torch.isfinite(prediction.score_logits).all()):
        raise WeightsError(
            f"the model computed NaN or infinite scores in {dtype}; expected finite ones: "
            "use float32 or bfloat16, or fetch the weights again if it does so already"
        )

"""The steps of an answer on one picture: each is computed once, timed, and shared by what needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanseg.core.selection import Selection
from leanseg.errors import WeightsError
from leanseg.models.instructseg.cache import FrameCache, frame_digest
from leanseg.models.sam.pictures import Size, full_masks, sam_pixels
from leanseg.models.timing import StageTimer
from leanseg.models.vltp.baselines.dtop import DToPEncoder
from leanseg.models.vltp.encoders import PrunedEncoder
from leanseg.models.vltp.options import SegmentOptions, known_guidance
from leanseg.models.vltp.pictures import clip_pixels
from leanseg.models.vltp.staged_encoder import EncoderState, StagedEncoder, StagedOutput

if TYPE_CHECKING:
    from leanseg.models.vltp.model import VLTP

# `prefix` are SAM's blocks before the first stage, `blocks` those behind it, `select` the choices between them.
STAGES = ("guidance", "prefix", "select", "blocks", "decode", "postprocess")


@dataclass(frozen=True, eq=False)
class Run:
    """What one call shares: the model, its options, the encoder, the cache and the clock."""

    model: VLTP
    options: SegmentOptions
    encoder: PrunedEncoder
    cache: FrameCache
    timer: StageTimer

    def __post_init__(self) -> None:
        if isinstance(self.encoder, StagedEncoder) and self.options.encoder is None:
            self.encoder.watch = lambda: self.timer.stage("select")

    def cached(self, kind: str, digest: bytes, compute: Callable[[], Any]) -> Any:
        """Return what was made of a picture from the cache, keyed by content, model and precision."""
        key = (kind, digest, id(self.model), str(self.model.device), str(self.model.dtype))
        return self.cache.get(key, compute)

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """What another person needs to repeat the answers."""
        options, config, encoder = self.options, self.model.config, self.encoder
        staged = encoder if isinstance(encoder, StagedEncoder) else None
        stages = [[each.after_block, each.pruner.spec()] for each in staged.stages] if staged else []
        return {
            "model": options.model_name,
            "pruner": (stages[0][1] if stages else "none") if staged else type(encoder).__name__,
            "stages": stages,
            "policy": staged.policy if staged else None,
            "reactivate": staged.reactivate if staged else None,
            "confidence": encoder.confidence if isinstance(encoder, DToPEncoder) else None,
            "several": self.several,
            "answer": None if options.generate else options.answer,
            "template": config.guide.template,
            "visual": options.visual,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "no_object_threshold": options.no_object_threshold,
            "grid": [config.sam.grid.height, config.sam.grid.width],
        }

    @property
    def several(self) -> str:
        """What is done with several [SEG]."""
        return self.options.several or self.model.config.several


@dataclass(frozen=True, eq=False)
class Answer:
    """One instruction's answer on one picture."""

    mask: NDArray[np.bool_]
    score: float
    n_seg: int
    selections: tuple[Selection, ...] = ()
    soft: NDArray[np.float32] | None = None


class Frame:
    """One picture of a call, and all about it that several instructions use, computed at first use."""

    def __init__(self, run: Run, pixels: NDArray[np.uint8]) -> None:
        self.run = run
        self.pixels = pixels

    @cached_property
    def digest(self) -> bytes:
        """The picture's content as a cache key."""
        return frame_digest(self.pixels)

    @cached_property
    def state(self) -> tuple[EncoderState, Size]:
        """SAM's tokens behind the blocks that all instructions share, and the part of the input that is picture."""
        run, encoder = self.run, self.run.encoder

        def compute() -> tuple[EncoderState, Size]:
            size = run.model.config.sam.image_size
            pixels, valid = sam_pixels(self.pixels, size=size)
            return encoder.prefix(pixels[None].to(run.model.device, run.model.dtype)), valid

        with run.timer.stage("prefix"):
            if not isinstance(encoder, StagedEncoder) or run.options.encoder is not None:
                return compute()
            return run.cached(f"prefix {encoder.first_stage}", self.digest, compute)

    def guidance(self, instruction: str) -> Tensor:
        """The projected [SEG] embeddings (S, C) of an instruction."""
        run, options = self.run, self.run.options
        known = known_guidance(options, instruction, run.model.config.sam.dim)
        if known is not None:
            return known.to(run.model.device)
        answer = None if options.generate else options.answer

        def compute() -> Tensor:
            features = self._looked() if options.visual == "all" else self._looked()[:, :0]
            return run.model.ask(features, [instruction], answer=answer).states

        with run.timer.stage("guidance"):
            return run.cached(f"guidance {options.visual} {answer!r} {instruction}", self.digest, compute)

    def _looked(self) -> Tensor:
        model = self.run.model

        def compute() -> Tensor:
            return model.look(clip_pixels(self.pixels, size=model.config.guide.vision.image_size)[None])

        return self.run.cached("looked", self.digest, compute)

    def answer(self, instruction: str) -> Answer:
        """Segment this picture for an instruction."""
        run, size = self.run, self.pixels.shape[:2]
        guidance = self.guidance(instruction)
        if not len(guidance):
            soft = np.zeros(size, dtype=np.float32) if run.options.soft else None
            return Answer(np.zeros(size, dtype=np.bool_), 0.0, 0, soft=soft)
        (state, valid), plain = self.state, isinstance(run.encoder, StagedEncoder) and not run.encoder.stages
        with run.timer.stage("blocks"):
            # Without stages nothing depends on the instruction, and all [SEG] share one embedding.
            output = run.encoder.rest(state, None if plain else guidance, several=run.several)
        with run.timer.stage("decode"):
            logits, _ = run.model.masks(output.embeddings, guidance)
            if not bool(torch.isfinite(logits).all()):
                raise WeightsError(
                    f"the model computed NaN or infinite masks in {run.model.dtype}; expected finite ones: "
                    "use float32 or bfloat16, or fetch the weights again if it does so already"
                )
        with run.timer.stage("postprocess"):
            return self._drawn(logits, valid, output, len(guidance))

    def _drawn(self, logits: Tensor, valid: Size, output: StagedOutput, n_seg: int) -> Answer:
        options, (height, width) = self.run.options, self.pixels.shape[:2]
        side = self.run.model.config.sam.image_size
        full = full_masks(logits, valid_size=valid, output_size=(height, width), size=side)
        highest = full.flatten(0, 1).amax(dim=0)
        inside, probability = highest > 0, highest.sigmoid()
        score = float(probability[inside].double().mean()) if bool(inside.any()) else 0.0
        mask = inside.cpu().numpy()
        if options.no_object_threshold is not None and score < options.no_object_threshold:
            mask = np.zeros_like(mask)
        return Answer(
            mask=mask,
            score=score,
            n_seg=n_seg,
            selections=tuple(_one_row(selection) for selection in output.selections),
            soft=probability.cpu().numpy() if options.soft else None,
        )


def _one_row(selection: Selection) -> Selection:
    """Return what any of several passes over one picture kept."""
    if selection.batch == 1:
        return selection
    return Selection(selection.mask().any(dim=0).nonzero().T.contiguous(), selection.n_tokens)

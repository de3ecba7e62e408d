"""What a segmenter answers: masks, scores, which tokens were kept, and how the answer came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.core.selection import Selection
from leanseg.run_length import decode_mask, encode_mask

__all__ = ["Segmentation", "decode_mask", "encode_mask"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation:
    """The answer to one instruction on a clip of T frames (T = 1 for an image), in the frames' own size.

    `masks` (T, H, W) bool, `scores` (T,) in [0, 1] (class probability times mask quality of the winning query),
    `selections` one per frame (batch 1; empty where no token was chosen by a pruner; a model that chooses in stages
    gives one per stage for T = 1, and the last one's of each frame of a clip), `coverage` one mapping per frame or
    empty, `timings` seconds per stage, `protocol` what another person needs to repeat it: model, pruner, site,
    position_ids, template, task. `soft` (T, H, W) is the winning masks' probability where it was asked for.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float64]
    selections: Sequence[Selection] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    coverage: Sequence[Mapping[str, Any]] = ()
    soft: NDArray[np.float32] | None = None

    @property
    def n_frames(self) -> int:
        """Frames of the clip."""
        return int(self.masks.shape[0])

    @property
    def score(self) -> float:
        """Mean score over the frames."""
        return float(np.mean(self.scores)) if len(self.scores) else 0.0

    def selections_of(self, frame: int) -> Sequence[Selection]:
        """Return what was chosen on a frame: nothing, one selection, or on a single frame one per stage."""
        return self.selections if self.n_frames == 1 else self.selections[frame : frame + 1]

    @classmethod
    def joined(cls, frames: Sequence[Segmentation]) -> Segmentation:
        """Return the answer on a clip from those on its frames.

        Of stages a frame keeps the last one's selection; where a frame chose nothing there are none at all.
        """
        soft = [frame.soft for frame in frames if frame.soft is not None]
        chosen = [frame.selections if len(frames) == 1 else frame.selections[-1:] for frame in frames]
        return cls(
            masks=np.concatenate([frame.masks for frame in frames]),
            scores=np.concatenate([frame.scores for frame in frames]),
            selections=tuple(chain.from_iterable(chosen)) if all(chosen) else (),
            coverage=tuple(chain.from_iterable(frame.coverage for frame in frames)),
            timings={stage: sum(frame.timings[stage] for frame in frames) for stage in frames[0].timings},
            protocol=frames[0].protocol,
            soft=np.concatenate(soft) if soft else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: COCO run-length masks, scores, kept token indices, coverage, timings and protocol."""
        frames = []
        for index, (mask, score) in enumerate(zip(self.masks, self.scores, strict=True)):
            frame: dict[str, Any] = {
                "frame": index,
                "score": float(score),
                "area_pixels": int(mask.sum()),
                "segmentation": encode_mask(mask),
            }
            chosen = self.selections_of(index)
            if chosen:
                frame["kept"] = chosen[-1].indices[0].tolist()
                frame["n_tokens"] = chosen[-1].n_tokens
            if len(chosen) > 1:
                frame["stages"] = [selection.indices[0].tolist() for selection in chosen]
            if index < len(self.coverage):
                frame["coverage"] = dict(self.coverage[index])
            frames.append(frame)
        return {
            "size": [int(side) for side in self.masks.shape[1:]],
            "score": self.score,
            "frames": frames,
            "timings_s": {stage: float(seconds) for stage, seconds in self.timings.items()},
            "protocol": dict(self.protocol),
        }

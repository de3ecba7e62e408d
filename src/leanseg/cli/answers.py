"""Writing the answers to each instruction while the frames go by: masks, overlay, and their JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.engine.clip_writer import ClipWriter
from leanseg.engine.images import save_png, write_mask_png
from leanseg.engine.overlay import COLOURS, TokenLayout, overlay, stages_row
from leanseg.engine.video import ClipInfo
from leanseg.models.output import Segmentation

# An overlay is enlarged by a whole number until its sides reach this, so that dots of kept tokens can be told apart.
OVERLAY_SIDE_PIXELS = 384
FRAMES_PER_SECOND = 8.0


@dataclass(kw_only=True)
class Answer:
    """The answer to one instruction, written below `folder / name` frame by frame; use it in a `with` block.

    `labels`: tokens in which the true mask lies, outlined on a picture's panels of stages.
    """

    folder: Path
    name: str
    instruction: str
    info: ClipInfo
    layout: TokenLayout
    colour: int = 0
    labels: Sequence[int] | None = None
    frames: list[dict[str, Any]] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    _masks: list[str] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)
    _clip: ClipWriter | None = None

    def __enter__(self) -> Answer:
        if not self.info.is_picture:
            fps = self.info.fps or FRAMES_PER_SECOND
            self._clip = self._open.enter_context(ClipWriter(self.folder / self._overlay, fps=fps))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def _overlay(self) -> str:
        return f"{self.name}/overlay.{'png' if self.info.is_picture else 'mp4'}"

    def add(self, image: NDArray[np.uint8], part: Segmentation) -> None:
        """Write the mask and the overlay of the next frame, `image` (H, W, 3), with its answer (T = 1)."""
        index = len(self.frames)
        mask = part.masks[0]
        file = f"{self.name}/mask.png" if self.info.is_picture else f"{self.name}/masks/{index:05d}.png"
        write_mask_png(self.folder / file, mask)
        self._masks.append(file)
        stages = [selection.indices[0].cpu().numpy() for selection in part.selections]
        look: dict[str, Any] = {"colours": COLOURS[self.colour % len(COLOURS) :] + COLOURS}
        look["min_side"] = OVERLAY_SIDE_PIXELS
        if self.info.is_picture and (len(stages) > 1 or (stages and self.labels is not None)):
            picture = stages_row(image, mask, stages, self.layout, labels=self.labels, **look)
        else:
            picture = overlay(image, mask, stages[-1] if stages else None, self.layout, **look)
        if self._clip is None:
            save_png(self.folder / self._overlay, picture)
        else:
            self._clip.write(np.asarray(picture))
        whole = part.to_json()
        self.frames.append({**whole["frames"][0], "frame": index})
        self.protocol = whole["protocol"]
        for stage, seconds in whole["timings_s"].items():
            self.timings_s[stage] = self.timings_s.get(stage, 0.0) + seconds

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `results` in result.json (docs/cli.md)."""
        scores = [frame["score"] for frame in self.frames]
        return {
            "instruction": self.instruction,
            "score": sum(scores) / len(scores),
            "frames": self.frames,
            "protocol": self.protocol,
            "files": {"masks": self._masks, "overlay": self._overlay},
        }


class Tee:
    """Frames on their way into the model, kept until their answers come out: the model reads a few frames ahead."""

    def __init__(self, frames: Iterator[NDArray[np.uint8]]) -> None:
        self._frames = frames
        self._waiting: list[NDArray[np.uint8]] = []

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for frame in self._frames:
            self._waiting.append(frame)
            yield frame

    def next_answered(self) -> NDArray[np.uint8]:
        """Return the oldest frame that was not answered yet."""
        return self._waiting.pop(0)


def summary(result: Mapping[str, Any]) -> str:
    """Return one line about an entry of `results`: score, area, tokens."""
    frames = result["frames"]
    height, width = frames[0]["segmentation"]["size"]
    area = sum(frame["area_pixels"] for frame in frames) / (len(frames) * height * width)
    found = f"{area:.1%} of the picture" if area > 0 else "nothing found"
    return f"score {result['score']:.2f}, {found}{_kept(frames)}"


def _kept(frames: Sequence[Mapping[str, Any]]) -> str:
    """Say how many tokens were kept; a joint choice over a clip gives frames different counts."""
    if "kept" not in frames[0]:
        return ""
    counts = [len(frame["kept"]) for frame in frames]
    fewest, most = min(counts), max(counts)
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return f", {count} of {frames[0]['n_tokens']} tokens per frame"

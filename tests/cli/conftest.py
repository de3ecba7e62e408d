"""A command line in this process, pictures and clips to give it, and a segmenter that answers without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from leanseg.cli import main
from leanseg.core import Grid, Selection
from leanseg.engine.overlay import TokenLayout
from leanseg.models.output import Segmentation


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code or 0
        written = capfd.readouterr()
        return Outcome(code, written.out, written.err)

    return call


class LeftHalf:
    """Answers every instruction with the left half of each frame, and keeps the first tokens of a 4 x 4 grid."""

    name = "fake"
    layout = TokenLayout(Grid(4, 4))

    def __init__(self, look_ahead: int = 2, fail_at: int | None = None) -> None:
        self.look_ahead = look_ahead
        self.fail_at = fail_at
        self.given: dict[str, object] = {}

    def segment_stream(self, frames, instruction, **options):
        self.given = {"instruction": instruction, **options}
        return self._answers(iter(frames), instruction)

    def _answers(self, frames, instructions):
        waiting: list[np.ndarray] = []
        number = 0
        for frame in frames:
            waiting.append(frame)
            if len(waiting) > self.look_ahead:
                yield self._answer(waiting.pop(0), instructions, number)
                number += 1
        for frame in waiting:
            yield self._answer(frame, instructions, number)
            number += 1

    def _answer(self, frame, instructions, number):
        if number == self.fail_at:
            from leanseg.errors import InputError

            raise InputError(f"frame {number} cannot be used; give another clip")
        mask = np.zeros((1, *frame.shape[:2]), dtype=bool)
        mask[:, :, : frame.shape[1] // 2] = True
        kept = Selection(indices=torch.arange(3)[None], n_tokens=16)
        return [
            Segmentation(
                masks=mask,
                scores=np.array([0.5]),
                selections=(kept,),
                timings={"language": 0.25},
                protocol={"model": "fake", "instruction": text},
                coverage=({"spatial_max": 0.5},),
            )
            for text in instructions
        ]


@pytest.fixture
def fake(monkeypatch):
    from leanseg.engine import segmenter

    made = LeftHalf()
    calls: list[tuple[object, ...]] = []

    def load(*arguments, **options):
        calls.append((arguments, options))
        return made

    monkeypatch.setattr(segmenter, "load", load)
    made.loads = calls
    return made


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(7).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def clip(tmp_path):
    from leanseg.engine.clip_writer import write_clip

    frames = [np.full((32, 48, 3), 20 * index, dtype=np.uint8) for index in range(6)]
    return write_clip(tmp_path / "clip.mp4", frames, fps=5)

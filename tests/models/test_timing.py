"""Time lands in the stage where it was spent, also where one stage runs inside another."""

from __future__ import annotations

import torch

from leanseg.models import timing
from leanseg.models.timing import StageTimer


def test_an_inner_stage_is_taken_from_the_outer_one(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 10.0, 20.0, 20.5])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    timer = StageTimer(torch.device("cpu"), ("blocks", "select", "decode"))
    with timer.stage("blocks"), timer.stage("select"):
        pass
    with timer.stage("decode"):
        pass
    assert timer.take() == {"blocks": 8.0, "select": 2.0, "decode": 0.5}
    assert timer.take() == {"blocks": 0.0, "select": 0.0, "decode": 0.0}

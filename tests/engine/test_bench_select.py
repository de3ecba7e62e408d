"""What `leanseg bench select` is made of: timing on one thread, made-up points, the published loops."""

from __future__ import annotations

import pytest
import torch

from leanseg.core import Grid, kcenter
from leanseg.engine.bench import first_call, published
from leanseg.engine.bench.points import joint_points, tokens
from leanseg.engine.bench.select_tables import attention_table, details_table
from leanseg.engine.bench.timing import one_thread, peak_bytes, timed
from leanseg.errors import InputError
from leanseg.pruners import DivPrune


def test_torch_has_its_threads_back_even_after_an_error():
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == threads


def test_a_slow_call_is_timed_once_and_a_quick_one_often():
    calls = []
    measured = timed(lambda: calls.append(torch.randn(200, 200).sum()), budget_s=10.0)
    assert measured["repeats"] == 11 and len(calls) == 12
    assert measured["cpu_ms_least"] <= measured["cpu_ms"] <= measured["cpu_ms_most"]
    calls.clear()
    assert timed(lambda: calls.append(torch.randn(200, 200).sum()), budget_s=0.0)["repeats"] == len(calls) == 1


def test_the_peak_counts_what_is_held_at_the_same_time():
    def one_after_another():
        for _ in range(3):
            torch.ones(1000, dtype=torch.float64).sum()

    def together():
        kept = [torch.ones(1000, dtype=torch.float64) for _ in range(3)]
        return sum(part.sum() for part in kept)

    assert 8000 <= peak_bytes(one_after_another) < 16000
    assert 24000 <= peak_bytes(together) < 32000


def test_points_are_the_same_each_time_and_have_every_cue():
    scene = tokens("smooth", Grid(4, 5, frames=2), width=8)
    assert torch.equal(scene.features, tokens("smooth", Grid(4, 5, frames=2), width=8).features)
    assert scene.attention is not None and scene.keys is not None and scene.guidance is not None
    assert joint_points("normal", Grid(4, 5, frames=2), width=8).shape == (40, 11)
    with pytest.raises(InputError, match="unknown kind of points 'smoth'"):
        tokens("smoth", Grid(2, 2))


@pytest.mark.parametrize(
    "way",
    [published.all_differences, published.matrix_reread, published.gram_running_minimum, published.product_per_pick],
)
def test_the_published_loops_pick_what_leanseg_picks(way):
    points = joint_points("smooth", Grid(9, 9), width=16)
    assert way(points, 30, 4).tolist() == kcenter.select(points[None], 30, 4)[0][0].tolist()


def test_divprune_as_published_keeps_what_divprune_keeps():
    scene = tokens("smooth", Grid(9, 9), width=16)
    kept = DivPrune(keep_ratio=20 / 81)(scene).indices[0]
    assert published.divprune(scene.features[0], 20).sort().values.tolist() == kept.tolist()


@pytest.mark.slow
def test_a_first_call_is_timed_in_a_process_of_its_own():
    seconds = first_call.first_call_seconds()
    assert seconds["nothing_kept"] > seconds["kept"] > 0.0


def test_a_first_call_that_fails_is_no_number(monkeypatch):
    monkeypatch.setattr(first_call, "_CALL", "raise SystemExit(1)")
    assert first_call.first_call_seconds() == {"nothing_kept": None, "kept": None}


def test_tables_show_failures_and_a_cuda_device():
    samples = [
        {"part": "attention", "name": "eager", "n": 9, "d": 4, "heads": 2, "error": "RuntimeError: no"},
        {"part": "cuda", "name": "A GPU", "n": 9, "k": 3, "batch": 4, "cuda_ms": 0.125, "synchronisations": 0},
    ]
    record = {"samples": samples, "first_call_s": {}}
    assert "| eager, 2 heads, 9 tokens, width 4 | failed | | |" in attention_table(record)
    assert "| A GPU, 3 of 9, batch 4 | 0.125 ms, 0 waits |" in details_table(record)

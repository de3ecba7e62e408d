"""What `leanseg bench metrics` is made of: made-up masks, the public way, a record and its table."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from leanseg.engine.bench import published_metrics as published
from leanseg.engine.bench.metrics import QUICK, Sizes, label_maps, measure_metrics, pairs
from leanseg.engine.bench.metrics_tables import OURS, metrics_table
from leanseg.metrics import boundary_f, jaccard


@pytest.mark.parametrize("what", ["one object", "one as large as the picture", "a thousand small ones"])
def test_the_public_way_gives_the_same_numbers(what):
    gt, pred = pairs(120, 214)[what]
    void = np.zeros_like(gt)
    void[:20] = True
    assert gt.any() and (gt != pred).any()
    for dilate in published.dilations().values():
        assert published.boundary_f(gt, pred, void, dilate) == boundary_f(gt, pred, void)
    assert published.jaccard(gt, pred, void) == jaccard(gt, pred, void)


def test_the_public_way_keeps_the_rules_for_nothing():
    empty, point = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    point[4, 4] = True
    dilate = published.dilations()["numpy"]
    assert published.jaccard(empty, empty, empty) == published.boundary_f(empty, empty, empty, dilate) == 1.0
    assert published.boundary_f(empty, point, empty, dilate) == published.boundary_f(point, empty, empty, dilate) == 0.0


def test_a_quick_run_is_a_record_with_a_table():
    heard = []
    record = measure_metrics(QUICK, tick=heard.append)
    assert record["kind"] == "bench_metrics" and record["threads"] == 1 and len(heard) == len(record["samples"])
    assert {sample["largest_difference"] for sample in record["samples"]} == {0.0}
    table = metrics_table(record)
    assert table.count("\n") == 5 and "unsupervised DAVIS, 3 proposals x 2 objects x 2 frames, 80 x 60" in table
    assert f"| {OURS} |" in table.splitlines()[0] and " x) |" in table


def test_a_difference_shows_in_the_table():
    times = {"cpu_ms": 20.0, "cpu_ms_least": 20.0}
    samples = [
        {"task": "a", "name": OURS, "largest_difference": 0.0, **times},
        {"task": "a", "name": "other", "largest_difference": 2e-3, **times},
    ]
    assert metrics_table({"samples": samples}).endswith("| a | 20 ms | 20 ms (1.0 x, differs by 2e-03) |")


def test_every_label_is_in_the_first_frame():
    maps = label_maps(Sizes(frames=2), 20, 0)
    assert set(np.unique(maps[0])) == set(range(21))


def test_opencv_has_its_threads_back(monkeypatch):
    threads = [7]
    fake = types.SimpleNamespace(
        __version__="9",
        getNumThreads=lambda: threads[-1],
        setNumThreads=threads.append,
        dilate=lambda mask, disk: mask,
    )
    monkeypatch.setitem(sys.modules, "cv2", fake)
    assert list(published.dilations()) == ["OpenCV 9", "numpy"]
    assert published.dilations()["OpenCV 9"](np.ones((2, 2), bool), np.ones((1, 1))).all()
    with pytest.raises(RuntimeError), published.one_opencv_thread():
        raise RuntimeError
    assert threads == [7, 1, 7]

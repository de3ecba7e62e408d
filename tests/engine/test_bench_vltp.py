"""What `leanseg bench vltp` is made of: runs part by part, counts of the same parts, a record and its tables."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from leanseg import costs
from leanseg.engine.bench import vltp
from leanseg.engine.bench.timing import Laps
from leanseg.engine.bench.vltp import QUICK, Sizes, measure_vltp
from leanseg.engine.bench.vltp_runs import Subject, multiply_adds, paired, plain_run, staged_run
from leanseg.engine.bench.vltp_tables import breakdown_table, realised, saved, settings, speed_table
from leanseg.errors import InputError
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder
from leanseg.pruners.staged.vltp import LearnedPruner

CPU = torch.device("cpu")
TINY = VLTP_PRESETS["tiny"].sam


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.of(TINY, CPU)


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    return measure_vltp(QUICK)


def test_laps_add_up_by_name():
    laps = Laps(CPU)
    for name in ("a", "b", "a"):
        time.sleep(0.01)
        laps.lap(name)
    assert laps.wall_ms["a"] >= 20 and laps.wall_ms["b"] >= 10
    assert laps.cpu_ms["a"] < laps.wall_ms["a"] and list(laps.cpu_ms) == ["a", "b"]


def test_the_subject_is_the_same_each_time_and_draws_nothing_of_torchs_numbers(subject: Subject):
    before = torch.get_rng_state()
    again = Subject.of(TINY, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.guidance, subject.guidance) and torch.equal(again.pixels, subject.pixels)
    for mine, other in ((again.sam, subject.sam), (again.scorer, subject.scorer)):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))
    assert all(bool(each.any()) for name, each in again.sam.named_parameters() if "rel_pos" in name)


@torch.inference_mode()
def test_what_is_timed_is_the_encoder_itself(subject: Subject):
    laps, embedding = plain_run(subject, (1, 3))
    assert torch.equal(embedding, subject.sam.image_encoder(subject.pixels))
    assert list(laps.cpu_ms) == ["patches", "block 1", "blocks 2 to 3", "block 4", "neck"]
    laps, output = staged_run(subject, (1, 3), 0.8)
    pruner = LearnedPruner(keep_ratio=0.2, scorer=subject.scorer)
    encoder = StagedEncoder.of(subject.sam.image_encoder, [Stage(1, pruner), Stage(3, pruner)])
    assert torch.equal(output.embeddings, encoder(subject.pixels, subject.guidance).embeddings)
    assert set(laps.wall_ms) == {"patches", "block 1", "blocks 2 to 3", "block 4", "prune decoder", "neck"}


@torch.inference_mode()
def test_the_parts_count_what_the_costs_count(subject: Subject):
    kept = {}
    for after, dropped in (((), 0.0), ((2,), 0.5), ((1, 3), 0.8)):
        if after:
            _, output = staged_run(subject, after, dropped)
            kept = {place: each.indices[0].tolist() for place, each in zip(after, output.selections, strict=True)}
        stages = dict.fromkeys(after, 1 - dropped)
        cost = costs.sam(TINY, stages, "exact", kept=list(kept.values()) if after else None)
        parts = multiply_adds(TINY, after, kept)
        assert sum(parts.values()) == pytest.approx(1e3 * cost.total, rel=1e-12)
        assert parts.get("prune decoder", 0) == pytest.approx(1e3 * cost.parts["prune"])


def test_every_other_repeat_runs_in_the_other_order():
    order: list[str] = []
    for repeat in range(3):
        assert paired(lambda: order.append("a") or 1, lambda: order.append("b") or 2, repeat) == (1, 2)
    assert "".join(order) == "abbaab"


def test_a_quick_run_is_a_record_of_every_setting(quick: dict[str, Any]):
    assert (quick["kind"], quick["threads"], quick["device"], quick["clock"]) == ("bench_vltp", 1, "cpu", "cpu_ms")
    groups = settings(quick)
    assert [(group[0]["after"], group[0]["dropped"], group[0]["kept"]) for group in groups] == [
        ([1, 3], 0.5, [25, 25]),
        ([1, 3], 0.8, [10, 10]),
    ]
    for group in groups:
        assert [sample["repeat"] for sample in group] == [0, 1]
        for sample in group:
            for way in ("plain", "staged"):
                names = set(sample[way]["macs"])
                assert names == set(sample[way]["cpu_ms"]) == set(sample[way]["wall_ms"])
                assert all(value > 0 for value in sample[way]["cpu_ms"].values())
    assert 0 < saved(groups[0], "macs")[0] < saved(groups[1], "macs")[0] < 1
    parts = [sample["part"] for sample in quick["samples"]]
    assert parts.count("mask decoder") == 2 and parts.count("guide") == 4


def test_of_a_large_guide_one_layer_is_timed_and_the_whole_is_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vltp, "LARGEST_TIMED", 0.0)
    record = measure_vltp(Sizes(names=("tiny",), dropped=(0.5,), repeats=1))
    rows = {sample["name"]: sample for sample in record["samples"] if sample["part"] == "guide"}
    one, whole = rows["1 of 2 layers of the language model, 32 wide"], rows["all 2 layers of the language model"]
    assert one["macs"] * 2 == whole["macs"] and one["cpu_ms"] > 0 and "cpu_ms" not in whole
    assert breakdown_table(record).splitlines()[4].endswith("| not run |")


def _sample(size: str, staged_ms: float, repeat: int = 0, dropped: float = 0.5) -> dict[str, Any]:
    plain, staged = {"patches": 20.0, "blocks 1 to 8": 80.0}, {"patches": 20.0, "blocks 1 to 8": 40.0}
    return {
        "part": "encoder", "size": size, "repeat": repeat, "after": [8], "dropped": dropped, "kept": [5], "n": 10,
        "plain": {"macs": plain, "cpu_ms": {"patches": 500.0, "blocks 1 to 8": 1500.0}, "wall_ms": plain},
        "staged": {
            "macs": {**staged, "prune decoder": 10.0},
            "cpu_ms": {"patches": 500.0, "blocks 1 to 8": staged_ms - 600.0, "prune decoder": 100.0},
            "wall_ms": staged,
        },
    }  # fmt: skip


def test_time_is_compared_pair_by_pair_and_held_to_the_gate():
    samples = [_sample("b", ms, repeat) for repeat, ms in enumerate((1480.0, 1600.0, 1500.0))]
    samples += [_sample("h", 1600.0, dropped=0.8)]
    record = {"clock": "cpu_ms", "samples": samples}
    first, second = settings(record)
    assert saved(first, "cpu_ms") == pytest.approx([0.26, 0.2, 0.25])
    assert realised(first, "cpu_ms") == pytest.approx(0.25 / 0.3)
    assert realised(second, "cpu_ms") == pytest.approx(0.2 / 0.3)
    lines = speed_table(record).splitlines()
    assert lines[2] == (
        "| b | 8: 50% | 5 | 2.00 s | 1.50 s | 100 ms | 30.0% | 25.0% (20.0% to 26.0%) | 40.0% | 0.83 | yes |"
    )
    assert lines[3].endswith("| 0.67 | no |")


def test_counted_measured_and_printed_figures_have_columns_of_their_own():
    samples = [_sample(size, 1500.0, dropped=dropped) for size in ("b", "h") for dropped in (0.5, 0.8)]
    decoder = {"part": "mask decoder", "repeat": 0, "macs": 1.8, "cpu_ms": 50.0, "wall_ms": 60.0}
    samples += [{**decoder, "size": size} for size in ("b", "h")]
    guide, small, large = breakdown_table({"clock": "cpu_ms", "samples": samples}).split("\n\n")
    assert guide.count("\n") == 1
    assert "| SAM b, dropped after block 8: 80% |" in small and "paper" not in small
    assert "| prune decoder |  | 10.0 |  | 100 ms |" in small
    assert "| image encoder | 100 | 70.0 | 2.00 s | 1.50 s |" in small
    assert "| image encoder | 100 | 70.0 | 2.00 s | 1.50 s | 97.7 ms |" in large
    assert "| mask decoder | 1.8 | 1.8 | 50.0 ms | 50.0 ms | 8.9 ms |" in large
    assert large.endswith("| guide |  |  |  |  | 71.0 ms |")
    assert {line.count("|") for line in large.splitlines()} == {7}


def test_what_cannot_be_timed_is_said(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="unknown size 'hh'"):
        Sizes(names=("b", "hh"))
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        measure_vltp(QUICK, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="the device is cuda, and torch sees none; expected a GPU; ask for cpu"):
        measure_vltp(QUICK, device="cuda")

"""Evaluation: resumable lines, exact counts, tables that follow their records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leanseg.data.sample import Sample
from leanseg.engine.evaluate import Row, cumulative_iou, evaluate, grid, per_sample_iou
from leanseg.engine.records import read_record, record, write_json
from leanseg.engine.tables import add_summary, kind_table, render_document, retention_table
from leanseg.errors import DataError, LeansegError


@dataclass
class Squares:
    """Four samples whose target is the left half of a 4 x 4 picture; the last one's is empty."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        target = np.zeros((1, 4, 4), dtype=bool)
        target[:, :, :2] = index != 3
        picture = np.zeros((1, 4, 4, 3), dtype=np.uint8)
        return Sample(f"s/{index}", picture, "the left", target, {"kind": "position", "task": "referring"})


class LeftHalf:
    """Answers rightly with all tokens, with a quarter of the picture under a pruner, with nothing when blind."""

    def __init__(self) -> None:
        self.calls = 0

    def segment(self, clip: Any, instruction: str, *, pruner: Any = None, visual: str = "all", **options: Any) -> Any:
        self.calls += 1
        masks = np.zeros(clip.shape[:3], dtype=bool)
        if visual == "all":
            masks[:, :, : 2 if pruner is None else 1] = True
        return SimpleNamespace(masks=masks)


ROWS = grid(["random", "uniform(keep_ratio=0.5)"], [0.2, 0.1])


def test_the_grid_has_every_pruner_at_every_ratio_and_the_unpruned_rows() -> None:
    names = [row.name for row in ROWS]
    assert names == ["all", "random@0.2", "random@0.1", "uniform(keep_ratio=0.5)@0.5", "ovp_only", "blind"]
    with pytest.raises(LeansegError, match="unknown pruner"):
        grid(["evpt"], [0.2])


def test_ious_follow_the_rule_for_empty_masks(tmp_path: Path) -> None:
    lines = evaluate(LeftHalf(), Squares(), ROWS, tmp_path / "lines.jsonl")
    np.testing.assert_allclose(per_sample_iou(lines, "all"), [1, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(per_sample_iou(lines, "random@0.2"), [0.5, 0.5, 0.5, 0], atol=1e-5)
    np.testing.assert_allclose(per_sample_iou(lines, "blind"), [0, 0, 0, 1], atol=1e-5)
    assert cumulative_iou(lines, "all") == pytest.approx(24 / 32)


def test_a_killed_run_continues_and_half_a_line_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    whole = evaluate(LeftHalf(), Squares(), ROWS, tmp_path / "whole.jsonl")
    evaluate(LeftHalf(), Squares(), ROWS, path, indices=[0, 1])
    with path.open("a") as file:
        file.write('{"id": "s/2", "cou')
    second = LeftHalf()
    lines = evaluate(second, Squares(), ROWS, path)
    assert second.calls == 2 * len(ROWS)
    assert {line["id"]: line["counts"] for line in lines} == {line["id"]: line["counts"] for line in whole}
    again = LeftHalf()
    assert len(evaluate(again, Squares(), ROWS, path)) == 4
    assert again.calls == 0


def test_lines_of_another_grid_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    evaluate(LeftHalf(), Squares(), ROWS, path, indices=[0])
    with pytest.raises(DataError, match="another grid"):
        evaluate(LeftHalf(), Squares(), grid(["random"], [0.3]), path)


def made_record(tmp_path: Path) -> dict[str, Any]:
    samples = evaluate(LeftHalf(), Squares(), ROWS, tmp_path / "made.jsonl")
    rows = [vars(row) for row in ROWS]
    return add_summary(record("evaluation", "leanseg eval", rows=rows, samples=samples))


def test_tables_come_from_records(tmp_path: Path) -> None:
    made = made_record(tmp_path)
    write_json(tmp_path / "results" / "r.json", made)
    table = retention_table(made)
    assert "| random |  | 0.375" in table and "| all tokens | 0.750" in table and "| blind | 0.250" in table
    assert "| position | 4 | 0.750 | 0.250 |" in kind_table(made)
    text = "before\n<!-- table: retention results/r.json -->\nold\n<!-- /table -->\nafter\n"
    filled = render_document(text, tmp_path)
    assert table in filled and "old" not in filled
    assert render_document(filled, tmp_path) == filled
    with pytest.raises(DataError, match="unknown table kind"):
        render_document(text.replace("retention", "nothing"), tmp_path)


def test_records_are_read_back_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(DataError, match="no record at"):
        read_record(path, "evaluation")
    path.write_text("{")
    with pytest.raises(DataError, match="no JSON record"):
        read_record(path, "evaluation")
    path.write_text(json.dumps({"kind": "benchmark"}))
    with pytest.raises(DataError, match="expected a record of kind 'evaluation'"):
        read_record(path, "evaluation")


def test_rows_name_what_they_measure() -> None:
    assert Row(name="all").visual == "all"
    assert {row.visual for row in ROWS} == {"all", "ovp_only", "blind"}

"""Evaluation: resumable lines, exact counts, tables that follow their records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.squares import FailsAt, LeftHalf, Squares, StopsAtOne
from tests.models.vltp_fixtures import tiny_vltp

from leanseg.engine.evaluation.grid import Row, chosen, grid
from leanseg.engine.evaluation.request import DEFAULT_PRUNERS, Request, evaluation_record, finished, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.evaluation.scoring import Region
from leanseg.engine.evaluation.worker import Evaluation
from leanseg.engine.records import read_record, record, weights_hash, write_json
from leanseg.engine.segmenter import load
from leanseg.engine.tables import add_summary, gate_table, kind_table, render_document, retention_table
from leanseg.errors import DataError, LeansegError
from leanseg.pruners import PRUNERS, pruner

ROWS = grid(["random", "uniform(keep_ratio=0.5)"], [0.2, 0.1])


def squares(segmenter: LeftHalf | None = None, **changes: Any) -> Evaluation:
    plain = Evaluation(make=lambda: segmenter or LeftHalf(), dataset=Squares(), indices=range(4), rows=ROWS)
    return replace(plain, **changes)


def test_the_grid_has_every_pruner_at_every_ratio_and_the_unpruned_rows() -> None:
    names = [row.name for row in ROWS]
    assert names == ["all", "random@0.2", "random@0.1", "uniform(keep_ratio=0.5)@0.5", "ovp_only", "blind"]
    with pytest.raises(LeansegError, match="unknown pruner"):
        grid(["evpt"], [0.2])
    with pytest.raises(LeansegError, match="random needs keep_ratio"):
        grid(["random"], [])


def test_a_keep_ratio_is_found_where_it_is_set_and_not_in_other_words() -> None:
    assert [row.keep_ratio for row in grid(["random( keep_ratio = 0.3 )"], [0.2, 0.1])] == [1.0, 0.3, None, None]
    assert [row.keep_ratio for row in grid(["random(seed=3)"], [0.2, 0.1])] == [1.0, 0.2, 0.1, None, None]
    with pytest.raises(LeansegError, match="unknown option 'keep_ratios'"):
        grid(["random(keep_ratios=0.3)"], [0.2, 0.1])


def test_ious_follow_the_rule_for_empty_masks(tmp_path: Path) -> None:
    lines = evaluate(squares(), tmp_path / "lines.jsonl")
    assert lines[3]["counts"]["all"] == [[0, 8]] and lines[3]["counts"]["blind"] == [[0, 0]]
    scoring = Region()
    np.testing.assert_allclose(scoring.series(lines, "all"), [1, 1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(scoring.series(lines, "random@0.2"), [0.5, 0.5, 0.5, 0], atol=1e-5)
    np.testing.assert_allclose(scoring.series(lines, "blind"), [0, 0, 0, 1], atol=1e-5)
    assert scoring.result(lines, "all").scores["ciou"] == pytest.approx(24 / 32)


def test_a_killed_run_continues_and_half_a_line_is_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "leanseg.engine.resuming")
    path = tmp_path / "lines.jsonl"
    whole = evaluate(squares(), tmp_path / "whole.jsonl")
    evaluate(squares(indices=[0, 1]), path)
    with path.open("a") as file:
        file.write('{"id": "s/2", "cou')
    second = LeftHalf()
    seen: list[int] = []
    assert not caplog.messages
    assert evaluate(squares(second), path, progress=seen.append) == whole
    assert caplog.messages == [f"resumed from {path}: 2 samples are done"]
    assert second.calls == 2 * len(ROWS)
    assert seen == [2, 3, 4]
    again = LeftHalf()
    assert evaluate(squares(again), path) == whole
    assert again.calls == 0


def test_lines_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    evaluate(squares(), path)
    for change in (
        {"rows": grid(["random"], [0.3])},
        {"options": {"position_ids": "original"}},
        {"subject": {"model": "other"}},
    ):
        with pytest.raises(DataError, match="lines of another evaluation"):
            evaluate(squares(**change), path)


def test_several_processes_give_the_same_lines_and_take_up_what_another_number_left(tmp_path: Path) -> None:
    alone = evaluate(squares(), tmp_path / "alone.jsonl")
    shared = tmp_path / "shared.jsonl"
    evaluate(squares(indices=[2]), shared.with_name("shared.jsonl.7"))
    seen: list[int] = []
    assert evaluate(squares(make=LeftHalf), shared, processes=2, progress=seen.append) == alone
    assert seen[0] == 1 and seen[-1] == 4 and seen == sorted(seen)
    assert [path.name for path in sorted(tmp_path.glob("shared*"))] == ["shared.jsonl"]


def test_a_process_that_stops_is_said_and_its_samples_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with pytest.raises(DataError, match=r"stopped with code 3; its finished samples are in .*\.1; run .* again"):
        evaluate(squares(make=StopsAtOne, indices=[0, 3, 2, 1]), path, processes=2)
    rest = LeftHalf()
    assert len(evaluate(squares(rest), path)) == 4
    assert rest.calls <= 3 * len(ROWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "coco:val"}, r"unknown data set 'coco'"),
        ({"data": "refcoco:val"}, r"data set 'refcoco:val' is read from files; expected the folder"),
        ({"root": Path("x")}, r"--root is x, and scenes:test is drawn, not read; leave it out"),
        ({"facts": ("covrage",)}, r"unknown fact 'covrage'; did you mean 'coverage'"),
        ({"protocol": {"matching": "id"}}, r"unknown option of the region protocol 'matching'"),
        ({"data_options": {"scenes": 3}}, r"--data-option is scenes=3, and scenes:test has no options; leave it out"),
        (
            {"data": "refcoco:val", "root": Path("x"), "data_options": {"root": "y"}},
            r"--data-option is root=y, and --data and --root say that; leave it out",
        ),
        ({"site": "inside_encoder"}, r"site inside_encoder with no pruner"),
        ({"data": "scenes:tset"}, r"unknown split 'tset'; did you mean 'test'"),
        ({"per_scene": 5}, r"--per-scene is 5; a scene of scenes:test has 4 instructions; give 1 to 4"),
        ({"position_ids": "compcat"}, r"unknown position_ids 'compcat'"),
        ({"pruners": ("evpt",)}, r"unknown pruner 'evpt'"),
    ],
)
def test_bad_requests_fail_before_any_work(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LeansegError, match=message):
        plan(replace(Request(out=tmp_path / "r.json"), **change))


def test_kept_mass_adds_a_row_to_every_pruned_one() -> None:
    rows = grid(["random"], [0.2, 0.1], mass_preserving=True)
    names = [row.name for row in rows[1:-2]]
    assert names == ["random@0.2", "random@0.1", "random, mass kept@0.2", "random, mass kept@0.1"]
    assert [bool(row.options) for row in rows] == [False, False, False, True, True, False, False]
    request = Request(out=Path("r.json"), pruners=("random",), mass_preserving=True)
    assert len(plan(request).rows) == 3 + 2 * 4 and "--mass-preserving" in request.command
    assert "mass" not in replace(request, mass_preserving=False).command


def test_without_pruners_the_papers_rivals_and_the_simple_ones_run_and_the_command_names_them() -> None:
    request = Request(out=Path("results/r.json"), limit=3, per_scene=2, keep_ratios=(0.2,))
    planned = plan(request)
    assert [row.name.split("@")[0] for row in planned.rows[1:-2]] == list(DEFAULT_PRUNERS)
    assert set(DEFAULT_PRUNERS) < set(PRUNERS)
    assert list(planned.indices) == [0, 1, 5, 6, 10, 11]
    assert "--pruner evtp --pruner kcenter" in request.command and "identity" not in request.command
    quoted = replace(request, pruners=("random(seed=1, keep_ratio=0.2)",)).command
    assert "--pruner 'random(seed=1, keep_ratio=0.2)'" in quoted


def test_rows_share_a_pictures_features(model_folder: Path, tmp_path: Path) -> None:
    segmenter = load(model_folder, device="cpu")
    planned = plan(Request(out=tmp_path / "r.json", model=str(model_folder), limit=1, per_scene=2, keep_ratios=(0.5,)))
    evaluate(replace(planned, make=lambda: segmenter), tmp_path / "lines.jsonl")
    # SigLIP and the pixel branch once, and SigLIP once more for what its attention sees: for both instructions, all
    # tokens and every pruner.
    assert segmenter.cache.misses == 3
    assert segmenter.cache.hits > 2 * len(planned.rows)


def test_a_record_says_whose_numbers_it_holds(model_folder: Path, tmp_path: Path) -> None:
    request = Request(
        out=tmp_path / "r.json", model=str(model_folder), limit=2, pruners=("random",), keep_ratios=(0.5,)
    )
    told: list[tuple[int, int]] = []
    made = evaluation_record(request, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert made is not None
    assert made["weights"] == weights_hash(model_folder) and len(made["weights"]) == 64
    assert made["n_samples"] == 2 and made["data"] == "scenes:test"
    assert weights_hash(tmp_path) is None


def test_a_failed_answer_counts_as_nothing_found_and_is_said(tmp_path: Path) -> None:
    whole = evaluate(squares(), tmp_path / "whole.jsonl")
    lines = evaluate(squares(FailsAt(1, 3)), tmp_path / "lines.jsonl")
    assert lines[0] == whole[0] and lines[2] == whole[2]
    assert set(lines[1]["failures"]) == {row.name for row in ROWS}
    assert lines[1]["failures"]["all"] == "RuntimeError: no memory left"
    assert lines[1]["counts"]["all"] == [[0, 8]]
    # Missing an empty target is an error as well: an answer that never came must not count 1.
    assert lines[3]["counts"]["all"] == [[0, 1]]


def test_a_sample_that_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    class Broken(Squares):
        def __getitem__(self, index: int) -> Any:
            if index == 2:
                raise DataError("picture 2 is damaged")
            return super().__getitem__(index)

    lines = evaluate(squares(dataset=Broken()), tmp_path / "lines.jsonl")
    assert [line["counts"]["all"] for line in lines] == [[[8, 8]], [[8, 8]], [[0, 1]], [[0, 8]]]
    assert lines[2]["failures"]["blind"] == "DataError: picture 2 is damaged"


def test_a_row_that_never_answers_stops_the_run(tmp_path: Path) -> None:
    endless = squares(FailsAt(*range(9)), dataset=Squares(9), indices=range(9))
    with pytest.raises(DataError, match="the first 5 answers under all all failed, the last with: RuntimeError"):
        evaluate(endless, tmp_path / "lines.jsonl")


def test_a_run_in_which_a_row_only_failed_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with pytest.raises(DataError, match="the first 5 answers"):
        evaluate(squares(FailsAt(*range(9)), dataset=Squares(9), indices=range(9)), path)
    lines = evaluate(squares(dataset=Squares(9), indices=range(9)), path)
    assert not any("failures" in line for line in lines)
    once = evaluate(squares(FailsAt(1)), tmp_path / "once.jsonl")
    assert evaluate(squares(), tmp_path / "once.jsonl") == once and "failures" in once[1]


def test_samples_of_which_none_can_be_read_stop_the_run(tmp_path: Path) -> None:
    class Gone(Squares):
        def __getitem__(self, index: int) -> Any:
            raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the first 5 answers under all all failed, the last with: DataError: the disk"):
        evaluate(squares(dataset=Gone(9), indices=range(9)), tmp_path / "lines.jsonl")


def test_facts_are_noted_per_row(tmp_path: Path) -> None:
    (line, *_) = evaluate(squares(facts=("seconds", "stability"), indices=[0]), tmp_path / "lines.jsonl")
    assert line["facts"]["all"] == {"seconds": {"language": 0.5}}
    assert line["target"] == {"area": 0.5, "stability": None}


def test_a_finished_record_is_found_again_and_never_lost_in_silence(tmp_path: Path, model_folder: Path) -> None:
    request = Request(
        out=tmp_path / "r.json", model=str(model_folder), limit=1, pruners=("random",), keep_ratios=(0.5,)
    )
    assert finished(request, plan(request)) is None
    made = evaluation_record(request)
    assert made is not None
    write_json(request.out, made)
    assert finished(request, plan(request)) == json.loads(json.dumps(made))
    other = replace(request, keep_ratios=(0.2,))
    with pytest.raises(DataError, match=r"holds the finished record of another evaluation .* --overwrite to lose it"):
        finished(other, plan(other))


def made_record(tmp_path: Path) -> dict[str, Any]:
    samples = evaluate(squares(), tmp_path / "made.jsonl")
    rows = [vars(row) for row in ROWS]
    return add_summary(record("evaluation", "leanseg eval", rows=rows, samples=samples, scoring={"name": "region"}))


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


def test_gates_are_judged_by_the_record() -> None:
    row = {"score": 0.6, "low": 0.58, "high": 0.62}
    blind = {"loss": 0.2, "loss_low": 0.1, "loss_high": 0.3}
    random = {"loss": 0.01, "loss_low": 0.0, "loss_high": 0.02}
    names = (("all", row), ("blind", blind), ("random@0.05", random))
    table = gate_table({"summary": [{"name": name, **values} for name, values in names]}).splitlines()
    assert [line.split("|")[-2].strip() for line in table[2:]] == ["CPU", "CPU", "none"]
    assert "0.600 (0.580 to 0.620)" in table[2]


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


def test_samples_stand_on_a_line_each_and_the_file_stays_json(tmp_path: Path) -> None:
    made = made_record(tmp_path)
    for content in (made, {"samples": [1, {"a": []}]}, {"samples": []}, {"rows": []}, [1], {}):
        write_json(tmp_path / "r.json", content)
        assert json.loads((tmp_path / "r.json").read_text()) == content
    write_json(tmp_path / "r.json", made)
    assert sum(text.startswith('  {"index":') for text in (tmp_path / "r.json").read_text().splitlines()) == 4


def test_rows_name_what_they_measure() -> None:
    assert Row(name="all").visual == "all"
    assert {row.visual for row in ROWS} == {"all", "ovp_only", "blind"}


def test_vltp_is_asked_for_its_own_choice_and_for_others_at_every_stage(tmp_path: Path) -> None:
    rows = grid(["vltp", "random"], [0.5], family="vltp")
    assert [row.name for row in rows] == ["all", "vltp@0.5", "random@0.5", "blind"]
    assert rows[0].options == {"stages": ()} and rows[1].options == {}
    assert chosen(rows[1]) == "vltp(keep_ratio=0.5)" and chosen(rows[2]) == pruner("random(keep_ratio=0.5)")
    folder = tmp_path / "model"
    tiny_vltp().save_pretrained(folder)
    request = Request(
        out=tmp_path / "r.json", model=str(folder), limit=2, pruners=("vltp", "random"), keep_ratios=(0.5,)
    )
    made = evaluation_record(request)
    assert made is not None and made["n_failures"] == 0 and made["device"] == "cpu"
    assert made["options"] == {} and "site" not in made["protocol"]
    with pytest.raises(DataError, match=r"site is 'after_projector', and '.*' is a VLTP, without it; omit it"):
        plan(replace(request, site="after_projector"))


def test_a_run_that_could_not_begin_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    evaluate(squares(subject={"model": "misspelt"}, indices=()), path)
    assert len(path.read_text().splitlines()) == 1
    assert len(evaluate(squares(), path)) == 4

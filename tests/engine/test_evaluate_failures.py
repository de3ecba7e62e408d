"""What cannot be read or scored is counted, said or refused; never left out of a mean in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.oracles import RIGHT, Oracle

from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.scorings import make_scoring
from leanseg.engine.evaluation.worker import Evaluation, Worker
from leanseg.errors import DataError

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"


def broken(root: Path, data: str, path: str, protocol: dict[str, Any]) -> tuple[Evaluation, list[Line]]:
    """Evaluate where a file is damaged after the plan has looked for it."""
    request = Request(
        out=root / "r.json", model=str(root), data=data, root=root, protocol=protocol, pruners=("random",)
    )
    planned = plan(request)
    evaluation = replace(planned, make=lambda: oracle)
    oracle = Oracle(planned)
    (root / path).write_bytes(b"no picture")
    return evaluation, evaluate(evaluation, request.lines)


def test_a_damaged_picture_stays_in_the_mean_of_its_kind(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "ReVOS", tmp_path / "ReVOS")
    evaluation, lines = broken(tmp_path, "revos:valid", "ReVOS/JPEGImages/syn_valid_2/00000.jpg", {})
    assert [line["kind"] for line in lines[4:]] == ["referring", "reasoning", "referring", "no_object"]
    assert lines[4]["id"] == "revos/syn_valid_2/0" and "cannot read" in lines[4]["failures"][RIGHT]
    noted = Worker(replace(evaluation, facts=("kept",))).line(4)
    assert noted["failures"] == lines[4]["failures"] and noted["facts"] == {}
    scores = evaluation.scoring.result(lines, RIGHT).scores
    assert scores["referring/J&F"] == scores["reasoning/J&F"] == scores["no_object/J&F"] == 0.5


@pytest.mark.parametrize("passes", ["four_annotators", "single_pass"])
def test_a_damaged_mask_of_a_sequence_scores_its_objects_zero(tmp_path: Path, passes: str) -> None:
    shutil.copytree(SAMPLES / "ref-davis_converted", tmp_path / "ref-davis_converted")
    path = "ref-davis_converted/valid/Annotations/tiny-dogs/00002.png"
    evaluation, lines = broken(tmp_path, "refdavis:val", path, {"passes": passes})
    scoring = evaluation.scoring
    failed = [line for line in lines if "failures" in line]
    assert len(failed) == len(lines) / 2 and all(scoring.values(line["counts"][RIGHT])["J"] == 0 for line in failed)
    assert scoring.result(lines, RIGHT).scores["J&F"] == 0.5


@pytest.mark.parametrize("data", ["revos:valid", "refdavis:val", "coco_tasks:task_1_test"])
def test_a_sample_whose_kind_cannot_be_read_stops_the_run(data: str, tmp_path: Path) -> None:
    scoring = plan(Request(out=tmp_path / "r.json", model=str(tmp_path), data=data, root=SAMPLES)).scoring
    with pytest.raises(DataError, match=r"cannot be read, so that its (kind is|objects are) unknown; (get|mend)"):
        scoring.nothing(None)


@pytest.mark.parametrize("data", ["refyoutube:valid", "refyoutube:valid_all", "refyoutube:test", "mmconv:train"])
def test_what_has_no_published_masks_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{data} has no published masks, so that nothing can be scored on it; choose"):
        plan(Request(out=tmp_path / "r.json", data=data, root=SAMPLES, data_options={"check": False}))


@pytest.mark.parametrize(
    ("scoring", "option", "value", "expected"),
    [
        ("revos", "reference_compat", "false", "True or False"),
        ("rio", "best_instance", 1, "True or False"),
        ("video", "tolerance", "0.008", "float"),
        ("video", "tolerance", True, "float"),
        ("refdavis", "merge", 2, "str"),
    ],
)
def test_a_word_is_not_taken_for_a_protocols_yes(scoring: str, option: str, value: Any, expected: str) -> None:
    message = f"option {option} of the {scoring} protocol is {value!r}; expected {expected}; give that"
    with pytest.raises(DataError, match=message):
        make_scoring(scoring, {option: value})
    assert make_scoring("video", {"tolerance": 1}).described["tolerance"] == 1

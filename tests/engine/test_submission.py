"""A submission: the server's zip, whole or not at all, resumed where it stopped, of one row and without scores."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.engine.squares import FailsAt, LeftHalf

from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.evaluation.submission import write_answers
from leanseg.errors import DataError

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    return Request(
        out=tmp_path / "s.zip", submission=True, model=str(tmp_path), data="refyoutube:valid", root=SAMPLES,
        protocol={"valid_videos": 1}, pruners=("random",), keep_ratios=(0.5,),
    )  # fmt: skip


def test_the_zip_holds_what_the_server_expects(request_of: Request) -> None:
    evaluation = replace(plan(request_of), make=LeftHalf)
    assert [row.name for row in evaluation.rows] == ["random@0.5"]
    count = write_answers(request_of.out, evaluation, evaluate(evaluation, request_of.lines))
    example = SAMPLES / "Ref-YouTube-VOS/submission_example"
    names = {str(path.relative_to(example)) for path in example.rglob("*.png")}
    with zipfile.ZipFile(request_of.out) as archive:
        assert set(archive.namelist()) == names and count == len(names) == 6
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as picture, Image.open(example / name) as expected:
                assert (picture.mode, picture.size) == (expected.mode, expected.size) == ("L", expected.size)
                mask = np.asarray(picture)
                assert (mask[:, :1] == 255).all() and not mask[:, 1:].any()


def test_a_killed_submission_resumes_and_gives_the_same_bytes(request_of: Request) -> None:
    first = LeftHalf()
    evaluation = replace(plan(request_of), make=lambda: first)
    evaluate(replace(evaluation, indices=[1]), request_of.lines)
    assert not request_of.out.exists() and first.calls == 3
    write_answers(request_of.out, evaluation, evaluate(evaluation, request_of.lines))
    assert first.calls == 6
    whole = request_of.out.with_name("whole.zip")
    write_answers(whole, evaluation, evaluate(evaluation, whole.with_suffix(".jsonl")))
    assert whole.read_bytes() == request_of.out.read_bytes()


def test_an_answer_that_fails_is_empty_and_said(request_of: Request) -> None:
    planned = plan(request_of)
    shades = {int(planned.dataset[0].clip[0, 0, 0, 0])}
    evaluation = replace(planned, make=lambda: FailsAt(*shades))
    lines = evaluate(evaluation, request_of.lines)
    assert lines[0]["failures"] == {"random@0.5": "RuntimeError: no memory left"}
    write_answers(request_of.out, evaluation, lines)
    with zipfile.ZipFile(request_of.out) as archive, archive.open("Annotations/aaaa000001/0/00000.png") as file:
        assert not np.asarray(Image.open(file)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data": "refyoutube:train"},
            "--submission is for refyoutube:valid, .* and --data is refyoutube:train; leave",
        ),
        ({"pruners": ("random", "uniform")}, "holds the answers of one row, .*: random@0.5, uniform@0.5; give one"),
        ({"keep_ratios": (0.5, 0.2)}, r"these were asked for: random@0.5, random@0.2; give one --pruner and"),
        ({"limit": 1}, "--limit does not go with --submission, which is every mask and nothing else; leave it out"),
        ({"facts": ("kept",)}, "--fact does not go with --submission"),
        ({"protocol": {}}, "are 1; expected 202; get both files again, or say how many with valid_videos"),
        (
            {"protocol": {"videos": 1}},
            "unknown option of the submission protocol 'videos'; did you mean 'valid_videos'",
        ),
    ],
)
def test_what_no_server_would_take_is_refused_before_any_work(
    request_of: Request, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        plan(replace(request_of, **change))


def test_an_expression_that_cannot_be_read_stops_the_submission(request_of: Request, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "Ref-YouTube-VOS", tmp_path / "Ref-YouTube-VOS")
    planned = plan(replace(request_of, root=tmp_path))
    with pytest.raises(DataError, match="an expression of the submission cannot be read; get its files again"):
        planned.scoring.nothing(None)
    (tmp_path / "Ref-YouTube-VOS/valid/JPEGImages/aaaa000001/00000.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read .*00000.jpg"):
        evaluate(replace(planned, make=LeftHalf), request_of.lines)

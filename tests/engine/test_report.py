"""The report: cases by rule, strangers' words escaped, nothing from outside the page."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leanseg.engine.evaluation.request import Request, evaluation_record
from leanseg.engine.report import cases, measured
from leanseg.engine.report.page import ReportRequest, build
from leanseg.engine.tables import add_summary
from leanseg.errors import DataError, InputError, LeansegError
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import TASKS, prompt_text
from leanseg.models.instructseg.tokenizer import train_tokenizer
from leanseg.models.presets import PRESETS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
        InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).save_pretrained(folder)
    return folder


def evaluated(model: Path, folder: Path, data: str = "scenes:test", **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"limit": 3, "pruners": ("evtp", "random"), "keep_ratios": (0.5, 0.2)} | changes
    made = evaluation_record(Request(out=folder / "r.json", model=str(model), data=data, **given))
    assert made is not None
    return add_summary(made)


@pytest.fixture(scope="module")
def record(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(model, tmp_path_factory.mktemp("run"), facts=("coverage",))


def line(index: int, **more: Any) -> dict[str, Any]:
    return {"index": index, "id": f"s/{index}", "instruction": "the dog", **more}


def test_cases_are_the_largest_gain_the_median_and_the_largest_loss() -> None:
    lines = [line(0), line(1), line(2), line(3, failures={"all": "x"}), line(4)]
    everything, pruned = np.array([0.5, 0.5, 0.5, 0.9, 0.5]), np.array([0.4, 0.9, 0.1, 0.0, 0.5])
    chosen = cases.choose(lines, everything, pruned, "evtp@0.2")
    assert [(case.rule, case.line["index"]) for case in chosen] == [
        ("largest gain", 1), ("median", 0), ("largest loss", 2),
    ]  # fmt: skip
    assert (chosen[2].everything, chosen[2].pruned) == (0.5, 0.1)
    assert cases.choose([line(0, failures={"all": "x"})], everything[:1], pruned[:1], "evtp@0.2") == []


def test_a_page_stands_by_itself_and_holds_every_part(model: Path, record: dict[str, Any]) -> None:
    page = build(ReportRequest(record=record, model=str(model)))
    for title in (
        "Results",
        "Quality and tokens kept",
        "Cases: evtp@0.2",
        "Costs",
        "Latency",
        "Protocol",
        "Environment",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "<svg" in page and "coverage joint_max" in page and "By kind" in page
    assert 'src="http' not in page and "<script" not in page and "href" not in page.replace('xlink:href="#', "")
    pictures = page.split('src="data:image/jpeg;base64,')[1:]
    assert len(pictures) == 3
    shown = Image.open(io.BytesIO(b64decode(pictures[0].split('"')[0])))
    assert shown.size == (3 * 240 + 2 * 6, 2 * 240 + 6)


def test_a_clip_is_shown_as_a_strip(model: Path, tmp_path: Path) -> None:
    made = evaluated(model, tmp_path, data="scenes:clips_test", limit=2, pruners=("evtp",), keep_ratios=(0.2,))
    page = build(ReportRequest(record=made, model=str(model)))
    shown = Image.open(io.BytesIO(b64decode(page.split('src="data:image/jpeg;base64,')[1].split('"')[0])))
    assert shown.size == (6 * 246 - 6, 4 * 246 - 6)
    assert "J&amp;F" in page


def test_words_of_a_stranger_stay_words(record: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script>"
    lines = [{**one, "instruction": evil, "failures": {"all": evil}} for one in record["samples"]]
    page = build(ReportRequest(record={**record, "samples": lines, "command": evil}, cases=False))
    assert evil not in page and "&lt;script&gt;" in page
    assert "answers that failed" in page


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {}, r"the record's model is '.*', which is not in the package; say where it lies .* --model"),
        ({"model": "instructseg-nano"}, {}, r"the weights of 'instructseg-nano' are not those of the record"),
        ({}, {"rows": ("evpt@0.2",), "cases": False}, r"unknown pruned row 'evpt@0.2'; did you mean 'evtp@0.2'"),
        ({"options": None}, {"cases": False}, r"the record has no options; expected one of leanseg eval"),
        ({"samples": 3}, {"cases": False}, r"the record cannot be read \(Type"),
        ({"samples": [line(0)]}, {"cases": False}, r"the record cannot be read \(KeyError: 'counts'\)"),
        ({"rows": [{"name": "all", "evil": 1}]}, {"cases": False}, r"the record cannot be read \(TypeError: .*'evil'"),
        ({"scoring": {}}, {"cases": False}, r"the record cannot be read \(KeyError: 'name'\)"),
    ],
)
def test_what_cannot_be_reported_is_said(
    record: dict[str, Any], change: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    changed = {name: value for name, value in {**record, **change}.items() if value is not None}
    with pytest.raises(LeansegError, match=message):
        build(ReportRequest(record=changed, **options))
    assert issubclass(DataError, LeansegError) and issubclass(InputError, LeansegError)


def test_costs_stand_in_both_modes() -> None:
    rows = measured.costs(PRESETS["tiny"], [0.2], is_clip=False)
    assert [row["keep_ratio"] for row in rows] == [1.0, 0.2]
    assert rows[0]["paper"] == pytest.approx(2.5599, abs=1e-4) and rows[1]["paper"] == pytest.approx(0.9082, abs=1e-4)
    assert rows[1]["exact"] < rows[0]["exact"] < 0.01

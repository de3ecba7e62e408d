"""The report: cases by rule, strangers' words escaped, nothing from outside the page."""

from __future__ import annotations

import io
import re
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
from leanseg.engine.tables import add_summary, by_kind
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
    assert "<svg" in page and "coverage joint_max" in page and "By kind of instruction" in page
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


def cells(page: str, title: str) -> list[list[str]]:
    """Return the first table of a section."""
    section = page.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in section.split("<tr>")[1:]]


def test_kinds_are_told_apart_for_every_row_at_the_shown_ratio(record: dict[str, Any]) -> None:
    page = build(ReportRequest(record=record, rows=("random@0.5",), cases=False))
    table = cells(page, "By kind of instruction")
    assert [row[0] for row in table] == ["", "all tokens", "evtp@0.5", "random@0.5", "ovp-only", "blind"]
    assert "Of the pruned rows those at 50 % are shown." in page
    for row, name in zip(table[1:], ("all", "evtp@0.5", "random@0.5", "ovp_only", "blind"), strict=True):
        kinds = by_kind(record, name)
        assert table[0][1:] == [f"{kind} ({each['n']})" for kind, each in kinds.items()]
        assert row[1:] == [f"{each['score']:.3f}" for each in kinds.values()]
    one_kind = {**record, "samples": [{**each, "kind": "noun"} for each in record["samples"]]}
    assert "By kind of instruction" not in build(ReportRequest(record=one_kind, cases=False))


def test_options_stand_as_on_the_command_line(record: dict[str, Any]) -> None:
    page = build(ReportRequest(record={**record, "data_options": {"split": "val", "links": False}}, cases=False))
    protocol = dict(row for row in cells(page, "Protocol") if row[0])
    assert protocol["data options"] == "split=val, links=False" and protocol["scoring"] == "name=region"
    assert protocol["options"] == "position_ids=compact, site=before_projector, coverage=True"
    environment = dict(row for row in cells(page, "Environment") if row[0])
    made_before = {name: value for name, value in record.items() if name != "device"}
    assert record["device"] == environment["device"] == "cpu"
    assert ["device", "not recorded"] in cells(build(ReportRequest(record=made_before, cases=False)), "Environment")
    assert f"torch={torch.__version__}" in environment["packages"]
    assert not any(set("{}'") & set(value) for value in (*protocol.values(), *environment.values()))
    assert dict(cells(build(ReportRequest(record=record, cases=False)), "Protocol")[1:])["data options"] == "none"


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
        ({"samples": [line(0, counts={"all": [[1, 2]]})]}, {"cases": False}, r"the record cannot be read \(KeyError"),
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

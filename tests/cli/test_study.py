"""`leanseg study`: the list, one JSON document, refusals before any work."""

from __future__ import annotations

import json

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study import run as running


@pytest.fixture
def measured(monkeypatch):
    """Every evaluation is there already: evtp and random at a fifth of the tokens."""
    values = {"all": varied(0.6), "evtp@0.2": varied(0.6), "uniform@0.2": varied(0.5), "random@0.2": varied(0.4)}
    record = made(values | {"ovp_only": varied(0.3), "blind": varied(0.25)})
    monkeypatch.setattr(running, "_evaluated", lambda key, request, progress, overwrite: record)


def test_without_a_name_the_studies_are_listed(run):
    outcome = run("study")
    assert outcome.code == 0 and outcome.out.startswith("retention") and outcome.out.count("?") >= 1
    listed = json.loads(run("study", "--json").out)["available"]
    assert {"name": "retention", "question": listed[0]["question"]} == listed[0]


def test_a_study_shows_tables_and_findings_and_writes_record_and_plot(run, measured, tmp_path):
    outcome = run("study", "retention", "--out", "s", "--limit", 40)
    assert outcome.code == 0, outcome.err
    assert "| evtp | 0.600 ± " in outcome.out and "* Random tokens saturate" in outcome.out
    assert (tmp_path / "s/retention.png").stat().st_size > 1000
    document = json.loads(run("study", "retention", "--out", "s", "--limit", 40, "--json").out)
    assert document["schema"] == 1 and document["command"] == "study"
    (record,) = document["studies"]
    assert record["kind"] == "study" and record["command"] == "leanseg study retention --limit 40 --out s"
    assert json.loads((tmp_path / "s/retention.json").read_text()) == record


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retnetion"], "unknown study 'retnetion'; did you mean 'retention'"),
        (["retention", "--model", "instructseg-nnao"], "unknown model 'instructseg-nnao'"),
        (["retention", "--limit", "1"], "Invalid value for '--limit'"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(run, arguments, said):
    outcome = run("study", *arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert said in outcome.err and outcome.err.count("\n") == 1

"""Studies run their evaluations once, take up what is there, and refuse before any work what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.squares import LeftHalf, Squares
from tests.engine.study.records import made

from leanseg.engine.evaluation import request as requests
from leanseg.engine.evaluation.grid import Row, grid
from leanseg.engine.records import read_record
from leanseg.engine.study import registry
from leanseg.engine.study.base import Setup, Study
from leanseg.engine.study.measured import Measured, apart
from leanseg.engine.study.page import studies_table
from leanseg.engine.study.run import planned, run_studies
from leanseg.engine.tables import render_document
from leanseg.errors import DataError, LeansegError
from leanseg.metrics.significance import Interval


class Halves(Study):
    name = "halves"
    question = "Is half of it half as good?"

    def requests(self, setup):
        shared = setup.request("squares", scenes=4, pruners=("random",), keep_ratios=(0.5,))
        return {"squares": shared, "own": replace(setup.request("own", scenes=2), rows=(Row(name="all"),))}

    def analyse(self, records):
        measured = Measured.of(records["squares"])
        return {
            "n": measured.n,
            "half": float(measured.at("random", 0.5).mean()),
            "own": len(records["own"]["samples"]),
        }

    def tables(self, analysis):
        return {"Halves": f"| half |\n|---|\n| {analysis['half']:.3f} |"}

    def plot(self, analysis, path):
        path.write_text("drawn")

    def sentences(self, analysis):
        return [f"{analysis['n']} squares were seen."]


class Again(Halves):
    name = "again"

    def requests(self, setup):
        return {"squares": super().requests(setup)["squares"]}

    def analyse(self, records):
        return {**super().analyse({**records, "own": {"samples": ()}})}


@pytest.fixture
def segmenter(monkeypatch):
    made = LeftHalf()
    monkeypatch.setitem(registry.STUDIES, "halves", Halves)
    monkeypatch.setitem(registry.STUDIES, "again", Again)
    monkeypatch.setattr(requests, "load", lambda *_, **__: made)
    monkeypatch.setattr(requests, "_opened", lambda request: Squares(request.limit))
    monkeypatch.setattr(requests, "_indices", lambda request, dataset, n: range(n))
    return made


def test_a_study_leaves_a_record_a_plot_and_its_evaluations(segmenter, tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    out = tmp_path / "results/studies"
    (record,) = run_studies(["halves"], Setup(out=out), lambda *told: seen.append(told))
    assert read_record(out / "halves.json", "study") == json.loads(json.dumps(record))
    assert record["analysis"] == {"n": 4, "half": pytest.approx(0.375, abs=1e-5), "own": 2}
    assert record["command"] == f"leanseg study halves --out {out}"
    assert record["evaluations"]["squares"]["file"] == "evaluations/squares.json"
    assert record["evaluations"]["squares"]["n_samples"] == 4
    assert (out / "halves.png").read_text() == "drawn"
    assert ("squares", 4, 4) in seen and ("own", 2, 2) in seen
    assert sorted(path.name for path in (out / "evaluations").iterdir()) == ["own.json", "squares.json"]
    # What the shared evaluation is called does not depend on who asked first; own rows have no other command.
    assert read_record(out / "evaluations/squares.json", "evaluation")["command"].startswith("leanseg eval ")
    assert read_record(out / "evaluations/own.json", "evaluation")["command"] == record["command"]


def test_studies_share_evaluations_and_take_up_what_is_there(segmenter, tmp_path: Path, caplog):
    caplog.set_level("INFO", "leanseg.engine.resuming")
    setup = Setup(out=tmp_path)
    first = run_studies(["halves", "again"], setup)
    calls = segmenter.calls
    assert calls == 4 * 4 + 2 and not caplog.messages
    second = run_studies(["again", "halves"], setup)
    assert segmenter.calls == calls
    assert [each["analysis"] for each in second] == [each["analysis"] for each in reversed(first)]
    assert caplog.messages == [f"resumed from {tmp_path}/evaluations: 2 of 2 evaluations are done"]
    run_studies(["again"], setup, overwrite=True)
    assert len(caplog.messages) == 1
    assert segmenter.calls == calls + 4 * 4


def test_what_is_there_of_another_evaluation_stops_before_any_work(segmenter, tmp_path: Path):
    run_studies(["again"], Setup(out=tmp_path))
    calls = segmenter.calls
    with pytest.raises(DataError, match=r"holds the finished record of another evaluation .* --overwrite to lose it"):
        run_studies(["halves"], Setup(out=tmp_path, limit=2))
    assert segmenter.calls == calls and not (tmp_path / "evaluations/own.json").exists()


def test_an_unknown_study_is_refused_with_close_matches(tmp_path: Path):
    with pytest.raises(LeansegError, match=r"unknown study 'retnetion'; did you mean 'retention'"):
        planned(["retnetion"], Setup(out=tmp_path))


def test_studies_that_ask_different_things_under_one_key_are_refused(segmenter, tmp_path: Path, monkeypatch):
    class Other(Again):
        name = "other"

        def requests(self, setup):
            return {"squares": replace(super().requests(setup)["squares"], keep_ratios=(0.2,))}

    monkeypatch.setitem(registry.STUDIES, "other", Other)
    said = r"'squares' has keep_ratios \(0.2,\) in study 'other' and \(0.5,\) in one before it; .* another key"
    with pytest.raises(LeansegError, match=said):
        run_studies(["again", "other"], Setup(out=tmp_path))
    assert segmenter.calls == 0
    # Rows of a study's own are the same evaluation, whichever study's command makes them.
    monkeypatch.setitem(registry.STUDIES, "other", type("Own", (Halves,), {"name": "other"}))
    assert list(planned(["halves", "other"], Setup(out=tmp_path))) == ["squares", "own"]


def test_all_studies_together_ask_one_thing_per_key(tmp_path: Path):
    assert len(planned(list(registry.STUDIES), Setup(out=tmp_path, limit=2))) >= len(registry.STUDIES)


def test_without_matplotlib_nothing_starts(segmenter, tmp_path: Path, monkeypatch):
    from leanseg.engine.bench import select_plot

    monkeypatch.setattr(select_plot, "find_spec", lambda name: None)
    with pytest.raises(LeansegError, match="plots need matplotlib"):
        run_studies(["halves"], Setup(out=tmp_path))
    assert segmenter.calls == 0


def test_a_limit_bounds_every_evaluation_and_shows_in_the_command(tmp_path: Path):
    setup = Setup(out=tmp_path, limit=3, model="other", processes=2)
    assert setup.request("a", scenes=9).limit == 3 and setup.request("a", scenes=2).limit == 2
    assert setup.request("a").limit == 3 and Setup().request("a").limit is None
    asked = setup.request("a", facts=("kept",))
    assert (asked.model, asked.processes, asked.facts) == ("other", 2, ("kept",))


def test_every_study_has_a_name_a_question_and_requests_that_can_be_met(tmp_path: Path):
    assert [each.name for each in registry.STUDIES.values()] == list(registry.STUDIES)
    for name, study in registry.STUDIES.items():
        assert study.question.endswith("?") and f"| `{name}` | {study.question} |" in studies_table()
        for key, request in planned([name], Setup(out=tmp_path, limit=2)).items():
            names = [row.name.split("@")[0] for row in request.rows or grid(request.pruners, request.keep_ratios)]
            assert {"all", "ovp_only", "blind", "uniform", "random"} <= set(names), key
            assert request.out == tmp_path / "evaluations" / f"{key}.json"


def test_a_page_shows_question_findings_tables_picture_and_command(segmenter, tmp_path: Path):
    run_studies(["halves"], Setup(out=tmp_path))
    page = render_document("<!-- table: study halves.json -->\n<!-- /table -->\n", tmp_path)
    for part in (
        "*Is half of it",
        "* 4 squares were seen.",
        "| 0.375 |",
        "(images/studies/halves.png)",
        "leanseg study",
    ):
        assert part in page
    assert "Measured on 4 of `scenes:test`, 2 of `scenes:test`, generated scenes, with `instructseg-nano`" in page
    assert render_document(page, tmp_path) == page


def test_a_record_is_read_as_numbers():
    measured = Measured.of(made({"all": [0.5, 1.0], "a@0.2": [0.25, 0.5], "a@0.5": [0.5, 0.5], "blind": [0.0, 0.0]}))
    assert measured.measure == "giou" and measured.pruners == ("a",) and measured.keep_ratios == (0.5, 0.2)
    ratios, table = measured.curve("a")
    assert ratios.tolist() == [1.0, 0.5, 0.2]
    np.testing.assert_allclose(table, [[0.5, 0.5, 0.25], [1.0, 0.5, 0.5]], atol=1e-4)


def test_two_sets_apart_have_the_interval_of_independent_means():
    difference = apart(Interval(0.5, 0.4, 0.6), Interval(0.2, 0.1, 0.3))
    assert difference.mean == pytest.approx(0.3)
    assert difference.low == pytest.approx(0.3 - 0.02**0.5) and difference.high == pytest.approx(0.3 + 0.02**0.5)

"""`leanseg bench`: a record of every way to choose tokens, tables made from it, and a plot."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from leanseg.engine.bench import select, select_plot, select_tables
from leanseg.engine.records import read_record
from leanseg.engine.tables import render_document
from leanseg.pruners import PRUNERS, Uniform


@pytest.fixture(autouse=True)
def quick_first_call(monkeypatch):
    """The first call of a process takes seconds by nature; it has a test of its own."""
    monkeypatch.setattr(select, "first_call_seconds", lambda: {"nothing_kept": 5.0, "kept": None})


def test_a_quick_run_writes_record_tables_and_plot(run, tmp_path):
    outcome = run("bench", "select", "--quick", "--out", "out/b.json", "--plot", "out/b.png")
    assert outcome.code == 0, outcome.err
    record = read_record(tmp_path / "out/b.json", "bench_select")
    assert record["command"] == "leanseg bench select --quick" and record["threads"] == 1
    assert not [sample for sample in record["samples"] if "error" in sample]
    engines = select_tables.part(record, "engines")
    assert {sample["name"] for sample in engines} == set(select.rivals())
    assert all(sample["picks_agreed"] == sample["k"] for sample in engines)
    methods = select_tables.part(record, "methods")
    assert {sample["name"] for sample in methods} == set(PRUNERS)
    assert all(0 < sample["kept"] <= sample["n"] for sample in methods)
    assert all(sample["kept_agreed"] == sample["k"] for sample in select_tables.part(record, "published"))
    assert {sample["name"] for sample in select_tables.part(record, "attention")} == {"in chunks", "eager"}
    assert "| full matrix, selected rows read again |" in outcome.out and "| evtp |" in outcome.out
    assert "| first selection of a process, compiling | 5.0 s |" in outcome.out
    with Image.open(tmp_path / "out/b.png") as picture:
        assert picture.size[0] > 1000
    text = "".join(
        f"<!-- table: {name} out/b.json -->\n<!-- /table -->\n"
        for name in ("select_speed", "select_methods", "select_attention", "select_details")
    )
    filled = render_document(text, tmp_path)
    assert filled.count("|---") >= 5 and render_document(filled, tmp_path) == filled


def test_stages_of_an_answer_are_a_profile_for_costs(run, tmp_path):
    outcome = run("bench", "stages", "--quick", "--out", "stages.json")
    assert outcome.code == 0, outcome.err
    record = read_record(tmp_path / "stages.json", "stages")
    assert record["seconds"]["language"] > 0 and record["kept"] == 51
    assert "language" in outcome.out and "%" in outcome.out
    amdahl = run("flops", "--amdahl", "--preset", "nano", "--mode", "exact", "--profile", "stages.json", "--json")
    assert amdahl.code == 0, amdahl.err
    assert run("bench", "stages", "--pruner", "evpt").code == 2


def test_what_fails_is_said_and_costs_nothing_else(run, monkeypatch):
    def fails(self, tokens, k):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(Uniform, "select", fails)
    outcome = run("bench", "select", "--quick", "--json")
    assert outcome.code == 0
    record = json.loads(outcome.out)
    failed = {sample["name"] for sample in record["samples"] if "error" in sample}
    assert failed == {"uniform"}
    assert "failed: uniform (RuntimeError: no such thing)" in outcome.err
    assert "| uniform | failed | failed | failed |" in select_tables.methods_table(record)
    assert "| uniform, 4 of 36 | RuntimeError: no such thing |" in select_tables.details_table(record)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["selct"], "unknown subject 'selct'"),
        (
            ["select", "--quick", "--plot", "b.jpg"],
            "the plot is 'b.jpg'; expected a name that ends in .png, .svg or .pdf",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(run, arguments, said):
    outcome = run("bench", *arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert said in outcome.err and outcome.err.count("\n") == 1


def test_a_plot_without_matplotlib_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(select_plot, "find_spec", lambda name: None)
    outcome = run("bench", "select", "--plot", "b.png")
    assert outcome.code == 2 and 'pip install "leanseg[bench]"' in outcome.err


def test_metrics_are_timed_beside_the_public_way(run, tmp_path):
    outcome = run("bench", "metrics", "--quick", "--out", "m.json")
    assert outcome.code == 0, outcome.err
    assert read_record(tmp_path / "m.json", "bench_metrics")["command"] == "leanseg bench metrics --quick"
    assert "| unsupervised DAVIS, 3 proposals x 2 objects" in outcome.out.replace("\n", "")
    assert json.loads(run("bench", "metrics", "--quick", "--json").out)["kind"] == "bench_metrics"


def test_stages_inside_sam_are_timed(run, tmp_path):
    outcome = run("bench", "vltp", "--quick", "--out", "v.json")
    assert outcome.code == 0, outcome.err
    assert read_record(tmp_path / "v.json", "bench_vltp")["command"] == "leanseg bench vltp --quick"
    assert "| tiny | 1: 80%, 3: 80% | 10, 10 |" in outcome.out and "| mask decoder |" in outcome.out
    text = "".join(f"<!-- table: {kind} v.json -->\n<!-- /table -->\n" for kind in ("vltp_speed", "vltp_breakdown"))
    filled = render_document(text, tmp_path)
    assert filled.count("|---") >= 3 and render_document(filled, tmp_path) == filled
    outcome = run("bench", "vltp", "--size", "hh")
    assert outcome.code == 2 and "unknown size 'hh'" in outcome.err

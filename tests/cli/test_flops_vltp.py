"""`leanseg flops vltp`: SAM with stages, and one line for what cannot be."""

from __future__ import annotations

import json

import pytest

from leanseg import costs
from leanseg.costs.sam_published import PUBLISHED


def test_both_modes_show_everything_and_the_stages(run):
    outcome = run("flops", "vltp")
    assert outcome.code == 0
    assert "SAM ViT-H, paper" in outcome.out
    assert ["16:", "0.2,", "24:", "0.2", "1.7856", "1.7856", "40.0%"] in [
        line.split() for line in outcome.out.splitlines()
    ]
    assert "2.9805" in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 120


def test_the_model_is_an_argument_or_an_option(run):
    named = run("flops", "vltp")
    assert named.out == run("flops", "--model", "vltp").out == run("flops", "vltp", "--model", "vltp").out
    assert "SAM ViT-H" in named.out
    assert run("flops", "instructseg", "--dataset", "revos").out == run("flops", "--dataset", "revos").out


def test_rows_of_the_paper_that_follow_no_rule_are_listed_beside_its_rule(run):
    strays = [row for row in PUBLISHED if not row.follows_rule]
    assert {row.table for row in strays} == {"5", "7"}
    shown = [line.split() for line in run("flops", "vltp", "--mode", "paper").out.splitlines()]
    for row in strays:
        figures = [f"{value / 1e3:.4f}" for value in (row.printed, row.by_rule, row.exact)]
        assert [row.table, *figures] in [line[-4:] for line in shown]
    listed = json.loads(run("flops", "vltp", "--json").out)["no_rule"]
    assert [(row["table"], row["printed"]) for row in listed] == [(row.table, row.printed / 1e3) for row in strays]
    for options in (["--mode", "exact"], ["--size", "l"]):
        assert json.loads(run("flops", "vltp", *options, "--json").out)["no_rule"] == []
        assert "no rule" not in run("flops", "vltp", *options).out


def test_json_rows_are_the_costs(run):
    options = ["--size", "l", "--stage", "12:0.5", "--stage", "18:0.2", "--mode", "exact", "--json"]
    document = json.loads(run("flops", "vltp", *options).out)
    assert (document["schema"], document["command"]) == (1, "flops")
    full, kept = document["rows"]
    assert full["reduction"] == 0
    expected = costs.sam("l", {12: 0.5, 18: 0.2}, "exact")
    assert kept == {**expected.to_json(), "reduction": 1 - expected.total / full["total"]}


def test_a_size_that_the_paper_lacks_is_counted_exactly(run):
    outcome = run("flops", "vltp", "--size", "b")
    assert "SAM ViT-B, exact" in outcome.out
    assert "paper" not in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["sam"], "unknown model 'sam'"),
        (["vltp", "--model", "instructseg"], "the model is vltp, and --model is instructseg; expected one of them"),
        (["vltp", "--dataset", "refcoco"], "--dataset belongs to the model instructseg, and it is vltp"),
        (["vltp", "--amdahl"], "--amdahl belongs to the model instructseg"),
        (["vltp", "--as-released"], "--as-released belongs to the model instructseg"),
        (["vltp", "--seq-reading", "V"], "--seq-reading belongs to the model instructseg"),
        (["--stage", "16:0.2"], "--stage belongs to the model vltp, and it is instructseg"),
        (["vltp", "--stage", "16"], "--stage '16' cannot be read; expected AFTER_BLOCK:KEEP_RATIO"),
        (["vltp", "--stage", "16:0.2", "--stage", "16:0.3"], "--stage was given twice for one block"),
        (["vltp", "--stage", "40:0.2"], "after block 40; expected a whole number in 0..31"),
        (["vltp", "--size", "b", "--mode", "paper"], "no figure for SAM of size b"),
    ],
)
def test_what_cannot_be_counted_is_one_line(run, options, message):
    outcome = run("flops", *options)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())

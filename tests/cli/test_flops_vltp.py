"""`leanseg flops --model vltp`: SAM with stages, and one line for what cannot be."""

from __future__ import annotations

import json

import pytest

from leanseg import costs


def test_both_modes_show_everything_and_the_stages(run):
    outcome = run("flops", "--model", "vltp")
    assert outcome.code == 0
    assert "SAM ViT-H, paper" in outcome.out
    assert ["16:", "0.2,", "24:", "0.2", "1.7856", "1.7856", "40.0%"] in [
        line.split() for line in outcome.out.splitlines()
    ]
    assert "2.9805" in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 120


def test_json_rows_are_the_costs(run):
    options = ["--size", "l", "--stage", "12:0.5", "--stage", "18:0.2", "--mode", "exact", "--json"]
    document = json.loads(run("flops", "--model", "vltp", *options).out)
    assert (document["schema"], document["command"]) == (1, "flops")
    full, kept = document["rows"]
    assert full["reduction"] == 0
    expected = costs.sam("l", {12: 0.5, 18: 0.2}, "exact")
    assert kept == {**expected.to_json(), "reduction": 1 - expected.total / full["total"]}


def test_a_size_that_the_paper_lacks_is_counted_exactly(run):
    outcome = run("flops", "--model", "vltp", "--size", "b")
    assert "SAM ViT-B, exact" in outcome.out
    assert "paper" not in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "sam"], "unknown model 'sam'"),
        (["--model", "vltp", "--dataset", "refcoco"], "--dataset belongs to --model instructseg, and --model is vltp"),
        (["--model", "vltp", "--amdahl"], "--amdahl belongs to --model instructseg"),
        (["--model", "vltp", "--as-released"], "--as-released belongs to --model instructseg"),
        (["--model", "vltp", "--seq-reading", "V"], "--seq-reading belongs to --model instructseg"),
        (["--stage", "16:0.2"], "--stage belongs to --model vltp, and --model is instructseg"),
        (["--model", "vltp", "--stage", "16"], "--stage '16' cannot be read; expected AFTER_BLOCK:KEEP_RATIO"),
        (["--model", "vltp", "--stage", "16:0.2", "--stage", "16:0.3"], "--stage was given twice for one block"),
        (["--model", "vltp", "--stage", "40:0.2"], "after block 40; expected a whole number in 0..31"),
        (["--model", "vltp", "--size", "b", "--mode", "paper"], "no figure for SAM of size b"),
    ],
)
def test_what_cannot_be_counted_is_one_line(run, options, message):
    outcome = run("flops", *options)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())

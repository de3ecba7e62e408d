"""`leanseg flops`: tables that fit, JSON that is whole, and one line for what cannot be."""

from __future__ import annotations

import json

import pytest

from leanseg import costs


def test_tables_fit_in_120_columns_and_say_the_unit(run):
    outcome = run("flops")
    assert outcome.code == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= 120
    assert "…" not in outcome.out
    assert outcome.out.count("1e12 multiply-adds (times 2 = TFLOPs)") == 2 * len(costs.DATASETS)
    for dataset in costs.DATASETS:
        assert f"{dataset}, paper" in outcome.out
        assert f"{dataset}, exact" in outcome.out


def test_a_row_is_the_cost(run):
    outcome = run("flops", "--dataset", "refcoco", "--mode", "paper", "--visual-tokens", "146")
    row = next(line.split() for line in outcome.out.splitlines() if line.lstrip().startswith("146"))
    assert row == ["146", "15", "261", "0.7022", "0.1919", "0.0000", "0.0008", "0.0126", "0.0006", "0.9082", "64.5%",
                   "x2.82", "x3.35"]  # fmt: skip


def test_json_has_every_row_with_its_readings(run):
    outcome = run("flops", "--dataset", "revos", "--keep-ratio", "1", "--keep-ratio", "0.2", "--json")
    document = json.loads(outcome.out)
    assert (document["schema"], document["command"], document["amdahl"]) == (1, "flops", [])
    assert [(row["mode"], row["visual_tokens"]) for row in document["rows"]] == [
        ("paper", 729), ("paper", 146), ("exact", 729), ("exact", 146),
    ]  # fmt: skip
    row = document["rows"][1]
    assert row["total"] == costs.instructseg("revos", 146).total
    assert row["flops"] == 2 * row["total"]
    assert set(row) == {
        "model", "dataset", "mode", "text_tokens", "visual_tokens", "n_tokens", "frames", "sequence_length", "parts",
        "total", "flops", "readings", "reduction", "speedup", "lm_speedup",
    }  # fmt: skip


def test_readings_reach_the_count(run):
    options = ["--seq-reading", "V", "--teff", "S", "--vision-once", "--prune-reading", "joint", "--mask-reading", "VF"]
    outcome = run("flops", "--dataset", "revos", "--mode", "paper", "--visual-tokens", "36", *options, "--json")
    row = json.loads(outcome.out)["rows"][0]
    readings = {
        "seq_reading": "V",
        "teff": "S",
        "vision_times_frames": False,
        "prune_reading": "joint",
        "mask_reading": "VF",
    }
    assert row["parts"] == costs.instructseg("revos", 36, **readings).parts
    options = ["--as-released", "--site", "after_projector", "--selection", "free", "--text-tokens", "9"]
    options += ["--template-tokens", "7", "--instructions", "1", "--preset", "nano"]
    outcome = run("flops", "--dataset", "revos", "--mode", "exact", "--keep-ratio", "0.2", *options, "--json")
    row = json.loads(outcome.out)["rows"][0]
    assert (row["text_tokens"], row["visual_tokens"], row["n_tokens"]) == (17, 51, 256)
    assert row["readings"]["cached"] is False


def test_amdahl_shows_shares_and_what_pruning_saves_at_most(run):
    outcome = run("flops", "--amdahl", "--mode", "exact", "--as-released")
    assert outcome.code == 0
    assert "refcoco, exact as released" in outcome.out
    assert "refyoutube, exact as released" in outcome.out
    assert "saved at 729" not in outcome.out
    assert "if they were free" in outcome.out
    assert "-0.0%" not in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 120
    alone = run("flops", "--amdahl", "--mode", "exact", "--dataset", "refcoco", "--visual-tokens", "729", "--json")
    assert json.loads(alone.out)["amdahl"][0]["speedups"] == [1.0]


def test_amdahl_takes_a_machine(run, tmp_path):
    rates = dict.fromkeys(("encode", "select", "project", "temporal", "language", "pixel", "decode"), 2.0)
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"schema": 1, "kind": "hardware_profile", "name": "mine", "rates": rates}))
    outcome = run("flops", "--amdahl", "--dataset", "refcoco", "--profile", str(path))
    assert "1.28 seconds are expected" in outcome.out
    document = json.loads(run("flops", "--amdahl", "--dataset", "refcoco", "--profile", str(path), "--json").out)
    assert [view["profile"] for view in document["amdahl"]] == ["mine", "mine"]


def test_bars_are_drawn_into_a_file(run, tmp_path):
    outcome = run("flops", "--dataset", "refcoco", "--plot", str(tmp_path / "costs.png"))
    assert outcome.code == 0
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "papers"], "unknown mode 'papers'; did you mean 'paper'"),
        (["--dataset", "refcoc"], "unknown data set 'refcoc'; did you mean 'refcoco"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--visual-tokens", "730"], "visual_tokens is 730; expected a whole number of 1 to 729"),
        (["--keep-ratio", "20"], "for 20 % write 0.2"),
        (["--mode", "paper", "--site", "after_projector"], "--site belongs to mode exact, and --mode is paper"),
        (["--mode", "paper", "--as-released"], "--as-released belongs to mode exact"),
        (["--mode", "paper", "--preset", "nano"], "--preset belongs to mode exact"),
        (["--mode", "exact", "--teff", "S"], "--teff belongs to mode paper, and --mode is exact"),
        (["--teff", "X"], "unknown teff 'X'"),
        (["--profile", "machine.json"], "expected --amdahl beside it"),
        (["--amdahl", "--profile", "absent.json"], "no profile at absent.json"),
        (["--plot", "costs.doc"], "cannot draw 'costs.doc'"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(run, arguments, said):
    outcome = run("flops", *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert said in outcome.err

"""`leanseg eval`: a record or a zip, once and for all; flags that fit each other."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"
HIDDEN = ("--data", "refyoutube:valid", "--root", SAMPLES, "--protocol", "valid_videos=1")


@pytest.fixture
def one_row(run, model_folder):
    """Evaluate with one pruner at one ratio."""
    return lambda *words: run("eval", "--model", model_folder, "--pruner", "random", "--keep-ratio", 0.5, *words)


def test_a_record_is_made_once_and_found_again(one_row, tmp_path):
    first = one_row("--limit", 2, "--out", "r.json", "--json")
    assert first.code == 0, first.err
    document = json.loads(first.out)
    assert document["kind"] == "evaluation" and document["n_samples"] == 2 and "samples" not in document
    made = (tmp_path / "r.json").read_bytes()
    again = one_row("--limit", 2, "--out", "r.json")
    assert "holds this very evaluation, finished; --overwrite measures anew" in again.err
    assert "scenes:test, 2 samples" in again.out and (tmp_path / "r.json").read_bytes() == made
    other = one_row("--limit", 3, "--out", "r.json")
    assert other.code == 2 and "finished record of another evaluation" in other.err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("r")] == ["r.json"]


@pytest.mark.parametrize("words", [("--limit", 2, "--out", "r.json"), ("--submission", "r.zip", *HIDDEN)])
def test_a_run_says_once_on_stderr_where_it_resumes(one_row, monkeypatch, words):
    def full(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("leanseg.engine.records.write_json", full)
        broken.setattr("leanseg.engine.evaluation.submission.write_answers", full)
        first = one_row(*words)
    assert first.code == 1 and "resumed" not in first.err
    again = one_row(*words)
    assert again.code == 0 and again.err == "resumed from r.lines.jsonl: 2 samples are done\n"
    assert "resumed" not in again.out


def test_only_the_first_rank_shows_a_record_that_is_there(one_row, monkeypatch):
    assert one_row("--limit", 2, "--out", "r.json").out
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert one_row("--limit", 2, "--out", "r.json", "--json").out == ""


def test_a_public_data_set_is_scored_by_its_protocol(one_row):
    outcome = one_row(
        "--data",
        "refdavis:val",
        "--root",
        SAMPLES,
        "--data-option",
        "annotator=1",
        "--protocol",
        "matching=id",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["scoring"]["matching"] == "id" and document["data_options"] == {"annotator": 1}
    assert "--data refdavis:val --root ROOT" in document["command"] and "--protocol matching=id" in document["command"]
    assert {"J&F", "J", "F"} <= set(document["summary"][0]["scores"])


def test_a_submission_is_a_zip_and_no_record(one_row, tmp_path):
    words = (*HIDDEN, "--submission", "s.zip")
    outcome = one_row(*words, "--json")
    assert outcome.code == 0, outcome.err
    about = {"submission": "s.zip", "answers": 2, "masks": 6, "failures": {}}
    assert json.loads(outcome.out) == {"schema": 1, "command": "eval", **about}
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["s.zip"]
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert len(archive.namelist()) == 6
    again = one_row(*words)
    assert again.code == 2 and "s.zip is there already; expected a new file; give another name, or --over" in again.err
    assert "s.zip: 6 masks of 2 expressions" in one_row(*words, "--overwrite").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "rya"], "unknown engine 'rya'; did you mean 'ray'? Known: local, ray"),
        (["--workers", 2], "--workers is 2, and --engine is local; expected --processes; give that"),
        (["--engine", "ray", "--processes", 2], "--processes is 2, and --engine is ray; expected --workers; give that"),
        (["--data-option", "unit"], "--data-option is 'unit'; expected name=value, as unit=ref"),
        (["--engine", "ray", "--device", "auto"], "--device is 'auto'; a Ray cluster expects cpu, or cuda"),
    ],
)
def test_flags_that_do_not_fit_are_refused(one_row, words, message):
    outcome = one_row(*words)
    assert (outcome.code, outcome.out) == (2, "") and message in " ".join(outcome.err.split())


def test_ray_that_is_not_installed_is_said(one_row, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = one_row("--engine", "ray", "--limit", 2)
    assert outcome.code == 2
    assert "--engine ray needs the package ray; install it with: pip install 'leanseg[ray]'" in outcome.err


def test_ray_under_torchrun_is_refused(one_row, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = one_row("--engine", "ray", "--limit", 2)
    assert outcome.code == 2 and "--engine is ray under torchrun; expected one of the two" in outcome.err

"""`leanseg data`: a report that is true, the paper's values in their own column, pickles that become JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leanseg.data.statistics import PAPER, cell, summary

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"


@pytest.fixture
def copy(tmp_path) -> Path:
    return shutil.copytree(SAMPLES, tmp_path / "datasets")


def test_check_finds_everything(run):
    outcome = run("data", "check", SAMPLES, "--deep", "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert (document["schema"], document["command"], document["deep"]) == (1, "data check", True)
    states = {entry["name"]: entry["state"] for entry in document["datasets"]}
    # Of these the samples leave splits out.
    assert {name for name, state in states.items() if state == "partial"} == {"reasonseg", "coco_tasks", "instructseg"}
    assert set(states.values()) == {"whole", "partial"} and len(states) == 11
    for entry in document["datasets"]:
        assert set(entry) == {"name", "title", "state", "where", "licence", "splits"}
        assert entry["where"].startswith("https://") and entry["licence"]
        for split in entry["splits"]:
            assert set(split) == {"split", "state", "samples", "annotated", "missing", "problem"}
            assert split["samples"] or split["state"] == "absent"
    counts = json.loads((SAMPLES / "expected_counts.json").read_text())
    rio = next(entry for entry in document["datasets"] if entry["name"] == "rio")
    assert {split["split"]: split["samples"] for split in rio["splits"]} == counts["RIO"]


def test_check_tells_what_is_missing_and_what_is_malformed(run, copy):
    (copy / "ReVOS/JPEGImages/syn_valid_2/00001.jpg").unlink()
    (copy / "RIO/RIO_common_all_thing.json").write_text("[")
    shutil.rmtree(copy / "coco-tasks")
    names = [word for name in ("revos", "rio", "coco_tasks") for word in ("--data", name)]
    outcome = run("data", "check", copy, *names)
    assert outcome.code == 1
    assert (
        "ReVOS (revos): incomplete" in outcome.out and "missing: ReVOS/JPEGImages/syn_valid_2/00001.jpg" in outcome.out
    )
    assert "RIO (rio): malformed" in outcome.out and "cannot be read as JSON" in outcome.out
    assert (
        "COCO-Tasks (coco_tasks): absent" in outcome.out
        and "from: https://github.com/coco-tasks/dataset" in outcome.out
    )
    assert "licence: CC BY-NC-SA 4.0" in outcome.out


def test_check_says_which_splits_are_not_there(run, copy):
    names = ("--data", "refyoutube", "--data", "coco_tasks", "--data", "refdavis")
    shutil.rmtree(copy / "ref-davis_raw")
    outcome = run("data", "check", copy, *names)
    assert "Ref-YouTube-VOS (refyoutube): whole\n" in outcome.out
    # Another layout holds the same splits.
    assert "Ref-DAVIS17 (refdavis): whole\n  not there: train, raw (no DAVIS/ImageSets/2017/train.txt)\n" in outcome.out
    # What is hidden of valid stands in the index of test.
    index = "Ref-YouTube-VOS/meta_expressions/test/meta_expressions.json"
    (copy / index).unlink()
    outcome = run("data", "check", copy, *names)
    assert outcome.code == 0
    assert "Ref-YouTube-VOS (refyoutube): partial, 2 of 4 splits not there\n" in outcome.out
    assert f"  not there: valid (no {index})\n  not there: test (no {index})\n" in outcome.out
    assert "COCO-Tasks (coco_tasks): partial, 24 of 28 splits not there\n" in outcome.out
    assert "and 14 more (--json lists all)" in outcome.out
    shutil.rmtree(copy / "Ref-YouTube-VOS/train/Annotations")
    outcome = run("data", "check", copy, *names)
    assert outcome.code == 1 and "(refyoutube): incomplete, 2 of 4 splits not there\n" in outcome.out


def test_check_decodes_pictures_only_when_asked(run, copy):
    picture = copy / "ReVOS/JPEGImages/syn_valid_2/00001.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    assert run("data", "check", copy, "--data", "revos").code == 0
    outcome = run("data", "check", copy, "--data", "revos", "--deep")
    assert outcome.code == 1 and "00001.jpg" in outcome.out


def test_many_missing_files_are_counted(run, copy):
    shutil.rmtree(copy / "Ref-YouTube-VOS/train/JPEGImages")
    outcome = run("data", "check", copy, "--data", "refyoutube")
    assert outcome.code == 1 and "more (--json lists all)" not in outcome.out
    shutil.rmtree(copy / "Ref-YouTube-VOS/train/Annotations")
    assert "and 4 more (--json lists all)" in run("data", "check", copy, "--data", "refyoutube").out


@pytest.mark.parametrize("what", ["check", "stats"])
def test_a_folder_without_data_sets(run, tmp_path, what):
    (tmp_path / "empty").mkdir()
    outcome = run("data", what, tmp_path / "empty")
    assert outcome.code == 2 and outcome.out == "" and outcome.err.startswith(f"error: {tmp_path}/empty holds no")
    outcome = run("data", what, tmp_path / "nowhere")
    assert outcome.code == 2 and "no such folder" in outcome.err
    outcome = run("data", what, SAMPLES, "--data", "refcok")
    assert outcome.code == 2 and "did you mean 'refcoco'" in outcome.err


def test_stats_put_the_papers_values_into_their_own_column(run):
    outcome = run("data", "stats", SAMPLES)
    assert outcome.code == 0 and "…" not in outcome.out
    davis = outcome.out[outcome.out.index("refdavis (train, val)") :].splitlines()
    assert [word.strip() for word in davis[2].split("┃")[1:4]] == ["statistic", "measured", "paper"]
    row = next(line for line in davis if "expressions per object" in line)
    assert [word.strip() for word in row.split("│")[2:4]] == ["4.0", "7.53"]
    revos = outcome.out[outcome.out.index("revos (train, valid)") :].split("└")[0]
    assert "paper" not in revos


def test_stats_as_json(run):
    document = json.loads(run("data", "stats", SAMPLES, "--data", "refdavis", "--data", "refyoutube", "--json").out)
    davis, youtube = document["datasets"]
    assert set(davis) == {"name", "splits", "by_split", "measured", "paper"}
    assert davis["paper"] == PAPER["refdavis"] and youtube["paper"] == PAPER["refyoutube"]
    expected = {
        "videos": 3, "objects": 6, "expressions": 24, "frames": 12, "annotated_frames": 12, "spanned_frames": 12,
        "objects_per_video": 2.0, "expressions_per_object": 4.0, "frames_per_video": 4.0,
        "spanned_frames_per_video": 4.0, "density": "100% of the listed frames; listed: every frame",
        "categories": {"ball": 4, "square": 2},
    }  # fmt: skip
    assert davis["measured"] == expected
    assert youtube["by_split"]["valid_all"]["objects"] is None
    # Objects of valid are hidden: its videos and expressions may not count into means over objects.
    assert youtube["measured"]["expressions_per_object"] == 1.25 and youtube["measured"]["objects_per_video"] == 2.0
    assert youtube["measured"]["density"] == "54% of the listed frames; listed: one frame in 5"


def test_the_papers_means_are_those_of_its_counts():
    for row in PAPER.values():
        assert row["expressions_per_object"] == pytest.approx(row["expressions"] / row["objects"], abs=0.005)
        assert row["objects_per_video"] == pytest.approx(row["objects"] / row["videos"], abs=0.05)


def test_cells_and_empty_summaries():
    assert cell("categories", dict.fromkeys("abcd", 1)) == "4: a 1, b 1, c 1, ..."
    assert cell("density", "Dense") == "Dense" and summary([{}]) == {}


def test_convert_makes_json_once(run, copy):
    outcome = run("data", "convert", copy / "refer_seg", "--json")
    document = json.loads(outcome.out)
    assert outcome.code == 0 and document["command"] == "data convert" and len(document["written"]) == 3
    for entry in document["written"]:
        stated = json.loads((Path(entry["source"]).parent / "expected_refs.json").read_text())
        assert json.loads(Path(entry["out"]).read_text())["refs"] == stated and entry["refs"] == len(stated)
    assert run("data", "check", copy, "--data", "refcoco").code == 0
    one = copy / "refer_seg/refcoco/refs(unc).p"
    outcome = run("data", "convert", one, "--out", copy / "a.json")
    assert outcome.code == 0 and outcome.out == f"{copy / 'a.json'}: 8 refs\n"


def test_convert_refuses_what_is_no_plain_data(run, copy):
    bad = copy / "refer_seg/pickle_safety/bad_global.p"
    outcome = run("data", "convert", bad)
    assert outcome.code == 2 and "instruction GLOBAL at byte 0" in outcome.err and not bad.with_suffix(".json").exists()
    outcome = run("data", "convert", copy / "ReVOS")
    assert outcome.code == 2 and "no refs(*).p below" in outcome.err
    outcome = run("data", "convert", copy / "refer_seg", "--out", copy / "a.json")
    assert outcome.code == 2 and "holds 3 pickles" in outcome.err
    assert run("data").code == 2 and run("data", "count").code == 2


def test_neither_torch_nor_transformers_is_loaded():
    code = (
        "import sys; from leanseg.cli import main\n"
        f"try: main(['data', 'check', {str(SAMPLES)!r}, '--deep', '--json'])\n"
        "except SystemExit as leaving: assert not leaving.code\n"
        "assert not {'torch', 'transformers', 'numba'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

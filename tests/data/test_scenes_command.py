import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from leanseg.cli.scenes import FORMATS, scenes
from leanseg.data.scenes import export
from leanseg.errors import InputError

APP = typer.Typer()
APP.command()(scenes)


def run(*words: object) -> str:
    result = CliRunner().invoke(APP, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_pictures_clips_instructions_and_masks_are_written(tmp_path: Path):
    document = json.loads(run("--seed", 7, "--out", tmp_path / "out", "--count", 1, "--json"))
    assert document["written"] == {"pictures": 1, "clips": 1, "instructions": 16}
    assert document["command"] == "scenes" and document["seed"] == 7 and document["schema"] == 1
    assert json.loads((tmp_path / "out" / "result.json").read_text())["written"] == document["written"]
    assert (tmp_path / "out" / "pictures" / "picture-000000.png").is_file()
    assert len(list((tmp_path / "out" / "clips" / "clip-000000").iterdir())) == 8
    first = (tmp_path / "out" / "instructions.json").read_bytes()
    run("--seed", 7, "--out", tmp_path / "out", "--count", 1)
    assert (tmp_path / "out" / "instructions.json").read_bytes() == first


@pytest.mark.parametrize("layout", [name for name in FORMATS if name != "native"])
def test_every_format_is_written_from_a_split(layout: str, tmp_path: Path):
    split = "validation" if layout in ("refcoco", "reasonseg") else "fast"
    said = run("--split", split, "--format", layout, "--count", 1, "--out", tmp_path / "out")
    assert said.startswith(str(tmp_path / "out")) and len(list((tmp_path / "out").rglob("*.jpg"))) >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "coco"], "unknown format 'coco'; did you mean 'refcoco'"),
        (["--count", "0"], "--count is 0; expected at least 1"),
        (["--seed", "-2"], "--seed is -2; expected a number >= 0"),
        (["--seed", "1", "--split", "test"], "--seed 1 and --split test are both given"),
        (["--split", "tst"], "unknown split 'tst'; did you mean 'test'"),
        (["--split", "fast", "--count", "201"], "--count is 201; split 'fast' has 200 scenes"),
        (["--split", "fast", "--format", "refcoco"], "--format refcoco holds pictures and split 'fast' holds clips"),
        (["--split", "test", "--format", "revos"], "--format revos holds clips and split 'test' holds pictures"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(words: list[str], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        run("--out", tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(clips: object, root: Path) -> dict[str, int]:
        (root / "half").write_text("written")
        raise OSError("disk full")

    monkeypatch.setattr(export, "write_revos", fail)
    with pytest.raises(OSError, match="disk full"):
        run("--format", "revos", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_others_are_not_replaced(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that `leanseg scenes` did not write"):
        run("--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"

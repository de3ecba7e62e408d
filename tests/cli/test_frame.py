"""The command line's frame: help, versions, exit codes, start-up, and the commands that only report."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from leanseg.cli import COMMANDS


def test_help_lists_every_command(run):
    outcome = run("--help")
    assert outcome.code == 0
    for name in COMMANDS:
        assert name in outcome.out


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example_and_json(run, name):
    outcome = run(name, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert COMMANDS[name].help


def test_version(run):
    import leanseg

    assert run("--version").out == f"leanseg {leanseg.__version__}\n"


def test_unknown_command_is_code_2_with_a_close_match(run):
    outcome = run("sgment")
    assert outcome.code == 2
    assert "segment" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["segment"], "Missing argument 'source'; see leanseg segment --help"),
        (["segment", "picture.png"], "Missing argument 'instructions'"),
        (["segment", "--model"], "'--model' requires an argument"),
        (["segment", "picture.png", "the dog", "--keep-ratio", "much"], "'--keep-ratio'"),
        (["eval", "--limit", "0"], "'--limit'"),
        (["scenes", "--seeed", "1"], "No such option: --seeed"),
        (["doctor", "now"], "unexpected extra argument"),
        (["sgment"], "No such command 'sgment'"),
        (["--versoin"], "--versoin"),
    ],
)
def test_a_wrong_use_is_one_line_on_stderr_and_code_2(run, arguments, said):
    outcome = run(*arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert outcome.err.startswith("error: ")
    assert said in outcome.err


def test_no_arguments_give_the_help(run):
    assert run() == run("--help")


def test_an_interruption_says_that_nothing_was_written(run, monkeypatch):
    from leanseg.cli import pruners

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(pruners, "describe", interrupted)
    outcome = run("pruners")
    assert (outcome.code, outcome.err) == (130, "interrupted; what resumes goes on with the same command\n")


def test_listing_the_commands_imports_none_of_them():
    listing = "[name for name in sys.modules if 'leanseg.cli.' in name]"
    code = f"import sys; from leanseg.cli import build_app; build_app(None); print({listing})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pruners_lists_the_registry(run):
    from leanseg.pruners import PRUNERS, WRAPPERS

    listed = json.loads(run("pruners", "--json").out)
    rows = {row["name"]: row for row in listed["pruners"]}
    assert list(rows) == [*PRUNERS, *WRAPPERS]
    assert rows["evtp"]["options"]["tau"] == 1.0
    assert rows["evtp"]["laws"] == ["exact count", "nested", "each frame by itself"]
    assert rows["evs"]["laws"][-1] == "a clip's frames together"
    assert rows["fastv"]["needs"] == ["attention of the language model"]
    assert rows["reserve"]["wraps"] == ["inner"] and "inner" not in rows["reserve"]["options"]
    assert rows["adaptive"]["required"] == ["radius"] and "radius" not in rows["adaptive"]["options"]
    assert "options: radius=..., measure='absolute'" in run("pruners").out
    assert "merges" in rows["tome"]["laws"] and "CC BY-NC" in rows["tome"]["licence"]
    for row in rows.values():
        assert row["summary"].endswith(".") and row["paper"] and row["licence"] and row["laws"], row
        assert row["extension"] == row["paper"].startswith("ours"), row["name"]
    readable = run("pruners").out
    for name in rows:
        assert name in readable


def test_doctor_reports_what_is_there(run):
    outcome = run("doctor", "--json")
    report = json.loads(outcome.out)
    assert report["packages"]["torch"] is not None
    assert outcome.code == (1 if report["problems"] else 0)
    readable = run("doctor")
    assert "torch" in readable.out
    assert readable.code == outcome.code


def test_doctor_names_what_is_missing(run, monkeypatch):
    from leanseg.cli import doctor

    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "pycocotools" else real(name))
    outcome = run("doctor")
    assert outcome.code == 1
    assert "pycocotools is not installed" in outcome.out

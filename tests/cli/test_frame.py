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


def test_listing_the_commands_imports_none_of_them():
    listing = "[name for name in sys.modules if 'leanseg.cli.' in name]"
    code = f"import sys; from leanseg.cli import build_app; build_app(None); print({listing})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pruners_lists_the_registry(run):
    from leanseg.pruners import PRUNERS

    listed = json.loads(run("pruners", "--json").out)
    assert [row["name"] for row in listed["pruners"]] == list(PRUNERS)
    evtp = next(row for row in listed["pruners"] if row["name"] == "evtp")
    assert evtp["options"]["tau"] == 1.0
    assert evtp["summary"].endswith(".")
    readable = run("pruners").out
    for name in PRUNERS:
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

"""What a visitor finds at the door is true: the commands exist, the fixtures are whole, the tables are the records'."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 16 * 1024 * 1024
MOST_LINES = 300
# Tables by nature, of one line per entry.
LONG_TABLES = {"src/leanseg/data/scenes/items.py"}
DOORSTEP = ("README.md", "LICENSE", "CONTRIBUTING.md", "CITATION.cff", "CHANGELOG.md", "Makefile", ".ci/run")


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOORSTEP)
def test_the_doorstep_is_there(name):
    assert (ROOT / name).stat().st_size > 0


def test_licence_is_apache():
    assert "Apache License" in _text("LICENSE")
    assert tomllib.loads(_text("pyproject.toml"))["project"]["license"] == "Apache-2.0"


def test_version_is_the_same_everywhere():
    import leanseg

    version = tomllib.loads(_text("pyproject.toml"))["project"]["version"]
    assert leanseg.__version__ == version
    assert f"version: {version}" in _text("CITATION.cff")
    assert f"[{version}]" in _text("CHANGELOG.md") or "[Unreleased]" in _text("CHANGELOG.md")


def test_constraints_bound_torch_and_carry_no_local_version():
    lines = [line for line in _text("constraints.txt").splitlines() if line and not line.startswith("#")]
    assert "torch>=2.11,<2.14" in lines
    assert not [line for line in lines if "+" in line or "/" in line or "@" in line]
    bounded = {re.split(r"[<>=]", line)[0] for line in lines}
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    needed = {re.split(r"[<>=\[]", line)[0] for line in [*project["dependencies"], *extras["train"], *extras["dev"]]}
    assert needed - {"leanseg"} <= bounded


def test_every_dependency_is_justified_in_the_design():
    design = _text("docs/design.md").lower()
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    names = [re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]]
    names += [re.split(r"[<>=\[]", line)[0] for extra in project["optional-dependencies"].values() for line in extra]
    assert [name for name in names if name != "leanseg" and f"`{name}`" not in design] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/cli.md"])
def test_commands_that_the_pages_name_exist(page):
    from leanseg.cli import COMMANDS

    text = _text(page)
    targets = set(re.findall(r"^([a-z]+):", _text("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", text)) <= targets
    assert set(re.findall(r"(?:`|^|\$ )leanseg ([a-z]+)\b", text, flags=re.MULTILINE)) <= set(COMMANDS)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", _text(page))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_pages_are_short_enough_to_be_read():
    readme = _text("README.md")
    assert len(readme.split("\n## ")[0].splitlines()) <= 80
    assert len(_text("CONTRIBUTING.md").splitlines()) <= 60


def test_no_tracked_file_is_large():
    assert [path.name for path in _tracked() if path.stat().st_size > MOST_BYTES] == []


def test_no_tracked_text_names_a_path_of_one_machine():
    places = re.compile(r"(?<![\w.~/-])/(?:work|root|home|opt|mnt|tmp)/[\w.-]")
    found = []
    for path in _tracked():
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".cff", ".sh"} and path.stat().st_size < 2_000_000:
            # Fixtures of damaged files are in no encoding.
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [path.relative_to(ROOT).as_posix()] if places.search(text) else []
    assert found == []


def test_golden_manifest_is_true():
    module = _script("golden_manifest")
    stated = json.loads((module.GOLDEN / module.MANIFEST).read_text())
    actual = module.build()
    differing = sorted(name for name in stated.keys() | actual.keys() if stated.get(name) != actual.get(name))
    assert differing == [], "run scripts/golden_manifest.py if the change is meant"


def test_tables_in_the_pages_are_those_of_the_records():
    from leanseg.engine.tables import render_document

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "src/leanseg/assets").glob("*/README.md")]
    differing = [page.name for page in pages if render_document(page.read_text(), ROOT) != page.read_text()]
    assert differing == []


def test_the_table_of_pruners_is_that_of_the_registry():
    page = _text("docs/pruners.md")
    rendered = _script("tables").render_pruners(page)
    assert rendered == page, "run: python scripts/tables.py"
    assert _script("tables").render_pruners(page.replace("| `kcenter`", "| `centre`")) == page


def test_the_page_of_studies_lists_all_and_shows_every_record():
    page = _text("docs/studies.md")
    assert _script("tables").render_studies(page) == page, "run: python scripts/tables.py --plots"
    for record in sorted((ROOT / "results" / "studies").glob("*.json")):
        assert f"<!-- table: study results/studies/{record.name} -->" in page
        assert (ROOT / "docs" / "images" / "studies" / f"{record.stem}.png").stat().st_size > 0


def test_every_method_is_shown_on_a_picture():
    from leanseg.pruners import PRUNERS, WRAPPERS

    script = _script("pruner_pictures")
    page = _text("docs/pruners.md")
    assert script.render_page(page) == page, "run: python scripts/pruner_pictures.py"
    drawn = {path.stem for path in (ROOT / "docs/images/pruners").glob("*.png")}
    assert drawn == set(script.specs()) == {*PRUNERS, *WRAPPERS}


def test_the_demo_asks_what_its_scenes_were_made_for():
    from leanseg.cli.notes import notes

    folder = ROOT / "src/leanseg/assets/demo"
    for name, instructions in json.loads((folder / "demo.json").read_text()).items():
        assert instructions
        assert notes(folder / name, instructions, "instructseg-nano") == []


@pytest.mark.slow
def test_the_python_lines_of_the_readme_run(monkeypatch, capsys):
    if not (ROOT / "src/leanseg/assets/instructseg-nano/config.json").is_file():
        pytest.skip("the weights of the small model are not here")
    monkeypatch.chdir(ROOT)
    lines = re.findall(r"```python\n(.*?)```", _text("README.md"), flags=re.DOTALL)
    assert len(lines) == 1
    exec(lines[0], {})
    assert capsys.readouterr().out.startswith("(1, ")


def test_modules_stay_small_enough_to_be_read():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(_text(str(path)).splitlines()) for path in ROOT.glob("src/**/*.py")
    }
    assert {path for path in LONG_TABLES if lengths[path] <= MOST_LINES} == set(), "no exception any more"
    assert {path: n for path, n in lengths.items() if n > MOST_LINES and path not in LONG_TABLES} == {}

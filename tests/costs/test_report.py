"""Rows, ceilings, the tables of the page and the picture."""

from __future__ import annotations

import builtins
import importlib.util
from pathlib import Path

import pytest

from leanseg import costs
from leanseg.costs import Profile, report
from leanseg.costs.plot import draw
from leanseg.errors import InputError
from leanseg.models import PRESETS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "costs.md"


def test_rows_compare_with_all_tokens():
    full, fifth = report.compare("refcoco", "paper", [729, 146])
    assert (full.reduction, full.speedup, full.lm_speedup) == (0, 1, 1)
    assert fifth.reduction == pytest.approx(0.6452, abs=5e-5)
    assert fifth.speedup == pytest.approx(1 / (1 - fifth.reduction))
    assert fifth.lm_speedup == pytest.approx(3.35, abs=5e-3)
    assert fifth.to_json()["speedup"] == fifth.speedup


def test_budgets_follow_the_sizes():
    assert report.default_budgets("exact") == [729, 146, 73, 36]
    assert report.default_budgets("exact", PRESETS["nano"]) == [256, 51, 26, 13]
    assert [row.cost.visual_tokens for row in report.compare("revos", "exact", [256, 1], sizes=PRESETS["nano"])] == [
        256,
        1,
    ]


def test_shares_are_those_of_the_count_under_the_uniform_profile():
    full = costs.instructseg("refcoco", 729, "exact")
    found = report.ceiling("refcoco", "exact", (146, 36))
    shares = {stage.stage: stage.share for stage in found.stages}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["language"] == pytest.approx(full.parts["lm"] / full.total)
    assert [stage.stage for stage in found.stages if stage.pruned] == ["project", "temporal", "language"]
    assert found.speedups[0] == pytest.approx(full.total / costs.instructseg("refcoco", 146, "exact").total)
    assert found.speedups[0] == pytest.approx(1 / (1 - sum(stage.saved[0] for stage in found.stages)))
    assert 1 < found.speedups[0] < found.speedups[1] < found.floor < found.limit
    assert found.limit == pytest.approx(1 / (1 - found.pruned_share))
    assert found.to_json()["pruned_share"] == found.pruned_share


def test_a_slow_pixel_branch_lowers_every_speed_up():
    rates = dict.fromkeys(("encode", "select", "project", "temporal", "language", "decode"), 1.0) | {"pixel": 0.1}
    slow = Profile(name="slow pixels", rates=tuple(rates.items()), fixed_s=(("postprocess", 1.0),))
    even, uneven = (report.ceiling("refyoutube", "exact", (73,), each) for each in (costs.UNIFORM, slow))
    assert uneven.speedups[0] < even.speedups[0]
    assert uneven.limit < even.limit
    assert uneven.profile == "slow pixels"
    assert {stage.stage: stage.pruned for stage in uneven.stages}["postprocess"] is False


def test_the_page_holds_todays_tables():
    text = PAGE.read_text(encoding="utf-8")
    assert report.render(text) == text, "run: python scripts/tables.py"
    for name in report.TABLES:
        assert f"<!-- costs: {name} -->" in text
    assert report.render(text.replace("| RefDAVIS |", "| DAVIS |")) == text


def test_the_script_fills_the_page(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = tmp_path / "costs.md"
    page.write_text("<!-- costs: paper -->\nold\n<!-- /costs -->\n", encoding="utf-8")
    monkeypatch.setattr(script, "COSTS_PAGE", page)
    assert script.update(script.COSTS_PAGE, report.render)
    assert "| RefCOCO | 15 | 2.5599 |" in page.read_text(encoding="utf-8")
    assert not script.update(script.COSTS_PAGE, report.render)


def test_costs_are_drawn(tmp_path):
    rows = report.compare("refcoco", "exact", [729, 146])
    out = draw(
        [("one", rows), ("two", rows), ("three", report.compare("revos", "paper", [36]))], tmp_path / "costs.png"
    )
    assert out.read_bytes().startswith(b"\x89PNG")
    assert draw([("one", rows)], tmp_path / "costs.svg").stat().st_size > 0


def test_a_picture_needs_a_known_kind_and_a_folder(tmp_path):
    rows = report.compare("refcoco", "paper", [146])
    with pytest.raises(InputError, match=r"cannot draw 'costs\.txt'; expected a name that ends in \.png"):
        draw([("one", rows)], tmp_path / "costs.txt")
    with pytest.raises(InputError, match=r"no folder .*absent for costs\.png; make it first"):
        draw([("one", rows)], tmp_path / "absent" / "costs.png")


def test_without_matplotlib_drawing_says_what_to_install(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return whole(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="drawing needs matplotlib; install it with: pip install"):
        draw([("one", report.compare("refcoco", "paper", [146]))], tmp_path / "costs.png")

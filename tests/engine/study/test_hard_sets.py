"""The study of hard sets compares losses, not levels, and keeps the sets apart."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.hard_sets import HardSets

PAPER = (0.2, 0.1, 0.05)


def scenes(full: float, **losses: float):
    values = {"all": varied(full)}
    for name in ("evtp", "uniform", "random"):
        for ratio in PAPER:
            values[f"{name}@{ratio:g}"] = varied(full - losses.get(name, 0.02), spread=0.01 + ratio / 50)
    values |= {"ovp_only": varied(0.2), "blind": varied(0.2)}
    return made(values)


@pytest.fixture(scope="module")
def analysis():
    """Among similar objects evtp loses .1 more and random .1 less; in fast motion everything is alike."""
    records = {
        "pictures": scenes(0.6, random=0.2), "school": scenes(0.5, evtp=0.12, random=0.1),
        "clips": scenes(0.7), "fast": scenes(0.4),
    }  # fmt: skip
    return HardSets().analyse(records)


def test_the_additional_loss_is_the_difference_of_the_paired_losses(analysis):
    school, fast = analysis["pairs"]["school"], analysis["pairs"]["fast"]
    assert school["n"] == [40, 40] and school["keep_ratios"] == list(PAPER)
    for name, more in (("evtp", 0.1), ("uniform", 0.0), ("random", -0.1)):
        assert school["rows"][name]["0.1"]["more"]["mean"] == pytest.approx(more, abs=2e-3)
    assert [each["mean"] for each in school["rows"]["evtp"]["0.2"]["quality"]] == pytest.approx([0.38, 0.58], abs=2e-3)
    assert fast["rows"]["evtp"]["0.05"]["more"]["mean"] == pytest.approx(0.0, abs=2e-3)
    assert school["unpruned"]["blind"]["more"]["mean"] == pytest.approx(-0.1, abs=2e-3)


def test_tables_show_both_pairs_of_sets_and_every_row(analysis):
    tables = HardSets().tables(analysis)
    assert [title for title in tables if "similar objects" in title] and [title for title in tables if "fast" in title]
    for text in tables.values():
        for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
            assert f"| {row}" in text
    assert "| evtp | **+0.100** (" in next(iter(tables.values()))


def test_sentences_say_where_more_is_lost_and_where_nothing_is(analysis):
    school, fast = HardSets().sentences(analysis)
    more = "more is lost by evtp at 20 %, evtp at 10 % and evtp at 5 %"
    assert school.startswith(f"Similar objects, 9 settings: measurably, {more}, less is lost by random at 20 %")
    assert fast.startswith(
        "Fast motion, 9 settings: measurably, no pruner loses more or less. Half of an interval is 0.0"
    )


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    HardSets().plot(analysis, tmp_path / "h.png")
    with Image.open(tmp_path / "h.png") as picture:
        assert picture.size[0] > 1000

"""The study of retention finds the curve and the saturation point that its records were made with."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.retention import Retention


@pytest.fixture(scope="module")
def analysis():
    values = {"all": varied(0.6)}
    for name, means in {"evtp": (0.6, 0.6, 0.55), "uniform": (0.6, 0.5, 0.4), "random": (0.6, 0.6, 0.3)}.items():
        values |= {
            f"{name}@{ratio:g}": varied(mean, spread=0.01 + ratio / 100)
            for ratio, mean in zip((0.5, 0.2, 0.1), means, strict=True)
        }
    values |= {"ovp_only": varied(0.3), "blind": varied(0.25)}
    return Retention().analyse({"pictures": made(values)})


def test_curves_and_saturation_points_are_those_of_the_samples(analysis):
    assert analysis["keep_ratios"] == [0.5, 0.2, 0.1] and analysis["n"] == 40
    assert [point["mean"] for point in analysis["pruners"]["evtp"]["curve"]] == pytest.approx(
        [0.6, 0.6, 0.55], abs=1e-4
    )
    assert analysis["unpruned"]["blind"]["mean"] == pytest.approx(0.25, abs=1e-4)
    points = {name: each["saturation"] for name, each in analysis["pruners"].items()}
    assert {name: point["keep_ratio"] for name, point in points.items()} == {"evtp": 0.2, "uniform": 0.5, "random": 0.2}
    assert points["uniform"]["low"] == points["uniform"]["high"] == 0.5


def test_tables_have_a_row_per_pruner_and_the_unpruned_ones(analysis):
    quality, points = Retention().tables(analysis).values()
    for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
        assert f"| {row} |" in quality and f"| {row} |" in points
    assert "| tokens kept | 50 % | 20 % | 10 % |" in quality
    assert "| uniform | 50 % | 50 % to 50 % |" in points


def test_sentences_keep_the_papers_figure_apart_and_say_who_needs_more(analysis):
    said = " ".join(Retention().sentences(analysis))
    assert "under evtp and random: 20 % of them" in said
    assert "The paper states 60 to 70 % for its own models and data" in said
    assert "Measurably more tokens than evtp are needed by uniform." in said
    assert "The interval of evtp overlaps those of random." in said


def test_a_simple_method_that_needs_less_is_said_to(analysis):
    turned = {**analysis, "pruners": {"evtp": analysis["pruners"]["uniform"], "uniform": analysis["pruners"]["evtp"]}}
    assert "Measurably fewer tokens than evtp are needed by uniform." in " ".join(Retention().sentences(turned))


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Retention().plot(analysis, tmp_path / "new" / "retention.png")
    with Image.open(tmp_path / "new" / "retention.png") as picture:
        assert picture.size[0] > 1000

"""The study of coverage tells what the keep ratio makes from what coverage makes."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.coverage import PRUNERS, RADII, CoverageStudy

RATIOS = (0.5, 0.1)


@pytest.fixture(scope="module")
def analysis():
    """Within a ratio the features' radius falls where gIoU rises, the grid's rises, the joint one has no say."""
    values, facts = {"all": varied(0.7)}, {}
    for ratio in RATIOS:
        for number, name in enumerate(PRUNERS):
            values[f"{name}@{ratio:g}"] = varied((0.5 if ratio == 0.5 else 0.3) + 0.01 * number)
            level = 1.0 - ratio
            unrelated = (number * 5 % 12) / 100
            radii = {"feature": level - number / 100, "spatial": level + number / 100, "joint": level + unrelated}
            facts[f"{name}@{ratio:g}"] = {
                "coverage": {f"{space}_{what}": radius for space, radius in radii.items() for what in ("max", "mean")}
            }
    values |= {"ovp_only": varied(0.3), "blind": varied(0.25)}
    return CoverageStudy().analyse({"coverage": made(values, lines=[{"facts": facts}] * 40)})


def test_over_all_points_every_radius_seems_to_matter_since_the_ratio_moves_both(analysis):
    for radius in RADII:
        assert analysis["correlations"][radius]["pearson"]["all"]["coefficient"] < -0.7


def test_within_a_ratio_only_what_was_made_so_is_left(analysis):
    found = analysis["correlations"]
    for method in ("spearman", "pearson"):
        assert found["feature_max"][method]["centred"]["coefficient"] == pytest.approx(-1.0)
        assert found["spatial_mean"][method]["centred"]["coefficient"] == pytest.approx(1.0)
        assert abs(found["joint_max"][method]["centred"]["coefficient"]) < 0.3
        assert found["feature_mean"][method]["within"]["0.1"]["coefficient"] == pytest.approx(-1.0)
        assert found["feature_max"][method]["centred"]["p_adjusted"] < 0.01
        assert found["joint_max"][method]["centred"]["p_adjusted"] > 0.05


def test_points_hold_mean_radius_and_mean_score(analysis):
    assert len(analysis["points"]) == 24
    point = next(p for p in analysis["points"] if p["pruner"] == "kcenter" and p["keep_ratio"] == 0.1)
    assert point["score"]["mean"] == pytest.approx(0.31, abs=1e-4)
    assert point["radii"]["feature_max"] == pytest.approx(0.89) and point["radii"]["spatial_mean"] == pytest.approx(
        0.91
    )


def test_an_answer_that_failed_has_no_radius_and_is_left_out_of_the_mean():
    radii = dict.fromkeys(RADII, 0.5)
    lines = [
        {"facts": {f"{name}@0.1": {"coverage": radii} for name in ("evtp", "random", "uniform")}} for _ in range(40)
    ]
    lines[3] = {"facts": {"evtp@0.1": {"coverage": radii}, "uniform@0.1": {"coverage": radii}}}
    values = {f"{name}@0.1": varied(0.1 * k) for k, name in enumerate(("evtp", "random", "uniform"), 1)}
    record = made({"all": varied(0.6), **values, "ovp_only": varied(0.3), "blind": varied(0.2)}, lines=lines)
    analysis = CoverageStudy().analyse({"coverage": record})
    assert [point["radii"]["joint_max"] for point in analysis["points"]] == [0.5, 0.5, 0.5]
    assert analysis["correlations"]["joint_max"]["spearman"]["all"]["coefficient"] is None
    assert "not defined" in " ".join(CoverageStudy().tables(analysis).values())
    assert "nothing can be told of all six distances" in " ".join(CoverageStudy().sentences(analysis))


def test_tables_and_sentences_say_which_radius_and_which_reading(analysis):
    study = CoverageStudy()
    overall, within, points = study.tables(analysis).values()
    assert "| largest feature distance | **" in overall and "**-1.00** (-1.00 to -1.00)" in overall
    assert "| radius | 50 % | 10 % |" in within
    for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
        assert f"| {row} |" in points
    said = " ".join(study.sentences(analysis))
    assert (
        "only the choice of tokens is left, a smaller radius goes with a higher gIoU by largest feature distance and "
        "mean feature distance; with a lower one by largest grid distance and mean grid distance" in said
    )
    assert "in which evtp selects, Spearman is **-" in said


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    CoverageStudy().plot(analysis, tmp_path / "coverage.png")
    with Image.open(tmp_path / "coverage.png") as picture:
        assert picture.size[0] > 1000

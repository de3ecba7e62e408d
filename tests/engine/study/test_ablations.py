"""The study of ablations finds the changes that its records were made with, and no others."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.ablations import CHOICES, Ablations
from leanseg.engine.study.base import Setup

WORSE, SAME, BETTER = "evtp(spatial_weight=0.0)", "evtp(tau=2.0)", "evtp, site after_projector"


@pytest.fixture(scope="module")
def analysis():
    values = {"all": varied(0.6)}
    for ratio in ("0.2", "0.05"):
        values |= {f"{name}@{ratio}": varied(0.55) for name in ("evtp", SAME)}
        values |= {f"{WORSE}@{ratio}": varied(0.5, spread=0.02), f"{BETTER}@{ratio}": varied(0.58, spread=0.02)}
        values |= {f"uniform@{ratio}": varied(0.4, spread=0.02), f"random@{ratio}": varied(0.3, spread=0.02)}
    values |= {"ovp_only": varied(0.3), "blind": varied(0.25)}
    return Ablations().analyse({"ablations": made(values)})


def test_each_variant_is_compared_with_the_default_by_sample_and_all_are_corrected_together(analysis):
    found = analysis["differences"]
    assert len(found) == 2 * 5 and "evtp@0.2" not in found
    assert found[f"{WORSE}@0.2"]["mean"] == pytest.approx(-0.05) and found[f"{WORSE}@0.2"]["significant"]
    assert found[f"{BETTER}@0.05"]["mean"] == pytest.approx(0.03) and found[f"{BETTER}@0.05"]["significant"]
    assert found[f"{SAME}@0.2"]["mean"] == 0.0 and not found[f"{SAME}@0.2"]["significant"]
    # Holm: the smallest of ten p of the bootstrap, 2/10001, times ten.
    assert found[f"{WORSE}@0.2"]["p"] == pytest.approx(10 * 2 / 10_001, rel=0.01)


def test_the_table_has_all_rows_and_bold_where_a_change_stands(analysis):
    (text,) = Ablations().tables(analysis).values()
    for row in ("default | evtp", "unpruned | all tokens", "unpruned | ovp-only", "unpruned | blind"):
        assert f"| {row} |" in text
    assert "| simple method | uniform | 0.400 ± 0.006 | **-0.150**" in text and "| simple method | random |" in text
    assert f"| coordinates | {WORSE} | 0.500 ± 0.006 | **-0.050** (-0.0" in text
    assert f"| tau | {SAME} | 0.550 ± 0.003 | +0.000 (+0.000 to +0.000) |" in text


def test_sentences_say_what_is_better_worse_or_the_same(analysis):
    said = Ablations().sentences(analysis)
    for ratio in ("20 %", "5 %"):
        variants = (
            f"At {ratio}, measurably better than the default: `{BETTER}`; worse: `{WORSE}`; not told apart from it: "
        )
        assert any(each.startswith(f"{variants}the other 1, whose") for each in said)
        simple = f"The simple methods at {ratio}, compared with the default: better: none; worse: uniform and random;"
        assert f"{simple} not told apart: none." in said
    assert "Choices of which no variant can be told apart at any ratio: tau." in said
    assert any("the loss that the paper argues for is seen at 20 % and 5 %." in each for each in said)


def test_a_loss_without_coordinates_that_is_not_there_is_said_not_to_be(analysis):
    rows = {name: {**each, "significant": False} for name, each in analysis["differences"].items()}
    said = " ".join(Ablations().sentences({**analysis, "differences": rows}))
    assert "the loss that the paper argues for cannot be seen here." in said
    assert "Choices of which no variant can be told apart at any ratio: coordinates, tau and site." in said


def test_every_row_of_the_request_differs_from_the_default_in_what_it_is_named_for():
    (request,) = Ablations().requests(Setup()).values()
    rows = {row.name: row for row in request.rows}
    assert {f"{name}@{r}" for members in CHOICES.values() for name in members for r in ("0.2", "0.05")} <= set(rows)
    assert rows[f"{BETTER}@0.2"].options == {"site": "after_projector"}
    assert rows["evtp, position_ids original@0.05"].options == {"position_ids": "original"}
    assert rows[f"{BETTER}@0.2"].pruner == rows["evtp@0.2"].pruner
    assert len({(row.pruner, row.visual, str(row.options)) for row in request.rows}) == len(request.rows)


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Ablations().plot(analysis, tmp_path / "ablations.png")
    with Image.open(tmp_path / "ablations.png") as picture:
        assert picture.size[0] > 1000

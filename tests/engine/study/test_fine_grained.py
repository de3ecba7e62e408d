"""The study of small targets sorts by area and finds the fewest tokens of each group."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.fine_grained import FineGrained, thirds

RATIOS = (0.5, 0.2, 0.1)
# The smallest of 60 targets come first; the last target is empty and belongs to no group.
AREAS = [*np.linspace(0.01, 0.3, 60), 0.0]


def by_group(small: float, middle: float, large: float) -> list[float]:
    return [*varied(small, 20), *varied(middle, 20), *varied(large, 20), 1.0]


@pytest.fixture(scope="module")
def analysis():
    values = {"all": by_group(0.4, 0.6, 0.8)}
    for name, small in (("evtp", (0.4, 0.4, 0.4)), ("uniform", (0.4, 0.4, 0.2)), ("random", (0.4, 0.2, 0.1))):
        for ratio, at in zip(RATIOS, small, strict=True):
            values[f"{name}@{ratio:g}"] = by_group(at, 0.6, 0.8)
    values |= {"ovp_only": by_group(0.2, 0.3, 0.4), "blind": by_group(0.1, 0.3, 0.4)}
    lines = [{"target": {"area": area}} for area in AREAS]
    tiny = {name: varied(0.1 if name == "random@0.5" else 0.4) for name in values}
    return FineGrained().analyse({"pictures": made(values, lines=lines), "tiny": made(tiny)})


def test_targets_are_thirds_by_area_and_empty_ones_are_in_none():
    members = thirds(np.array(AREAS))
    assert [int(each.sum()) for each in members.values()] == [20, 20, 20]
    assert members["small"][:20].all() and members["large"][40:60].all()
    assert not any(each[60] for each in members.values())


def test_the_fewest_tokens_are_those_the_samples_were_made_with(analysis):
    found = {
        group: {name: point["keep_ratio"] for name, point in each["retention"].items()}
        for group, each in analysis["groups"].items()
    }
    assert found["small"] == {"evtp": 0.1, "uniform": 0.2, "random": 0.5}
    assert found["middle"] == found["large"] == {"evtp": 0.1, "uniform": 0.1, "random": 0.1}
    # A ratio counts only if all larger ones are enough as well.
    assert found["tiny"] == {"evtp": 0.1, "uniform": 0.1, "random": 1.0}
    assert analysis["groups"]["small"]["area"] == pytest.approx([0.01, AREAS[19]], abs=1e-3)


def test_tables_have_every_row_and_group(analysis):
    needed, quality = FineGrained().tables(analysis).values()
    assert "| targets | small, 20 | middle, 20 | large, 20 | tiny, 40 |" in needed
    assert "| random | 50 % (50 to 50) | 10 % (10 to 10) |" in needed
    assert "| blind, share of the quality | 25 % | 50 % | 50 % | 100 % |" in needed
    for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
        assert f"| {row} |" in quality


def test_sentences_say_who_needs_more_for_small_targets(analysis):
    said = " ".join(FineGrained().sentences(analysis))
    by = "By intervals that do not meet,"
    assert f"{by} small targets need more tokens under uniform and random than large ones." in said
    assert f"{by} tiny targets need more tokens under random than large ones." in said
    enough = "On small targets 10 % of the tokens are enough, by the means, for evtp (95 % interval 10 to 10 %)"
    assert f"{enough}; the intervals of uniform and random lie above one of these." in said


def test_sentences_say_when_nothing_differs(analysis):
    large = analysis["groups"]["large"]
    said = FineGrained().sentences({**analysis, "groups": dict.fromkeys(analysis["groups"], large)})
    assert said[0] == "The intervals of small targets and of large ones overlap under every pruner."
    assert said[1].endswith("and random (95 % interval 10 to 10 %).")


def test_a_wide_interval_is_said_and_what_overlaps_it_is_not_worse(analysis):
    small = analysis["groups"]["small"]
    wide = {**small["retention"], "evtp": {**small["retention"]["evtp"], "high": 0.5}}
    groups = {**analysis["groups"], "small": {**small, "retention": wide}}
    said = FineGrained().sentences({**analysis, "groups": groups})[1]
    assert said.endswith("for evtp (95 % interval 10 to 50 %); all other intervals overlap these.")


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    FineGrained().plot(analysis, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size[0] > 1000

"""The study of extensions says, per kind of scene, what is better than EVTP and than the simple methods."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

import leanseg
from leanseg.data.scenes import splits
from leanseg.engine.study.base import Setup
from leanseg.engine.study.extensions import ADAPTIVE, EXTENSIONS, RADII, SPLITS, Extensions

MEANS = {"evtp": 0.5, "uniform": 0.4, "random": 0.3, "reserve": 0.45, "adaptive": 0.5}


def record(**other: float):
    values, facts = {"all": varied(0.6)}, {}
    for number, (name, mean) in enumerate({**MEANS, **other}.items()):
        for ratio in ("0.2", "0.05"):
            values[f"{name}@{ratio}"] = varied(mean, spread=0.01 + 0.002 * number)
            facts[f"{name}@{ratio}"] = {"kept": [40 if name == "adaptive" else 51]}
    values |= {"ovp_only": varied(0.3), "blind": varied(0.25)}
    return made(values, lines=[{"facts": facts}] * 40)


@pytest.fixture(scope="module")
def analysis():
    return Extensions().analyse({"extensions_test": record(), "extensions_tiny": record(reserve=0.6)})


def test_ours_are_compared_with_evtp_and_the_simple_methods_within_each_split(analysis):
    assert analysis["ours"] == ["reserve", "adaptive"] and list(analysis["splits"]) == ["test", "tiny"]
    for split, expected in (("test", -0.05), ("tiny", 0.1)):
        found = {(e["first"], e["second"]): e for e in analysis["splits"][split]["differences"]}
        assert len(found) == 2 * 2 * 3
        assert found["reserve@0.2", "evtp@0.2"]["mean"] == pytest.approx(expected, abs=1e-4)
        assert found["reserve@0.2", "evtp@0.2"]["significant"] and found["reserve@0.05", "random@0.05"]["significant"]
        assert not found["adaptive@0.2", "evtp@0.2"]["significant"]
    assert analysis["splits"]["test"]["kept"]["adaptive@0.2"] == 40.0


def test_tables_and_sentences_say_what_is_better_on_which_scenes(analysis):
    study = Extensions()
    tables = study.tables(analysis)
    assert [title.split(",")[0] for title in tables] == ["`test`", "`tiny`"]
    for text in tables.values():
        for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
            assert f"| {row} |" in text
        assert "| adaptive | 40.0 | 0.500 ± " in text
    unclear, evtp, uniform, random, named = study.sentences(analysis)
    assert unclear.startswith("What is not named below cannot be told apart: 24 differences")
    assert evtp == (
        "Measurably better than evtp at the same ratio: reserve (`tiny` at 20 % and `tiny` at 5 %). Worse: reserve "
        "(`test` at 20 % and `test` at 5 %)."
    )
    assert uniform.endswith("Worse: none.") and "adaptive (`test` at 20 %, `test` at 5 %, `tiny` at 20 %" in random
    assert "reserve is `reserve(inner=evtp())`" in named and "adaptive keeps its ratio in the mean of other" in named


def test_requests_have_each_extension_at_each_ratio_on_each_split():
    found = Extensions().requests(Setup())
    assert list(found) == [f"extensions_{split}" for split in SPLITS]
    for split, request in zip(SPLITS, found.values(), strict=True):
        names = {row.name for row in request.rows}
        assert request.data == f"scenes:{split}"
        assert {f"{name}@{ratio:g}" for name in (*EXTENSIONS, ADAPTIVE) for ratio in RADII} <= names


def test_adaptive_keeps_about_its_ratio_where_its_radius_was_calibrated():
    """The radii are constants of the study; here they are measured again, on a few of the same scenes."""
    segmenter = leanseg.load(device="cpu")
    scenes = splits.split("validation", scenes=5)
    samples = [scenes[4 * number] for number in range(5)]
    (request, *_) = Extensions().requests(Setup()).values()
    rows = [row for row in request.rows if row.name.startswith(ADAPTIVE)]
    assert [row.keep_ratio for row in rows] == list(RADII)
    for row in rows:
        answers = [segmenter.segment(s.clip[0], s.instruction, pruner=leanseg.pruner(row.pruner)) for s in samples]
        kept = sum(answer.selections[0].k for answer in answers) / len(samples)
        assert kept / answers[0].selections[0].n_tokens == pytest.approx(row.keep_ratio, rel=0.35)


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Extensions().plot(analysis, tmp_path / "extensions.png")
    with Image.open(tmp_path / "extensions.png") as picture:
        assert picture.size[0] > 1000

"""The study of significance tells apart what differs, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine.study.records import made

from leanseg.engine.study import significance
from leanseg.engine.study.significance import Significance, told_apart
from leanseg.errors import InputError

N = 60


@pytest.fixture(scope="module")
def analysis():
    """At 20 % random is .2 below the others, at 5 % uniform as well; at 10 % random is .4 below, and not on nouns."""
    rng = np.random.default_rng(5)
    base = rng.uniform(0.5, 0.7, N)
    noun = np.arange(N) % 2 == 0

    def series(drop: float, spare_nouns: bool = False):
        values = base - drop * (~noun if spare_nouns else 1) + rng.normal(0, 0.02, N)
        return np.clip(values, 0, 1).tolist()

    values = {"all": series(0)}
    for ratio, drops in ((0.2, (0, 0, 0.2)), (0.1, (0, 0, 0.4)), (0.05, (0, 0.2, 0.3))):
        for name, drop in zip(("evtp", "uniform", "random"), drops, strict=True):
            values[f"{name}@{ratio:g}"] = series(drop, spare_nouns=ratio == 0.1)
    values |= {"ovp_only": series(0.45), "blind": series(0.45)}
    lines = [{"kind": "noun" if is_noun else "position"} for is_noun in noun]
    return Significance().analyse({"pictures": made(values, lines=lines)})


def test_pairs_that_differ_are_told_apart_and_others_are_not(analysis):
    apart = {
        (pair["keep_ratio"], pair["first"], pair["second"]): pair["difference"]
        for pair in analysis["pairs"]
        if pair["significant"] and {pair["first"], pair["second"]} <= {"evtp", "uniform", "random"}
    }
    assert set(apart) == {
        (0.2, "evtp", "random"), (0.2, "uniform", "random"), (0.1, "evtp", "random"), (0.1, "uniform", "random"),
        (0.05, "evtp", "uniform"), (0.05, "evtp", "random"), (0.05, "uniform", "random"),
    }  # fmt: skip
    assert apart[0.05, "evtp", "uniform"] == pytest.approx(0.2, abs=0.02)
    assert [told_apart(analysis, ratio) for ratio in (0.2, 0.05)] == [2, 3]


def test_each_test_is_counted_once_and_none_is_more_certain_than_its_correction(analysis):
    # Three pruners with each other and with three unpruned rows at three ratios, and the unpruned rows once.
    assert analysis["n_tests"] == len(analysis["pairs"]) == 3 * (3 + 9) + 3
    assert all(pair["significant"] == (pair["p_adjusted"] < 0.05) for pair in analysis["pairs"])
    assert all(pair["low"] <= pair["difference"] <= pair["high"] for pair in analysis["pairs"])


def test_resamples_that_resolve_each_ratio_but_not_all_tests_are_refused(monkeypatch):
    rows = [f"{name}@{ratio}" for name in ("evtp", "uniform", "random") for ratio in (0.5, 0.2)]
    record = made({name: np.linspace(0.4, 0.6, 8).tolist() for name in ("all", *rows, "ovp_only", "blind")})
    # 15 tests at each of two ratios, of which 27 differ: 2 * 15 / 1001 is below 0.05, 2 * 27 / 1001 is not.
    monkeypatch.setattr(significance, "_RESAMPLES", 1000)
    with pytest.raises(InputError, match=r"among 27 .* of 1000 resamples .* below 0.05; take .* least 1080"):
        Significance().analyse({"pictures": record})
    monkeypatch.setattr(significance, "_RESAMPLES", 1080)
    assert Significance().analyse({"pictures": record})["n_tests"] == 27


def test_kinds_of_instruction_are_tested_apart(analysis):
    noun, position = (analysis["kinds"][kind] for kind in ("noun", "position"))
    assert noun["n"] == position["n"] == 30
    lost = {
        kind: [row["first"] for row in each["rows"] if row["significant"]] for kind, each in analysis["kinds"].items()
    }
    assert lost == {"noun": ["ovp_only", "blind"], "position": ["random", "ovp_only", "blind"]}


def test_tables_show_every_row_and_what_is_told_apart_in_bold(analysis):
    counts, *matrices, kinds = Significance().tables(analysis).values()
    assert len(matrices) == 3
    assert "| pairs of pruners told apart | **2** of 3 | **2** of 3 | **3** of 3 |" in counts
    for text in (counts, kinds):
        for row in ("evtp", "uniform", "random", "ovp-only", "blind"):
            assert f"| {row} |" in text
    assert "| evtp | +4 -0 |" in matrices[0] or "| evtp | +3 -0 |" in counts
    (line,) = (line for line in matrices[2].splitlines() if line.startswith("| evtp |"))
    assert line.count("**+") == 4 and "| uniform | random | all tokens | ovp-only | blind |" in matrices[2]


def test_sentences_say_what_stands_and_what_does_not(analysis):
    said = Significance().sentences(analysis)
    tests = "60 samples, 39 tests corrected together"
    assert said[0] == f"Told apart, of 3 pairs of pruners: 2 at 20 %, 2 at 10 % and 3 at 5 % ({tests})."
    assert "At 20 % evtp is better than random; not told apart from uniform." in said
    assert "At 5 % evtp is better than uniform and random." in said
    assert "At 10 % evtp loses measurably on these kinds of instruction: none." in said
    assert not any("No pruner can be told apart from all tokens" in each for each in said)


def test_few_samples_of_a_kind_are_left_out():
    values = {name: [0.5, 0.6, 0.4] * 4 for name in ("all", "evtp@0.1", "random@0.1", "ovp_only", "blind")}
    lines = [{"kind": "noun" if k else "rare"} for k in range(12)]
    found = Significance().analyse({"pictures": made(values, lines=lines)})
    assert list(found["kinds"]) == ["noun"]
    assert "No pruner can be told apart from all tokens at 10 %." in Significance().sentences(found)


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Significance().plot(analysis, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size[0] > 1000

"""The study of random subsets sees what coverage does within pictures, and is not taken in by pictures or ratios."""

from __future__ import annotations

import numpy as np
import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.coverage import RADII
from leanseg.engine.study.random_subsets import SUBSETS, RandomSubsets

RATIOS = (0.2, 0.05)
N = 30


@pytest.fixture(scope="module")
def record():
    """Features' radii fall where gIoU rises, the grid's rise; joint ones are better in better pictures only."""
    generator = np.random.default_rng(0)
    level = np.linspace(0.2, 0.8, N)
    values, facts = {"all": varied(0.7, N)}, [{} for _ in range(N)]
    for ratio in RATIOS:
        quality = generator.permuted(np.tile(np.linspace(-0.05, 0.05, len(SUBSETS)), (N, 1)), axis=1)
        unrelated = generator.normal(0.0, 0.01, quality.shape)
        scores = level[:, None] + quality - (0.1 if ratio == 0.05 else 0.0)
        fewer = 1.0 if ratio == 0.05 else 0.5
        for column, name in enumerate(SUBSETS):
            values[f"{name}@{ratio:g}"] = scores[:, column].tolist()
            radii = {"feature": fewer - quality[:, column], "spatial": fewer + quality[:, column]}
            radii["joint"] = fewer - level + unrelated[:, column]
            for number in range(N):
                facts[number][f"{name}@{ratio:g}"] = {
                    "coverage": {f"{s}_{w}": float(r[number]) for s, r in radii.items() for w in ("max", "mean")}
                }
        values[f"uniform@{ratio:g}"] = varied(0.6, N)
    values |= {"ovp_only": varied(0.3, N), "blind": varied(0.25, N)}
    return made(values, lines=[{"facts": each} for each in facts])


@pytest.fixture(scope="module")
def analysis(record):
    return RandomSubsets().analyse({"random_subsets": record})


def test_what_is_within_pictures_is_found_and_what_is_between_them_is_not(analysis):
    found = analysis["correlations"]
    for ratio in ("0.2", "0.05"):
        for method in ("spearman", "pearson"):
            assert found["feature_max"][ratio][method]["coefficient"] == pytest.approx(-1.0, abs=1e-3)
            assert found["spatial_mean"][ratio][method]["coefficient"] == pytest.approx(1.0, abs=1e-3)
            joint = found["joint_max"][ratio][method]
            assert abs(joint["coefficient"]) < 0.2 and joint["low"] < 0.0 < joint["high"]
        assert found["feature_max"][ratio]["spearman"]["p_adjusted"] < 0.01
        assert found["joint_mean"][ratio]["spearman"]["p_adjusted"] > 0.05
    assert found["feature_max"]["0.2"]["spearman"]["n"] == N * len(SUBSETS)


def test_mixed_ratios_make_every_radius_seem_to_matter(analysis):
    assert all(analysis["mixed"][radius]["pearson"]["coefficient"] < -0.4 for radius in RADII)


def test_choosing_the_smallest_radius_gains_what_the_best_of_ten_has_over_their_mean(analysis):
    gains = {(each["radius"], each["keep_ratio"]): each for each in analysis["chosen"]}
    best, worst = gains["feature_max", "0.2"], gains["spatial_max", "0.2"]
    assert best["mean"] == pytest.approx(0.05, abs=1e-3) and best["significant"]
    assert worst["mean"] == pytest.approx(-0.05, abs=1e-3) and worst["significant"]
    assert not gains["joint_max", "0.05"]["significant"]


def test_ranks_run_from_the_smallest_radius_on(analysis):
    ranked = [point["mean"] for point in analysis["ranked"]["feature_mean"]["0.2"]]
    assert ranked == pytest.approx(np.linspace(0.05, -0.05, len(SUBSETS)), abs=1e-3)


def test_the_share_of_variance_within_pictures_is_that_of_the_tables(analysis, record):
    quality = np.var(np.linspace(-0.05, 0.05, len(SUBSETS)))
    assert analysis["within_share"]["0.2"] == pytest.approx(
        quality / (quality + np.var(np.linspace(0.2, 0.8, N))), abs=1e-3
    )


def test_a_picture_in_which_an_answer_failed_is_left_out(record):
    samples = [dict(sample) for sample in record["samples"]]
    samples[4] = {**samples[4], "facts": {}}
    left = RandomSubsets().analyse({"random_subsets": {**record, "samples": samples}})
    assert left["correlations"]["feature_max"]["0.2"]["spearman"]["n"] == (N - 1) * len(SUBSETS)


def test_tables_and_sentences_say_what_is_there(analysis):
    study = RandomSubsets()
    spearman, pearson, chosen, means = study.tables(analysis).values()
    assert "| radius | 20 % | 5 % | the ratios mixed |" in spearman and "**-1.00** (-1.00 to -1.00)" in pearson
    assert "| largest feature distance | **+0.050** (+0.050 to +0.050)" in chosen
    for row in ("random", "uniform", "all tokens", "ovp-only", "blind"):
        assert f"| {row} |" in means
    assert "| random | 0.500 ± " in means
    said = " ".join(study.sentences(analysis))
    assert "Of 12 correlations (Spearman) within pictures, 8 stand after Holm's correction." in said
    assert "A smaller radius goes with a better mask: largest feature distance at 20 % (-1.00)" in said
    assert "A LARGER one goes with a better mask: largest grid distance at 20 % (+1.00)" in said
    assert "explains 100.0 % of the variance of ranks within pictures." in said
    assert "the number of tokens moves both sides" in said


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    RandomSubsets().plot(analysis, tmp_path / "subsets.png")
    with Image.open(tmp_path / "subsets.png") as picture:
        assert picture.size[0] > 1000

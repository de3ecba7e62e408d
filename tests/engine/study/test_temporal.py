"""The study of clips keeps redundancies apart, and steadiness apart from quality."""

from __future__ import annotations

import pytest
from tests.engine.study.records import made, varied

from leanseg.engine.study.temporal import Temporal

SMOOTH = "smooth(inner=evtp())"
NAMES = ("evtp", SMOOTH, "evs", "uniform", "random")
N = 60


@pytest.fixture(scope="module")
def analysis():
    """Smoothing: steadier everywhere, worse on fast clips; evs keeps more tokens; the target moves on fast clips."""
    values = {"all": varied(0.7, N)}
    lines = [
        {"target": {"redundancy": ("static", "slow", "fast")[k % 3], "stability": (1.0, 0.9, 0.4)[k % 3]}, "facts": {}}
        for k in range(N)
    ]
    steps = {SMOOTH: 0.1}
    for name in NAMES:
        for ratio in ("0.2", "0.05"):
            row = f"{name}@{ratio}"
            series = varied(0.6, N, 0.01 if name == "evtp" else 0.02)
            if name == SMOOTH:
                series = [value - (0.2 if k % 3 == 2 else 0.0) for k, value in enumerate(series)]
            values[row] = series
            for k, line in enumerate(lines):
                spread = 0.01 * (1 if k % 2 else -1) * (1 + NAMES.index(name))
                stability = {"mask": 0.5 + steps.get(name, 0.0) + spread, "selection": 0.3 + steps.get(name, 0.0)}
                line["facts"][row] = {"kept": [256 if name == "evs" else 51] * 8, "stability": stability}
    values |= {"ovp_only": varied(0.3, N), "blind": varied(0.25, N)}
    for k, line in enumerate(lines):
        for row in ("all", "ovp_only", "blind"):
            line["facts"][row] = {"stability": {"mask": 0.8 + (0.01 if k % 2 else -0.01)}}
    record = made(values, lines=lines, scoring={"name": "video"})
    for sample in record["samples"]:  # every frame alike in J, and in F by the same share of a boundary of 10,000
        sample["counts"] = {
            row: [[*pair, union, union, pair[0], pair[0]] for pair in counts for union in (pair[1],)]
            for row, counts in sample["counts"].items()
        }
    return Temporal().analyse({"temporal": record})


def test_each_redundancy_has_its_own_clips(analysis):
    assert {name: group["n"] for name, group in analysis["groups"].items()} == {"static": 20, "slow": 20, "fast": 20}
    assert [group["target"] for group in analysis["groups"].values()] == [1.0, 0.9, 0.4]


def found(analysis, group, measure, name, ratio="0.2"):
    return next(
        each for each in analysis["groups"][group]["differences"][measure] if each["first"] == f"{name}@{ratio}"
    )


def test_steadier_and_worse_are_told_apart(analysis):
    for group in ("static", "slow", "fast"):
        steadier = found(analysis, group, "mask", SMOOTH)
        assert steadier["mean"] == pytest.approx(0.1, abs=0.01) and steadier["significant"]
        assert found(analysis, group, "score", SMOOTH)["significant"] == (group == "fast")
        assert not found(analysis, group, "mask", "random")["significant"]
    assert found(analysis, "fast", "score", SMOOTH)["mean"] < -0.1


def test_what_is_noted_stands_beside_the_score(analysis):
    row = analysis["groups"]["slow"]["rows"][f"{SMOOTH}@0.05"]
    assert row["kept"] == 51.0 and row["selection"]["mean"] == pytest.approx(0.4)
    assert "selection" not in analysis["groups"]["slow"]["rows"]["all"]


def test_a_failed_answer_counts_as_nothing_shared():
    lines = [{"target": {"redundancy": "slow", "stability": 0.5}, "facts": {}} for _ in range(4)]
    for k, line in enumerate(lines):
        line["facts"] = {
            f"{name}@0.2": {"kept": [51], "stability": {"mask": 0.8, "selection": 0.8}} for name in ("evtp", "random")
        }
        if k == 3:
            del line["facts"]["random@0.2"]
    values = {name: varied(0.5, 4) for name in ("all", "evtp@0.2", "random@0.2", "ovp_only", "blind")}
    row = Temporal().analyse({"temporal": made(values, lines=lines)})["groups"]["slow"]["rows"]["random@0.2"]
    assert row["mask"]["mean"] == pytest.approx(0.6) and row["kept"] == 51.0


def test_tables_and_sentences_show_tokens_overlaps_and_verdicts(analysis):
    study = Temporal()
    score, overlaps, differences, steadiness, selections = study.tables(analysis).values()
    for row in ("evtp", "uniform", "random", "all tokens", "ovp-only", "blind"):
        assert f"| {row} |" in score and f"| {row} |" in overlaps
    assert "| pruner | static, 20 % | slow, 20 % | fast, 20 % | static, 5 %" in score
    assert (
        "(256)" in score
        and f"| {SMOOTH} | 0.600 / 0.400 |" in overlaps
        and "| target | 1.000 | 0.900 | 0.400 |" in overlaps
    )
    assert "| evtp |" not in differences and "**+0.100**" in steadiness and "**+0.100**" in selections
    said = " ".join(study.sentences(analysis))
    assert "There are 20 static, 20 slow and 20 fast clips" in said
    assert f"J&F, compared with frame-wise evtp: higher: none. Lower: `{SMOOTH}` (fast)." in said
    everywhere = "static, slow and fast"
    for what in ("masks", "selections"):
        steadier = f"Overlap of successive {what}, compared with frame-wise evtp: higher: `{SMOOTH}` ({everywhere})."
        assert f"{steadier} Lower: none." in said
    own = "Overlap of successive masks with all tokens minus the target's own on the same clip:"
    assert f"{own} measurably above 0: fast +0.400 (+0.396 to +0.404); below: static -0.200" in said
    assert "tokens of the segmented frame: `evs` at 20 % and `evs` at 5 %." in said


def test_masks_are_above_the_target_only_if_they_are_clip_by_clip():
    """The mean of the masks has no spread and lies above the target's; clip by clip the sign changes."""
    names = ("all", "evtp@0.2", "random@0.2", "ovp_only", "blind")
    facts = {name: {"kept": [51], "stability": {"mask": 0.8, "selection": 0.8}} for name in names}
    lines = [{"target": {"redundancy": "slow", "stability": 1.0 if k % 2 else 0.55}, "facts": facts} for k in range(12)]
    study = Temporal()
    unclear = study.analyse({"temporal": made({name: varied(0.5, 12) for name in names}, lines=lines)})
    group = unclear["groups"]["slow"]
    assert group["rows"]["all"]["mask"]["low"] > group["target"]
    assert (
        "measurably above 0: none; below: none; not told apart from it after correction: slow +0.025 ("
        in study.sentences(unclear)[4]
    )


def test_a_difference_at_one_ratio_only_is_said_to_be_there(analysis):
    fast = analysis["groups"]["fast"]
    score = [{**each, "significant": each["first"] == f"{SMOOTH}@0.05"} for each in fast["differences"]["score"]]
    groups = {"fast": {**fast, "differences": {**fast["differences"], "score": score}}}
    said = " ".join(Temporal().sentences({**analysis, "groups": groups}))
    assert f"Lower: `{SMOOTH}` (fast at 5 %)." in said


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Temporal().plot(analysis, tmp_path / "temporal.png")
    with Image.open(tmp_path / "temporal.png") as picture:
        assert picture.size[0] > 1000

"""The study of the front takes medians of paired times, and marks what no other row beats."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.study.records import made, varied

from leanseg.costs import Sizes, instructseg
from leanseg.engine.study.base import Setup
from leanseg.engine.study.front import CONTROL, WARM_UP, Front
from leanseg.errors import DataError
from leanseg.models.presets import NANO

# Name: share of the time of all tokens, gIoU.
POINTS = {
    "all": (1.0, 0.6), "evtp@0.2": (0.7, 0.6), "evtp@0.05": (0.5, 0.5), "uniform@0.2": (0.8, 0.4),
    "random@0.05": (1.2, 0.3), "ovp_only": (0.45, 0.2), "blind": (0.3, 0.1), CONTROL: (1.01, 0.6),
}  # fmt: skip


def record():
    n = 12
    lines = []
    for k in range(n):
        # The machine is twice as busy on every second picture, and something is compiled in the first ones.
        busy = 0.1 * (1 + k % 2)
        facts = {
            name: {
                "seconds": {
                    "language": busy * share + (5.0 if k < WARM_UP and name == "evtp@0.2" else 0.0),
                    "select": 0,
                }
            }
            for name, (share, _) in POINTS.items()
        }
        lines.append({"facts": facts})
    values = {name: varied(quality, n) for name, (_, quality) in POINTS.items()}
    return made(values, lines=lines, model="instructseg-nano")


@pytest.fixture(scope="module")
def analysis():
    return Front().analyse({"front": record()})


def test_times_are_paired_medians_without_the_first_samples(analysis):
    assert analysis["n"] == 12 and analysis["n_timed"] == 12 - WARM_UP
    for name, (share, _) in POINTS.items():
        relative = analysis["points"][name]["relative"]
        assert list(relative.values()) == pytest.approx([share] * 3, abs=1e-4)
    assert analysis["points"]["all"]["milliseconds"] == pytest.approx(200)
    assert analysis["stages"] == {"language": pytest.approx(200), "select": 0}


def test_the_front_holds_what_no_row_beats_and_never_the_control(analysis):
    front = {name for name, each in analysis["points"].items() if each["front_time"]}
    assert front == {"evtp@0.2", "evtp@0.05", "ovp_only", "blind"}
    by_count = {name for name, each in analysis["points"].items() if each["front_counts"]}
    assert by_count == {"evtp@0.2", "evtp@0.05", "random@0.05"}


def test_counts_are_those_of_the_costs(analysis):
    counts = analysis["points"]["evtp@0.2"]["counts"]
    here = instructseg("refcoco", mode="exact", keep_ratio=0.2, sizes=Sizes.of(NANO))
    assert counts["exact_here"] == pytest.approx(1000 * here.total, abs=1e-4)
    assert counts["paper_released"] == pytest.approx(instructseg("refcoco", keep_ratio=0.2).total, abs=1e-4)
    free = instructseg("refcoco", mode="exact", keep_ratio=0.05, selection="free")
    assert analysis["points"]["random@0.05"]["counts"]["exact_released"] == pytest.approx(free.total, abs=1e-4)
    assert analysis["points"]["blind"]["counts"] is None


def test_samples_with_a_failed_answer_are_not_timed():
    broken = record()
    broken["samples"][-1] |= {"failures": {"evtp@0.2": "RuntimeError: no memory"}}
    del broken["samples"][-1]["facts"]["evtp@0.2"]
    assert Front().analyse({"front": broken})["n_timed"] == 12 - WARM_UP - 1


def test_nothing_is_kept_between_answers_and_one_process_measures(tmp_path: Path):
    (request,) = Front().requests(Setup(out=tmp_path, processes=4)).values()
    assert request.processes == 1 and request.cache_bytes == 0 and request.facts == ("seconds",)
    assert request.rows is not None and request.rows[-1].name == CONTROL


def test_tables_and_sentences_follow_the_points(analysis):
    points, stages = Front().tables(analysis).values()
    assert "| evtp | 20 % | 140.0 | 70 % (70 to 70) | 70 to 70 | time and counts |" in points
    for row in ("all tokens", "ovp-only", "blind", "uniform", "random"):
        assert f"| {row} |" in points
    assert "| language | 200.00 |" in stages and "select" not in stages
    said = " ".join(Front().sentences(analysis))
    assert "At 20 % an answer takes 70 % (evtp, 70 to 70) to 80 % (uniform, 80 to 80) of the time" in said
    times = "1 in time (evtp@0.2 faster than uniform@0.2)"
    assert f"Of 1 pairs of these, told apart: {times}, 1 in gIoU (evtp@0.2 better than uniform@0.2)." in said
    assert (
        "evtp@0.2, evtp@0.05, ovp-only and blind. Of 6 pairs of these, told apart: 6 in time (evtp@0.05 faster" in said
    )
    assert "Without any visual token (blind) it takes 30 %." in said
    assert "over all 21 pairs of rows, on 9 pictures for time and 12 for gIoU" in said
    assert "Slower than all tokens on three quarters of the pictures: random@0.05." in said
    assert "All tokens once more, as the last row, take 101.0 % of those in the first." in said
    assert "evtp is on it at no keep ratio" not in said


def test_times_and_qualities_inside_their_noise_are_not_ordered():
    """Uniform's median time is below evtp's, and its gIoU below, both far less than what differs by picture."""
    noisy = record()
    for k, line in enumerate(noisy["samples"]):
        swing = 1.3 if k % 2 else 0.8
        line["facts"]["uniform@0.2"]["seconds"]["language"] = 0.1 * 0.7 * swing * (1.0 + 0.01 * k)
        line["facts"]["evtp@0.2"]["seconds"]["language"] = 0.1 * 0.72 / swing * (1.0 + 0.01 * k)
        line["counts"]["uniform@0.2"] = [[5900 + 3000 * (1 if k % 3 else -1), 10_000]]
    found = Front().analyse({"front": noisy})
    low, high = found["points"]["uniform@0.2"]["interval"]
    assert low < found["points"]["uniform@0.2"]["relative"]["median"] < high
    assert "Of 1 pairs of these, told apart: 0 in time, 0 in gIoU." in " ".join(Front().sentences(found))
    assert len(found["differences"]["time"]) == len(found["differences"]["gIoU"]) == 7 * 6 / 2


def test_the_plot_is_a_picture(analysis, tmp_path):
    from PIL import Image

    Front().plot(analysis, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.parametrize("failed", [False, True])
def test_without_a_timed_sample_the_study_says_so(failed: bool) -> None:
    few = record()
    lines = [{**line, "failures": {"all": "x"}} if failed else line for line in few["samples"]]
    few["samples"] = lines if failed else lines[:WARM_UP]
    with pytest.raises(DataError, match=f"of {len(few['samples'])} samples none is timed: .*; give a --limit above 3"):
        Front().analyse({"front": few})


def test_a_failed_sample_is_not_timed_in_any_stage() -> None:
    whole, less = record(), record()
    less["samples"] = [*less["samples"], {**less["samples"][-1], "facts": {}, "failures": {"all": "x"}}]
    assert Front().analyse({"front": less})["stages"] == Front().analyse({"front": whole})["stages"]

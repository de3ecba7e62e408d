"""What pruning buys: time and multiply-adds of an answer against its quality, measured in one run."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from leanseg.costs import Sizes, instructseg
from leanseg.engine.evaluation.grid import Row, grid
from leanseg.engine.evaluation.request import DEFAULT_KEEP_RATIOS, DEFAULT_PRUNERS, Request
from leanseg.engine.segmenter import load
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Measured, rounded
from leanseg.engine.study.paired import differences
from leanseg.engine.study.plots import SUBJECT, UNPRUNED_MARKS, axes_grid, save, style
from leanseg.errors import DataError
from leanseg.metrics.significance import bootstrap_mean, bootstrap_median
from leanseg.metrics.tradeoff import pareto

# All tokens once more, as the last row: what the order of the rows does to times.
CONTROL = "identity@1"
# Samples that warm up: k-center is compiled in the first.
WARM_UP = 3
COUNTED = "refcoco"
# Enough that the smallest p of all pairs of rows can pass Holm's correction.
_RESAMPLES = 30_000
FARTHEST_FIRST = ("evtp", "kcenter", "divprune")


class Front(Study):
    """Median time of an answer, its exact count of multiply-adds, and gIoU, per pruner and keep ratio.

    One process, nothing kept between answers, all rows in turn on every sample. Times are divided by those of all
    tokens on the same sample before the median, so that a busy machine slows both. The first samples do not count.
    The front is that of medians and means; which rows can be told apart is tested of each pair, paired by sample, by
    the logarithm of its times and by gIoU, each corrected over all pairs of rows.
    """

    name = "front"
    question = "What time and how many multiply-adds does pruning save, and at what loss of quality?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return an evaluation of its own, that notes the seconds of each answer."""
        control = Row(name=CONTROL, pruner="identity(keep_ratio=1.0)", keep_ratio=1.0)
        rows = (*grid(DEFAULT_PRUNERS, DEFAULT_KEEP_RATIOS), control)
        asked = {"rows": rows, "facts": ("seconds",), "cache_bytes": 0, "processes": 1}
        return {"front": setup.request("front", scenes=50, data="scenes:test", **asked)}

    def analyse(self, records: Records) -> Analysis:
        """Return per row the times, counts and quality, and which rows no other beats in both."""
        record = records["front"]
        measured, seconds = Measured.of(record), _seconds(record)
        everything = seconds["all"].sum(axis=1)
        sizes = Sizes.of(load(record["model"], device="cpu").config)
        points = {}
        for row in record["rows"]:
            name, times = row["name"], seconds[row["name"]].sum(axis=1)
            relative = times / everything
            points[name] = {
                "pruner": name.rsplit("@", 1)[0],
                "keep_ratio": row["keep_ratio"],
                "milliseconds": round(1000 * float(np.median(times)), 2),
                "relative": {end: round(float(np.quantile(relative, at)), 4)
                             for end, at in (("median", 0.5), ("low", 0.25), ("high", 0.75))},
                "interval": [round(end, 4) for end in bootstrap_median(relative)],
                "quality": rounded(bootstrap_mean(measured.values[name])),
                "counts": None if row["visual"] != "all" else _counts(name, row["keep_ratio"], sizes),
            }  # fmt: skip
        stages = {name: round(1000 * float(np.median(each)), 2) for name, each in _stages(record).items()}
        logarithms = {name: np.log(each.sum(axis=1)) for name, each in seconds.items()}
        pairs = list(combinations([name for name in points if name != CONTROL], 2))
        return {
            "n": measured.n,
            "n_timed": len(everything),
            "points": _with_fronts(points),
            "stages": stages,
            "differences": {
                what: differences(values, pairs, n_resamples=_RESAMPLES)
                for what, values in (("time", logarithms), ("gIoU", measured.values))
            },
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return time, multiply-adds and quality per row, and the stages of an answer with all tokens."""
        head = (
            "tokens kept", "share", "time, ms", "of all tokens' time", "95 % interval", "on the front",
            "1e9 multiply-adds here", "1e12 at released sizes, exact", "paper's formula", "gIoU",
        )  # fmt: skip
        rows = [_row(name, each) for name, each in analysis["points"].items()]
        stages = [(name, f"{value:.2f}") for name, value in analysis["stages"].items() if value > 0]
        title = f"Medians over {analysis['n_timed']} pictures; in parentheses the middle half of the pictures"
        return {
            title: table(head, rows),
            "Stages of an answer with all tokens, median ms": table(("stage", "ms"), stages),
        }

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw quality against time, and against multiply-adds, with the fronts."""
        figure, (left, right) = axes_grid(1, 2, (12.5, 5.4), sharey=True)
        points = {name: each for name, each in analysis["points"].items() if name != CONTROL}
        pruners = list(dict.fromkeys(each["pruner"] for name, each in points.items() if name not in UNPRUNED))
        for axes, axis, front in ((left, _time, "front_time"), (right, _count, "front_counts")):
            for pruner in pruners:
                mine = [each for each in points.values() if each["pruner"] == pruner]
                at = [axis(each) for each in mine], [each["quality"]["mean"] for each in mine]
                axes.plot(*at, linewidth=0.8, markersize=6, label=pruner, **style(pruner, pruners))
            for name in UNPRUNED:
                if axis(points[name]) is not None:
                    axes.plot(axis(points[name]), points[name]["quality"]["mean"], linestyle="", color="black",
                              label=label(name), markersize=7, **UNPRUNED_MARKS[name])  # fmt: skip
            best = sorted((axis(each), each["quality"]["mean"]) for each in points.values() if each[front])
            axes.step(*zip(*best, strict=True), where="post", color="black", linewidth=3, alpha=0.15, label="front")
        left.set(xlabel="median time, % of that with all tokens", ylabel="gIoU")
        right.set(xlabel="multiply-adds of an answer, 1e9, exact")
        figure.suptitle(f"{SUBJECT}, {analysis['n']} pictures, one process, nothing kept between answers", fontsize=10)
        save(figure, left, path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return what pruning saves at 20 and 5 %, what it could save at most, and who stands on the front."""
        points, found = analysis["points"], []
        for ratio in (0.2, 0.05):
            mine = {each["pruner"]: each for each in points.values() if each["keep_ratio"] == ratio}
            fastest, slowest = (pick(mine.values(), key=_time) for pick in (min, max))
            first, last = (f"{_time(each):.0f} % ({each['pruner']}, {_interval(each)})" for each in (fastest, slowest))
            rows = [name for name, each in points.items() if each["keep_ratio"] == ratio]
            found.append(
                f"At {percent(ratio)} an answer takes {first} to {last} of the time with all tokens, by the medians "
                f"(95 % intervals). {_told_apart(analysis, rows)}"
            )
        counts = [each["counts"]["exact_here"] for each in points.values() if each["counts"]]
        saved = f"{100 * min(counts) / points['all']['counts']['exact_here']:.0f} %"
        found.append(
            f"Without any visual token (blind) it takes {_time(points['blind']):.0f} %. "
            f"At {percent(min(DEFAULT_KEEP_RATIOS))} kept, {saved} of the multiply-adds are left, since vision tower "
            "and pixel branch see everything."
        )
        slower = [
            name for name, each in points.items() if name not in (*UNPRUNED, CONTROL) and each["relative"]["low"] > 1
        ]
        if slower:
            found.append(f"Slower than all tokens on three quarters of the pictures: {listed(slower)}.")
        n_pairs = len(analysis["differences"]["time"])
        found.append(
            f"Told apart is what stands after Holm's correction over all {n_pairs} pairs of rows, on "
            f"{analysis['n_timed']} pictures for time and {analysis['n']} for gIoU; the rest need not be equal."
        )
        front = [name for name, each in points.items() if each["front_time"]]
        shown = listed([label(name) for name in front])
        found.append(
            f"On the front of time and gIoU, by median and mean: {shown}. {_told_apart(analysis, front)} The "
            "order of the rest, and which rows are on the front at all, may be chance."
        )
        if not any(name.split("@")[0] == "evtp" for name in front):
            found.append("evtp is on it at no keep ratio.")
        control = points[CONTROL]["relative"]["median"]
        found.append(f"All tokens once more, as the last row, take {100 * control:.1f} % of those in the first.")
        return found


def _told_apart(analysis: Analysis, rows: list[str]) -> str:
    """Return which pairs of these rows differ measurably, in time and in gIoU."""
    n_pairs, said = len(rows) * (len(rows) - 1) // 2, []
    for what, word, sign in (("time", "faster", -1), ("gIoU", "better", 1)):
        over: dict[str, list[str]] = {}
        for each in analysis["differences"][what]:
            if each["significant"] and {each["first"], each["second"]} <= set(rows):
                ends = (each["first"], each["second"])
                winner, other = ends if sign * each["mean"] > 0 else ends[::-1]
                over.setdefault(label(winner), []).append(label(other))
        count = sum(map(len, over.values()))
        pairs = "; ".join(f"{winner} {word} than {listed(others)}" for winner, others in over.items())
        said.append(f"{count} in {what}" + (f" ({pairs})" if pairs else ""))
    return f"Of {n_pairs} pairs of these, told apart: {said[0]}, {said[1]}."


def _stages(record: Any) -> dict[str, np.ndarray]:
    """Return the seconds of each stage of the answers with all tokens, without the first samples."""
    noted = [line["facts"]["all"]["seconds"] for line in _timed(record)]
    return {stage: np.array([each[stage] for each in noted]) for stage in noted[0]}


def _seconds(record: Any) -> dict[str, np.ndarray]:
    """Return per row the seconds (samples, stages), without the first samples and those that failed in any row."""
    rows = [row["name"] for row in record["rows"]]
    lines = _timed(record)
    return {name: np.array([list(line["facts"][name]["seconds"].values()) for line in lines]) for name in rows}


def _timed(record: Any) -> list[Any]:
    """Return the lines whose times count.

    Raises:
        DataError: there is none.
    """
    found = [line for line in record["samples"][WARM_UP:] if "failures" not in line]
    if not found:
        raise DataError(
            f"of {len(record['samples'])} samples none is timed: the first {WARM_UP} warm up, and those with failed "
            f"answers do not count; give a --limit above {WARM_UP}"
        )
    return found


def _counts(name: str, keep_ratio: float, sizes: Sizes) -> dict[str, float]:
    """Return multiply-adds: 1e9 of this model, 1e12 at the released sizes, counted and by the paper's formula."""
    chosen: dict[str, Any] = {"selection": "evtp" if name.startswith(FARTHEST_FIRST) else "free"}
    here = instructseg(COUNTED, mode="exact", keep_ratio=keep_ratio, sizes=sizes, **chosen)
    released = instructseg(COUNTED, mode="exact", keep_ratio=keep_ratio, **chosen)
    paper = instructseg(COUNTED, mode="paper", keep_ratio=keep_ratio)
    return {
        "exact_here": round(1000 * here.total, 5),
        "exact_released": round(released.total, 5),
        "paper_released": round(paper.total, 5),
    }


def _with_fronts(points: dict[str, Any]) -> dict[str, Any]:
    """Mark the rows that no other beats in quality and time, and in quality and multiply-adds."""
    for front, axis in (("front_time", _time), ("front_counts", _count)):
        names = [name for name, each in points.items() if name != CONTROL and axis(each) is not None]
        best = pareto([[float(axis(points[name])), points[name]["quality"]["mean"]] for name in names])
        for name in points:
            points[name][front] = name in names and bool(best[names.index(name)])
    return points


def _time(point: dict[str, Any]) -> float:
    return 100 * float(point["relative"]["median"])


def _interval(point: dict[str, Any]) -> str:
    low, high = (100 * end for end in point["interval"])
    return f"{low:.0f} to {high:.0f}"


def _count(point: dict[str, Any]) -> Any:
    return None if point["counts"] is None else point["counts"]["exact_here"]


def _row(name: str, point: dict[str, Any]) -> tuple[str, ...]:
    relative, counts = point["relative"], point["counts"]
    times = f"{100 * relative['median']:.0f} % ({100 * relative['low']:.0f} to {100 * relative['high']:.0f})"
    fronts = " and ".join(word for word in ("time", "counts") if point[f"front_{word}"])
    counted = (
        [f"{counts[each]:.3f}" for each in ("exact_here", "exact_released", "paper_released")] if counts else [""] * 3
    )
    share = percent(point["keep_ratio"]) if point["keep_ratio"] and name not in UNPRUNED else ""
    shown = label(name) if name in UNPRUNED else point["pruner"]
    return (
        shown,
        share,
        f"{point['milliseconds']:.1f}",
        times,
        _interval(point),
        fronts,
        *counted,
        with_half(point["quality"]),
    )

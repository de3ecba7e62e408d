"""Whether, among random selections of one picture, those that cover it more closely segment it better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Array, Measured, rounded
from leanseg.engine.study.paired import BOLD, cell, differences
from leanseg.engine.study.plots import SUBJECT, axes_grid, save
from leanseg.engine.study.radii import (
    IN_PLOTS,
    LEVEL,
    METHODS,
    RADII,
    correct,
    direction,
    named,
    plain,
    signed,
    with_interval,
)
from leanseg.metrics.repeated import within_clusters
from leanseg.metrics.significance import bootstrap_mean

KEEP_RATIOS = (0.2, 0.1, 0.05)
SUBSETS = ("random", *(f"random(seed={seed})" for seed in range(1, 10)))
_WEAK = 0.2
"""A correlation below this explains less than a twenty-fifth of the variance."""


class RandomSubsets(Study):
    """Ten random selections per picture; radius and gIoU less their means over the ten, so that pictures cancel.

    Neither the keep ratio nor the picture nor the method can make this correlation: it is what coverage itself does.
    Intervals are over pictures, drawn whole.
    """

    name = "random_subsets"
    question = "Among random selections of one picture, do those with a smaller coverage radius segment it better?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return one evaluation of the test scenes under ten random selections, with every answer's coverage."""
        asked = {"pruners": (*SUBSETS, "uniform"), "keep_ratios": KEEP_RATIOS, "facts": ("coverage",)}
        return {self.name: setup.request(self.name, scenes=150, **asked)}

    def analyse(self, records: Records) -> Analysis:
        """Return correlations within pictures, and what choosing among the ten by radius would gain."""
        measured = Measured.of(records[self.name])
        subsets = [name for name in measured.pruners if name != "uniform"]
        radii, scores = _tables(measured, subsets)
        ratios = [f"{ratio:g}" for ratio in measured.keep_ratios]
        found = {
            radius: {ratio: _correlations(radii[radius][ratio], scores[ratio]) for ratio in ratios} for radius in RADII
        }
        correct([each["spearman"] for by_ratio in found.values() for each in by_ratio.values()])
        unlike = {"uniform", *UNPRUNED}
        means = {name: mean for name, mean in measured.values.items() if name.split("@")[0] in unlike}
        means |= {f"random@{ratio}": scores[ratio].mean(axis=1) for ratio in ratios}
        return {
            "measure": measured.measure,
            "n": measured.n,
            "n_subsets": len(subsets),
            "keep_ratios": list(measured.keep_ratios),
            "means": {name: rounded(bootstrap_mean(values)) for name, values in means.items()},
            "within_share": {ratio: round(_within_share(scores[ratio]), 4) for ratio in ratios},
            "correlations": found,
            "mixed": {radius: _mixed(radii[radius], scores) for radius in RADII},
            "chosen": _chosen(radii, scores),
            "ranked": {
                radius: {ratio: _ranked(radii[radius][ratio], scores[ratio]) for ratio in ratios} for radius in RADII
            },
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return the correlations, what choosing by radius gains, and the means."""
        ratios = [f"{ratio:g}" for ratio in analysis["keep_ratios"]]
        shown = [percent(ratio) for ratio in analysis["keep_ratios"]]
        n_subsets, found, mixed = analysis["n_subsets"], analysis["correlations"], analysis["mixed"]
        tables = {}
        for method in METHODS:
            rows = [
                (
                    title,
                    *(with_interval(found[radius][ratio][method]) for ratio in ratios),
                    with_interval(mixed[radius][method]),
                )
                for radius, title in RADII.items()
            ]
            title = f"{method.capitalize()} of radius and gIoU within pictures, 95 % interval over pictures"
            tables[title] = table(("radius", *shown, "the ratios mixed"), rows)
        gains = {(each["radius"], each["keep_ratio"]): cell(each) for each in analysis["chosen"]}
        title = (
            f"gIoU of the selection with the smallest of {n_subsets} radii, less the mean of all {n_subsets}, {BOLD}"
        )
        rows = [(RADII[radius], *(gains[radius, ratio] for ratio in ratios)) for radius in RADII]
        tables[title] = table(("chosen by", *shown), rows)
        means = analysis["means"]
        rows = [(name, *(with_half(means[f"{name}@{ratio}"]) for ratio in ratios)) for name in ("random", "uniform")]
        rows += [(label(name), with_half(means[name]), *[""] * (len(ratios) - 1)) for name in UNPRUNED]
        title = f"gIoU ± half of its 95 % interval; random: the mean of {n_subsets} selections"
        tables[title] = table(("tokens kept", *shown), rows)
        return tables

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw what a selection gains over its picture's mean, by the rank of its radius among the picture's ten."""
        figure, axes = axes_grid(2, 3, (14, 7.6), sharex=True, sharey=True)
        for place, radius in zip(axes, IN_PLOTS, strict=True):
            for number, ratio in enumerate(analysis["keep_ratios"]):
                points = analysis["ranked"][radius][f"{ratio:g}"]
                places = np.arange(1, len(points) + 1) + 0.15 * (number - 1)
                mean = np.array([point["mean"] for point in points])
                sides = [mean - [p["low"] for p in points], [p["high"] for p in points] - mean]
                place.errorbar(
                    places, mean, yerr=sides, fmt="o-", markersize=4, linewidth=1, label=f"{percent(ratio)} kept"
                )
            place.axhline(0.0, color="black", linewidth=0.8)
            rho = [
                analysis["correlations"][radius][f"{r:g}"]["spearman"]["coefficient"] for r in analysis["keep_ratios"]
            ]
            place.set_title(f"{RADII[radius]}: " + ", ".join(signed(each) for each in rho), fontsize=10)
        for place in axes[3:]:
            place.set_xlabel("rank of the coverage radius within the picture (1 = smallest)")
        for place in axes[::3]:
            place.set_ylabel("gIoU less the picture's mean")
        figure.suptitle(
            f"{SUBJECT}: {analysis['n_subsets']} random selections of each of {analysis['n']} pictures; in titles "
            "Spearman within pictures, ratios as in the legend; bars: 95 % over pictures", fontsize=11,
        )  # fmt: skip
        save(figure, axes[0], path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return whether anything is left of coverage within pictures, how much it is, and what mixing ratios does."""
        shares = [f"{100 * share:.0f} % at {percent(float(r))}" for r, share in analysis["within_share"].items()]
        mixed = [radius for radius, each in analysis["mixed"].items() if direction(each["spearman"]) < 0]
        gains = [
            f"{RADII[each['radius']]} at {percent(float(each['keep_ratio']))} ({each['mean']:+.3f})"
            for each in analysis["chosen"]
            if each["significant"]
        ]
        return [
            *_within(analysis),
            f"Which of the random selections is taken makes {listed(shares)} of the variance of gIoU; the rest is the "
            "picture's.",
            f"Taking of {analysis['n_subsets']} selections the one with the smallest radius changes gIoU measurably "
            f"by: {listed(gains)}.",
            f"With the {len(analysis['keep_ratios'])} ratios mixed, a smaller radius goes with a better mask by "
            f"{named(mixed)}; but there the number of tokens moves both sides, whatever is chosen.",
        ]


def _within(analysis: Analysis) -> list[str]:
    """Return which correlations within pictures stand, and how strong the strongest is."""
    cells = [
        (f"{RADII[radius]} at {percent(float(ratio))}", each["spearman"])
        for radius, by_ratio in analysis["correlations"].items()
        for ratio, each in by_ratio.items()
    ]
    stands = [(name, each["coefficient"]) for name, each in cells if each["p_adjusted"] < LEVEL]
    said = [f"Of {len(cells)} correlations (Spearman) within pictures, {len(stands)} stand after Holm's correction."]
    for sign, what in ((-1, "A smaller radius goes with a better mask"), (1, "A LARGER one goes with a better mask")):
        named = [f"{name} ({each:+.2f})" for name, each in stands if sign * each > 0]
        said += [f"{what}: {listed(named)}."] if named else []
    strongest = max((each["coefficient"] or 0.0 for _, each in cells), key=abs)
    weak = abs(strongest) < _WEAK
    return [
        *said,
        f"The strongest, {strongest:+.2f}, explains {100 * strongest**2:.1f} % of the variance of ranks within pictures"
        f"{': little can be said of a single selection.' if weak else '.'}",
    ]


def _tables(measured: Measured, subsets: list[str]) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """Return per ratio gIoU (pictures, subsets), and each radius alike, of the pictures in which no answer failed."""
    names = {f"{ratio:g}": [f"{name}@{ratio:g}" for name in subsets] for ratio in measured.keep_ratios}
    needed = {row for rows in names.values() for row in rows}
    whole = [number for number, line in enumerate(measured.lines) if needed <= set(line["facts"])]
    scores = {ratio: np.stack([measured.values[row][whole] for row in rows], axis=1) for ratio, rows in names.items()}
    facts = [measured.lines[number]["facts"] for number in whole]
    radii = {
        radius: {
            ratio: np.array([[each[row]["coverage"][radius] for row in rows] for each in facts])
            for ratio, rows in names.items()
        }
        for radius in RADII
    }
    return radii, scores


def _correlations(x: Array, y: Array) -> dict[str, Any]:
    return {method: plain(within_clusters(x, y, method=method)) for method in METHODS}


def _mixed(radii: dict[str, Array], scores: dict[str, Array]) -> dict[str, Any]:
    """Return the correlation within pictures over the subsets of all ratios at once."""
    return _correlations(np.concatenate([*radii.values()], axis=1), np.concatenate([*scores.values()], axis=1))


def _within_share(scores: Array) -> float:
    """Return which share of the variance of all values lies within pictures."""
    within = scores - scores.mean(axis=1, keepdims=True)
    total = float(np.square(scores - scores.mean()).sum())
    return float(np.square(within).sum()) / total if total else 0.0


def _chosen(radii: dict[str, dict[str, Array]], scores: dict[str, Array]) -> list[dict[str, Any]]:
    """Return what the selection with the smallest radius has over the mean of all, corrected over radii and ratios."""
    values: dict[str, Array] = {}
    keys = []
    for radius, by_ratio in radii.items():
        for ratio, found in by_ratio.items():
            best = scores[ratio][np.arange(len(found)), found.argmin(axis=1)]
            values |= {f"{radius}@{ratio}": best, f"mean@{ratio}": scores[ratio].mean(axis=1)}
            keys.append((radius, ratio))
    compared = differences(values, [(f"{radius}@{ratio}", f"mean@{ratio}") for radius, ratio in keys])
    return [{"radius": r, "keep_ratio": ratio, **each} for (r, ratio), each in zip(keys, compared, strict=True)]


def _ranked(radii: Array, scores: Array) -> list[dict[str, float]]:
    """Return what the selection of each rank has over its picture's mean, from the smallest radius on."""
    order = radii.argsort(axis=1, kind="stable")
    gains = np.take_along_axis(scores - scores.mean(axis=1, keepdims=True), order, axis=1)
    return [rounded(bootstrap_mean(gains[:, rank], n_resamples=2_000)) for rank in range(gains.shape[1])]

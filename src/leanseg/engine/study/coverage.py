"""Whether selections that cover the tokens more closely segment better, over pruners and keep ratios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Array, Measured, rounded
from leanseg.engine.study.plots import SUBJECT, axes_grid, save, style
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
from leanseg.metrics.correlation import pearson, spearman
from leanseg.metrics.repeated import crossed
from leanseg.metrics.significance import bootstrap_mean

PRUNERS = (
    "evtp", "kcenter", "divprune", "visionzip", "vispruner", "tome", "scope", "nuwa", "attention", "max_norm",
    "uniform", "random",
)  # fmt: skip
KEEP_RATIOS = (0.5, 0.2, 0.1, 0.05)
SHOWN = 0.1
"""The keep ratio at which the radii themselves are in a table."""
TITLES = {"spearman": "Spearman", "pearson": "Pearson"}


class CoverageStudy(Study):
    """Each pruner at each keep ratio is one point: its mean radius over the pictures, and its mean gIoU.

    Over all points the ratio drives both: fewer tokens cover worse and segment worse. Only what is left at one ratio
    says that coverage itself matters, so that is shown beside: within each ratio, and all ratios together less each
    one's means. Intervals are over the pruners, each drawn with all its points, as if they had come from many.
    """

    name = "coverage"
    question = "Do selections with a smaller coverage radius segment better, and by which radius?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return one evaluation of the test scenes, with every answer's coverage."""
        asked = {"pruners": PRUNERS, "keep_ratios": KEEP_RATIOS, "facts": ("coverage",)}
        return {self.name: setup.request(self.name, scenes=150, **asked)}

    def analyse(self, records: Records) -> Analysis:
        """Return the points, and their correlations in three readings."""
        measured = Measured.of(records[self.name])
        points: list[dict[str, Any]] = [
            {
                "pruner": name,
                "keep_ratio": ratio,
                "score": rounded(bootstrap_mean(measured.at(name, ratio))),
                "radii": mean_radii(measured, f"{name}@{ratio:g}"),
            }
            for name in measured.pruners
            for ratio in measured.keep_ratios
        ]
        shape = (len(measured.pruners), len(measured.keep_ratios))
        scores = np.array([point["score"]["mean"] for point in points]).reshape(shape).T
        correlations = {}
        for radius in RADII:
            radii = np.array([point["radii"][radius] for point in points]).reshape(shape).T
            correlations[radius] = _correlations(radii, scores, measured.keep_ratios)
        for method in METHODS:
            correct([correlations[radius][method]["centred"] for radius in RADII])
        return {
            "measure": measured.measure,
            "n": measured.n,
            "pruners": list(measured.pruners),
            "keep_ratios": list(measured.keep_ratios),
            "points": points,
            "unpruned": {name: rounded(bootstrap_mean(measured.values[name])) for name in UNPRUNED},
            "correlations": correlations,
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return the correlations, those within each ratio, and the radii of each pruner at one ratio."""
        found = analysis["correlations"]
        readings = [(reading, method) for reading in ("all", "centred") for method in METHODS]
        titles = {"all": "all points", "centred": "less the ratio's mean"}
        head = ("radius", *(f"{titles[reading]}, {TITLES[method]}" for reading, method in readings), "p of it, Holm")
        rows = [
            (
                title,
                *(with_interval(found[radius][method][reading]) for reading, method in readings),
                f"{found[radius]['spearman']['centred']['p_adjusted']:.2g}",
            )
            for radius, title in RADII.items()
        ]
        within = [
            (title, *(with_interval(found[radius]["spearman"]["within"][f"{r:g}"]) for r in analysis["keep_ratios"]))
            for radius, title in RADII.items()
        ]
        n_points, n_pruners = len(analysis["points"]), len(analysis["pruners"])
        return {
            f"Correlation of mean radius and mean gIoU over {n_points} points, 95 % interval over pruners; p: of "
            "Spearman less the ratio's mean, corrected over the six radii": table(head, rows),
            f"Spearman within one keep ratio, {n_pruners} points each": table(
                ("radius", *map(percent, analysis["keep_ratios"])), within
            ),
            f"Radii and gIoU ± half of its 95 % interval at {percent(SHOWN)} kept": _points_table(analysis),
        }

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw mean gIoU over each of the six radii; a mark per pruner, smaller where fewer tokens are kept."""
        figure, axes = axes_grid(2, 3, (14, 8.4), sharey=True)
        sizes = dict(zip(analysis["keep_ratios"], (130, 80, 45, 22), strict=False))
        for place, radius in zip(axes, IN_PLOTS, strict=True):
            for name in analysis["pruners"]:
                mine = [point for point in analysis["points"] if point["pruner"] == name]
                x, y = [p["radii"][radius] for p in mine], [p["score"]["mean"] for p in mine]
                drawn = style(name, analysis["pruners"])
                place.plot(x, y, color=drawn["color"], linewidth=0.7, alpha=0.5)
                place.scatter(x, y, s=[sizes[p["keep_ratio"]] for p in mine], label=name, **drawn)
            rho = {r: analysis["correlations"][radius]["spearman"][r]["coefficient"] for r in ("all", "centred")}
            place.set_xlabel(f"coverage radius: {RADII[radius]}")
            place.set_title(
                f"Spearman {signed(rho['all'])}, less the ratio's mean {signed(rho['centred'])}", fontsize=10
            )
        for place in axes[::3]:
            place.set_ylabel("mean gIoU")
        ratios = ", ".join(map(percent, analysis["keep_ratios"]))
        figure.suptitle(
            f"{SUBJECT}, means over {analysis['n']} pictures; from large to small: {ratios} kept", fontsize=11
        )
        save(figure, axes[0], path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return for which radii a smaller one goes with a better mask, over all points and at one ratio."""
        found = analysis["correlations"]
        said = []
        for reading, where in (
            ("all", f"Over all {len(analysis['points'])} points, where the keep ratio moves both sides"),
            ("centred", "Less each ratio's means, where only the choice of tokens is left"),
        ):
            signs = {radius: direction(found[radius]["spearman"][reading]) for radius in RADII}
            smaller, larger, unclear = ([r for r, each in signs.items() if each == sign] for sign in (-1, 1, 0))
            said.append(
                f"{where}, a smaller radius goes with a higher gIoU by {named(smaller)}; with a lower one by "
                f"{named(larger)}; nothing can be told of {named(unclear)} (95 % intervals of Spearman)."
            )
        stands = [radius for radius in RADII if found[radius]["spearman"]["centred"]["p_adjusted"] < LEVEL]
        said.append(f"Corrected over the six radii, what is left within ratios stands for: {named(stands)}.")
        joint = found["joint_max"]["spearman"]
        said.append(
            "The paper's summary ties quality strongly to the coverage radius, and does not say by which distance. "
            f"In the joint space in which evtp selects, Spearman is {with_interval(joint['all'])} over all points and "
            f"{with_interval(joint['centred'])} less the ratio's means."
        )
        return said


def mean_radii(measured: Measured, row: str) -> dict[str, float]:
    """Return each radius of a row, the mean over its pictures."""
    noted = [line["facts"][row]["coverage"] for line in measured.lines if row in line["facts"]]
    return {radius: round(float(np.mean([each[radius] for each in noted])), 5) for radius in RADII}


def _correlations(x: Array, y: Array, keep_ratios: Sequence[float]) -> dict[str, Any]:
    """Return the correlations of tables (ratios, pruners): of all points, within each ratio, and less its means."""
    found = {}
    for method, at_one in (("spearman", spearman), ("pearson", pearson)):
        found[method] = {
            "all": plain(crossed(x, y, method=method, within=False)),
            "within": {f"{r:g}": plain(at_one(a, b)) for r, a, b in zip(keep_ratios, x, y, strict=True)},
            "centred": plain(crossed(x, y, method=method)),
        }
    return found


def _points_table(analysis: Analysis) -> str:
    shown = [point for point in analysis["points"] if point["keep_ratio"] == SHOWN]
    rows = [
        (point["pruner"], with_half(point["score"]), *(f"{point['radii'][radius]:.3f}" for radius in RADII))
        for point in sorted(shown, key=lambda point: -point["score"]["mean"])
    ]
    rows += [(label(name), with_half(mean), *[""] * len(RADII)) for name, mean in analysis["unpruned"].items()]
    return table(("pruner", "gIoU", *RADII.values()), rows)

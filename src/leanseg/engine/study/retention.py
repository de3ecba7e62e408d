"""How quality falls with the share of tokens kept, and from which share on more tokens gain next to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Measured, rounded
from leanseg.engine.study.pictures import pictures
from leanseg.engine.study.plots import SUBJECT, UNPRUNED_STYLES, axes_grid, save, style
from leanseg.metrics.significance import bootstrap_mean
from leanseg.metrics.tradeoff import saturation

SHARE = 0.98
PUBLISHED = "60 to 70 %"
# All eight would hide each other.
BANDS = ("evtp", "random")


class Retention(Study):
    """Mean quality per pruner and keep ratio, and the smallest ratio that keeps 98 % of that with all tokens."""

    name = "retention"
    question = "How does quality fall with the share of visual tokens kept, and where does it saturate?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return the shared evaluation of pictures."""
        return pictures(setup)

    def analyse(self, records: Records) -> Analysis:
        """Return means with bootstrap intervals, and saturation points with theirs."""
        measured = Measured.of(records["pictures"])
        return {
            "measure": measured.measure,
            "n": measured.n,
            "share": SHARE,
            "keep_ratios": list(measured.keep_ratios),
            "pruners": {
                name: {
                    "curve": [rounded(bootstrap_mean(measured.at(name, r))) for r in measured.keep_ratios],
                    "saturation": saturation(*measured.curve(name), share=SHARE).to_json(),
                }
                for name in measured.pruners
            },
            "unpruned": {name: rounded(bootstrap_mean(measured.values[name])) for name in UNPRUNED},
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return quality by ratio, and saturation points beside the paper's statement."""
        ratios = analysis["keep_ratios"]
        rows = [(name, *map(with_half, each["curve"])) for name, each in analysis["pruners"].items()]
        blank = [""] * (len(ratios) - 1)
        rows += [(label(name), with_half(mean), *blank) for name, mean in analysis["unpruned"].items()]
        points = [(name, *_saturated(each["saturation"])) for name, each in analysis["pruners"].items()]
        points += [(label(name), "", "") for name in analysis["unpruned"]]
        share, measure = percent(analysis["share"]), _title(analysis["measure"])
        return {
            f"{measure} ± half of its 95 % interval, by tokens kept": table(
                ("tokens kept", *map(percent, ratios)), rows
            ),
            f"From how many tokens on {measure} stays at {share} of that with all tokens or above": table(
                ("pruner", "smallest measured ratio", "95 % interval"), points
            ),
        }

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw a curve per pruner with its interval, the saturation points, and lines for all, ovp-only and blind."""
        figure, (axes,) = axes_grid(1, 1, (9.5, 6.0))
        ratios = [100 * ratio for ratio in analysis["keep_ratios"]]
        for name, each in analysis["pruners"].items():
            drawn = style(name, list(analysis["pruners"]))
            axes.plot(
                ratios, [point["mean"] for point in each["curve"]], label=name, markersize=5, linewidth=1.4, **drawn
            )
            if name in BANDS:
                low, high = ([point[end] for point in each["curve"]] for end in ("low", "high"))
                axes.fill_between(ratios, low, high, alpha=0.12, color=drawn["color"], linewidth=0)
        for name, mean in analysis["unpruned"].items():
            axes.axhline(mean["mean"], color="black", linestyle=UNPRUNED_STYLES[name], linewidth=1, label=label(name))
        axes.set(xlabel="visual tokens kept, %", ylabel=_title(analysis["measure"]), xlim=(0, 100))
        axes.set_title(f"{SUBJECT}, {analysis['n']} pictures; bands: 95 % intervals of {listed(BANDS)}", fontsize=10)
        save(figure, axes, path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return where each curve saturates, and whether what the paper says of random samples is seen here."""
        points = {name: each["saturation"] for name, each in analysis["pruners"].items()}
        lowest = min(point["keep_ratio"] for point in points.values())
        frugal = [name for name, point in points.items() if point["keep_ratio"] == lowest]
        share, tokens = percent(analysis["share"]), f"{percent(lowest)} of them"
        found = [
            f"{share} of the quality with all tokens takes the fewest tokens under {listed(frugal)}: {tokens} "
            f"(95 % interval of {frugal[0]}: {_interval(points[frugal[0]])})."
        ]
        if "random" in points:
            point = points["random"]
            found.append(
                f"Random tokens saturate at {percent(point['keep_ratio'])} ({_interval(point)}) by this measure. The "
                f"paper states {PUBLISHED} for its own models and data, and not by which measure."
            )
        simple = [name for name in ("uniform", "random") if name in points and "evtp" in points]
        better = [name for name in simple if points[name]["high"] < points["evtp"]["low"]]
        worse = [name for name in simple if points[name]["low"] > points["evtp"]["high"]]
        unclear = [name for name in simple if name not in (*better, *worse)]
        for names, said in ((better, "fewer tokens than evtp"), (worse, "more tokens than evtp")):
            found += [f"Measurably {said} are needed by {listed(names)}."] if names else []
        found += [f"The interval of evtp overlaps those of {listed(unclear)}."] if unclear else []
        return found


def _title(measure: str) -> str:
    return {"giou": "gIoU"}.get(measure, measure)


def _saturated(point: dict[str, Any]) -> tuple[str, str]:
    return percent(point["keep_ratio"]), _interval(point)


def _interval(point: dict[str, Any]) -> str:
    return f"{percent(point['low'])} to {percent(point['high'])}"

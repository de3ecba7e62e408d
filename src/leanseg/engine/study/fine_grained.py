"""How many tokens small objects need: the fewest that keep nine tenths of the quality, by the size of the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Array, Measured, rounded
from leanseg.engine.study.pictures import KEEP_RATIOS, pictures, scenes
from leanseg.engine.study.plots import SUBJECT, axes_grid, save, style
from leanseg.metrics.significance import bootstrap_mean
from leanseg.metrics.tradeoff import smallest_retention

SHARE = 0.9
SHOWN_AT = 0.1
TERCILES = ("small", "middle", "large")


class FineGrained(Study):
    """The smallest measured keep ratio from which on a pruner keeps 90 % of the quality with all tokens.

    For thirds of the test scenes by the target's share of the pixels, and for the split `tiny`.
    """

    name = "fine_grained"
    question = "Do small targets need more visual tokens than large ones?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return the shared evaluation of pictures, and that of tiny things."""
        return {**pictures(setup), "tiny": scenes(setup, "tiny", "tiny", KEEP_RATIOS, 60)}

    def analyse(self, records: Records) -> Analysis:
        """Return per group of targets the retention of each pruner, and quality at a tenth of the tokens."""
        everything, tiny = Measured.of(records["pictures"]), Measured.of(records["tiny"])
        groups = {name: (everything, members) for name, members in thirds(areas(everything)).items()}
        groups["tiny"] = (tiny, np.ones(tiny.n, dtype=bool))
        return {
            "measure": everything.measure,
            "share": SHARE,
            "names": list(everything.pruners),
            "groups": {name: _group(*group) for name, group in groups.items()},
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return the fewest tokens by group of targets, and the quality at a tenth of the tokens."""
        groups, names = analysis["groups"], analysis["names"]
        head = ("targets", *(f"{name}, {each['n']}" for name, each in groups.items()))
        rows = [("their share of the pixels", *(_area(each) for each in groups.values()))]
        needed = [(name, *(_needed(each["retention"][name]) for each in groups.values())) for name in names]
        without = [
            (f"{label(name)}, share of the quality", *(_share(each["quality"], name) for each in groups.values()))
            for name in UNPRUNED
        ]
        quality = [(label(name), *(with_half(each["quality"][name]) for each in groups.values())) for name in
                   (*names, *UNPRUNED)]  # fmt: skip
        share = percent(analysis["share"])
        return {
            f"Fewest tokens with {share} of the quality that all tokens have (95 % interval)": table(
                head, [*rows, *needed, *without]
            ),
            f"gIoU at {percent(SHOWN_AT)} kept ± half of its 95 % interval": table(head, quality),
        }

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw the fewest tokens with their intervals, group by group."""
        figure, (axes,) = axes_grid(1, 1, (9.5, 5.2))
        groups, names = analysis["groups"], analysis["names"]
        for number, name in enumerate(names):
            found = [each["retention"][name] for each in groups.values()]
            places = [group + 0.09 * (number - (len(names) - 1) / 2) for group in range(len(groups))]
            middle = np.array([100 * each["keep_ratio"] for each in found])
            low, high = (np.array([100 * each[end] for each in found]) for end in ("low", "high"))
            ends = np.abs(np.stack([middle - low, high - middle]))
            drawn = style(name, names)
            axes.errorbar(places, middle, ends, linestyle="", label=name, markersize=6, elinewidth=1.2, **drawn)
        axes.set_xticks(range(len(groups)), [f"{name}\n{_area(each)}, {each['n']}" for name, each in groups.items()])
        axes.set(yscale="log", ylabel=f"fewest tokens with {percent(analysis['share'])} of the quality, %")
        axes.set_yticks([5, 10, 20, 30, 50, 70, 100], ["5", "10", "20", "30", "50", "70", "100"])
        axes.minorticks_off()
        axes.set_xlabel("targets: their share of the pixels, and how many")
        axes.set_title(f"{SUBJECT}; bars: 95 % intervals", fontsize=10)
        save(figure, axes, path, columns=8)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return for which pruners small targets need more by their intervals, and who needs fewest by the means."""
        groups, names = analysis["groups"], analysis["names"]
        found = []
        for group in ("small", "tiny"):
            needs = {name: groups[group]["retention"][name] for name in names}
            large = {name: groups["large"]["retention"][name] for name in names}
            more = [name for name in names if needs[name]["low"] > large[name]["high"]]
            fewer = [name for name in names if needs[name]["high"] < large[name]["low"]]
            needed = [f"more tokens under {listed(more)}"] if more else []
            needed += [f"fewer under {listed(fewer)}"] if fewer else []
            found.append(
                f"By intervals that do not meet, {group} targets need {' and '.join(needed)} than large ones."
                if needed
                else f"The intervals of {group} targets and of large ones overlap under every pruner."
            )
            fewest = min(each["keep_ratio"] for each in needs.values())
            best = [name for name in names if needs[name]["keep_ratio"] == fewest]
            rest = [name for name in names if name not in best]
            apart = [name for name in rest if needs[name]["low"] > min(needs[each]["high"] for each in best)]
            ends = [f"{name} (95 % interval {_ends(needs[name])} %)" for name in best]
            said = f"On {group} targets {percent(fewest)} of the tokens are enough, by the means, for {listed(ends)}"
            above = (
                f"the intervals of {listed(apart)} lie above one of these"
                if apart
                else "all other intervals overlap these"
            )
            found.append(f"{said}; {above}." if rest else f"{said}.")
        return found


def areas(measured: Measured) -> Array:
    """Return the targets' shares of the pixels."""
    return np.array([line["target"]["area"] for line in measured.lines], dtype=np.float64)


def thirds(area: Array) -> dict[str, np.ndarray]:
    """Return which samples have a small, middle and large target; those without any target are in none."""
    seen = area > 0
    low, high = np.quantile(area[seen], (1 / 3, 2 / 3))
    members = (seen & (area <= low), (area > low) & (area <= high), area > high)
    return dict(zip(TERCILES, members, strict=True))


def _group(measured: Measured, members: np.ndarray) -> dict[str, Any]:
    area = areas(measured)[members]
    retention = {}
    for name in measured.pruners:
        ratios, values = measured.curve(name)
        retention[name] = smallest_retention(ratios, values[members], share=SHARE).to_json()
    rows = {name: measured.at(name, SHOWN_AT) for name in measured.pruners}
    rows |= {name: measured.values[name] for name in UNPRUNED}
    return {
        "n": int(members.sum()),
        "area": [round(float(end), 4) for end in (area.min(), area.max())],
        "retention": retention,
        "quality": {name: rounded(bootstrap_mean(values[members])) for name, values in rows.items()},
    }


def _needed(point: dict[str, float]) -> str:
    return f"{percent(point['keep_ratio'])} ({_ends(point)})"


def _ends(point: dict[str, float]) -> str:
    return f"{100 * point['low']:g} to {100 * point['high']:g}"


def _share(quality: dict[str, Any], name: str) -> str:
    return f"{100 * quality[name]['mean'] / quality['all']['mean']:.0f} %"


def _area(group: dict[str, Any]) -> str:
    return f"{100 * group['area'][0]:.1f} to {100 * group['area'][1]:.1f} %"

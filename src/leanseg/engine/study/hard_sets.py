"""Whether pruning hurts more where the paper sees failures: among many similar objects, and in fast motion."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import excludes_zero, label, listed, percent, table, with_ends, with_half
from leanseg.engine.study.measured import UNPRUNED, Measured, apart, rounded
from leanseg.engine.study.pictures import PAPER_RATIOS, pictures, scenes
from leanseg.engine.study.plots import SUBJECT, axes_grid, save, style
from leanseg.metrics.significance import bootstrap_mean, paired_t

PAIRS = {"school": "pictures", "fast": "clips"}
"""Each hard set and the ordinary one beside it, by the keys of their evaluations."""
ABOUT = {
    "school": "similar objects: `school` against `test`",
    "fast": "fast motion: `fast` against `clips_test`",
}
SCHOOL, CLIPS = 150, 36


class HardSets(Study):
    """The loss against all tokens on a hard set minus that on the ordinary one, per pruner and keep ratio.

    Losses are paired by sample within a set; the sets are independent. The intervals hold at 95 % for all differences
    of a pair of sets together (Bonferroni), and are Student's: so far out, the bootstrap of few clips is too narrow.
    """

    name = "hard_sets"
    question = "Does pruning lose more among similar objects and in fast motion than on ordinary scenes?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return the shared evaluation of pictures, that of similar objects, and those of clips, fast and mixed."""
        return {
            **pictures(setup),
            "school": scenes(setup, "school", "school", count=SCHOOL),
            "clips": scenes(setup, "clips", "clips_test", count=CLIPS),
            "fast": scenes(setup, "fast", "fast", count=CLIPS),
        }

    def analyse(self, records: Records) -> Analysis:
        """Return quality on both sets of a pair, and by how much the losses differ."""
        return {
            "pairs": {
                hard: _compared(Measured.of(records[hard]), Measured.of(records[ordinary]))
                for hard, ordinary in PAIRS.items()
            }
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return per pair of sets the quality on each, and the additional loss on the hard one."""
        found = {}
        for hard, each in analysis["pairs"].items():
            ratios = each["keep_ratios"]
            rows = [(name, *(with_ends(row[f"{ratio:g}"]["more"]) for ratio in ratios))
                    for name, row in each["rows"].items()]  # fmt: skip
            blank = [""] * (len(ratios) - 1)
            rows += [(label(name), with_ends(row["more"]), *blank) for name, row in each["unpruned"].items()]
            n = f"{each['n'][0]} and {each['n'][1]} samples, {each['measure']}"
            title = f"Additional loss, {ABOUT[hard]} ({n}); Student's intervals, at 95 % for all cells together"
            found[title] = table(("tokens kept", *map(percent, ratios)), rows)
        for hard, each in analysis["pairs"].items():
            last = f"{min(each['keep_ratios']):g}"
            rows = [(label(name), *map(with_half, row["quality"])) for name, row in each["unpruned"].items()]
            rows += [(f"{name} at {percent(float(last))}", *map(with_half, row[last]["quality"]))
                     for name, row in each["rows"].items()]  # fmt: skip
            found[f"{each['measure']} on either set, {ABOUT[hard]}"] = table(("", "hard set", "ordinary set"), rows)
        return found

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw the additional losses with their intervals, a panel per pair of sets."""
        figure, axes = axes_grid(1, len(PAIRS), (12.5, 5.2), sharey=True)
        for place, (hard, each) in zip(axes, analysis["pairs"].items(), strict=True):
            ratios, names = each["keep_ratios"], list(each["rows"])
            for number, name in enumerate(names):
                found = [each["rows"][name][f"{ratio:g}"]["more"] for ratio in ratios]
                at = [group + 0.09 * (number - (len(names) - 1) / 2) for group in range(len(ratios))]
                middle = [one["mean"] for one in found]
                ends = [[one["mean"] - one["low"] for one in found], [one["high"] - one["mean"] for one in found]]
                place.errorbar(at, middle, ends, linestyle="", label=name, markersize=5, **style(name, names))
            place.axhline(0, color="black", linewidth=1)
            place.set_xticks(range(len(ratios)), map(percent, ratios))
            place.set(xlabel="visual tokens kept", title=ABOUT[hard].replace("`", ""))
        axes[0].set_ylabel("loss on the hard set minus loss on the ordinary one")
        figure.suptitle(f"{SUBJECT}; bars: intervals that hold together at 95 %", fontsize=10)
        save(figure, axes[0], path, columns=8)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return where a pruner loses measurably more, or less, on the hard set."""
        found = []
        for hard, each in analysis["pairs"].items():
            cells = [
                (f"{name} at {percent(ratio)}", each["rows"][name][f"{ratio:g}"]["more"])
                for ratio in each["keep_ratios"]
                for name in each["rows"]
            ]
            more = [name for name, cell in cells if excludes_zero(cell) and cell["mean"] > 0]
            less = [name for name, cell in cells if excludes_zero(cell) and cell["mean"] < 0]
            half = median((cell["high"] - cell["low"]) / 2 for _, cell in cells)
            groups = [f"more is lost by {listed(more)}"] if more else []
            groups += [f"less is lost by {listed(less)}"] if less else []
            said = ", ".join(groups) or "no pruner loses more or less"
            about = f"{ABOUT[hard].split(':')[0].capitalize()}, {len(cells)} settings"
            found.append(f"{about}: measurably, {said}. Half of an interval is {half:.2f} at the median.")
        return found


def _compared(hard: Measured, ordinary: Measured) -> dict[str, Any]:
    """Return quality on both sets and the difference of the losses, at the ratios that both have."""
    ratios = [ratio for ratio in PAPER_RATIOS if ratio in hard.keep_ratios and ratio in ordinary.keep_ratios]
    level = 1 - 0.05 / (len(ratios) * len(hard.pruners))

    def row(name: str) -> dict[str, Any]:
        losses = (paired_t(side.values["all"], side.values[name], confidence=level) for side in (hard, ordinary))
        quality = [rounded(bootstrap_mean(side.values[name])) for side in (hard, ordinary)]
        return {"quality": quality, "more": rounded(apart(*losses))}

    return {
        "measure": {"giou": "gIoU"}.get(hard.measure, hard.measure),
        "n": [hard.n, ordinary.n],
        "keep_ratios": ratios,
        "rows": {name: {f"{ratio:g}": row(f"{name}@{ratio:g}") for ratio in ratios} for name in hard.pruners},
        "unpruned": {name: row(name) for name in UNPRUNED},
    }

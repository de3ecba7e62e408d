"""Whether choosing tokens with regard to other frames gives steadier or better masks, by how much clips change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Array, Measured, rounded
from leanseg.engine.study.paired import BOLD, cell, differences
from leanseg.engine.study.plots import SUBJECT, axes_grid, save, style
from leanseg.metrics.significance import bootstrap_mean

DEFAULT = "evtp"
FRAME_WISE = (DEFAULT, "kcenter", "uniform", "random")
CLIP_WISE = (
    "smooth(inner=evtp())",
    "smooth(inner=evtp(), bonus=0.5)",
    "evtp_video",
    "evtp_video(time_weight=0.0, key_share=0.2)",
    "joint(inner=kcenter())",
    "evs",
)
"""`joint(inner=evtp())` is `evtp_video` exactly and so is not here again."""
KEEP_RATIOS = (0.2, 0.05)
REDUNDANCIES = ("static", "slow", "fast")
MEASURES = {"score": "J&F", "mask": "overlap of successive masks", "selection": "overlap of successive selections"}
_FEWEST = 2
_TARGET = "target"


class Temporal(Study):
    """Each method on static, slow and fast clips: J&F, and what successive frames share of masks and of kept tokens.

    A method for clips chooses among a frame and its references together, so that it may keep more of the segmented
    frame than a frame-wise one at the same ratio: tokens of that frame stand in the table. Masks of a clip in which
    the target moves should differ; so the target's own overlap stands beside theirs.
    """

    name = "temporal"
    question = "Do selections that regard other frames give steadier or better masks, and on which clips?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return one evaluation of the test clips, with tokens kept and overlaps of successive frames."""
        asked = {"pruners": (*FRAME_WISE, *CLIP_WISE), "keep_ratios": KEEP_RATIOS, "facts": ("kept", "stability")}
        return {self.name: setup.request(self.name, scenes=75, data="scenes:clips_test", **asked)}

    def analyse(self, records: Records) -> Analysis:
        """Return means and differences from frame-wise EVTP, for each redundancy, these corrected within one.

        Among those of masks is also that of all tokens from the target's own overlap, paired by clip.
        """
        measured = Measured.of(records[self.name])
        redundancy = np.array([line["target"]["redundancy"] for line in measured.lines])
        found = {}
        for name in REDUNDANCIES:
            members = np.flatnonzero(redundancy == name)
            if len(members) >= _FEWEST:
                found[name] = _group(measured, members)
        return {
            "measure": measured.measure,
            "n": measured.n,
            "pruners": list(measured.pruners),
            "keep_ratios": list(measured.keep_ratios),
            "groups": found,
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return J&F, overlaps, and differences from frame-wise EVTP, a column per redundancy and ratio."""
        groups, names, ratios = analysis["groups"], analysis["pruners"], analysis["keep_ratios"]
        head = ("pruner", *(f"{group}, {percent(ratio)}" for ratio in ratios for group in groups))
        sizes = ", ".join(f"{group['n']} {name}" for name, group in groups.items())
        rows = [(name, *_per_cell(analysis, name, _score)) for name in names]
        rows += [(label(name), *(with_half(groups[g]["rows"][name]["score"]) for g in groups)) for name in UNPRUNED]
        rows = [(*row, *[""] * (len(head) - len(row))) for row in rows]
        steady = [(name, *_per_cell(analysis, name, _overlaps)) for name in names]
        steady += [(label(name), *(_overlaps(groups[g]["rows"][name]) for g in groups)) for name in UNPRUNED]
        steady.append(("target", *(f"{groups[g]['target']:.3f}" for g in groups)))
        steady = [(*row, *[""] * (len(head) - len(row))) for row in steady]
        tables = {
            f"J&F ± half of its 95 % interval (tokens of the segmented frame, in the mean); clips: {sizes}": table(
                head, rows
            ),
            "Overlap (IoU) of successive frames: masks / kept tokens": table(head, steady),
        }
        others = [name for name in names if name != DEFAULT]
        for measure in MEASURES:
            title = f"{MEASURES[measure]}: difference from frame-wise {DEFAULT}, {BOLD}"
            cells = [
                (name, *(cell(_difference(groups[g], measure, name, ratio)) for ratio in ratios for g in groups))
                for name in others
            ]
            tables[title] = table(head, cells)
        return tables

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw J&F and overlap of masks over overlap of selections, a column per redundancy."""
        groups = analysis["groups"]
        figure, axes = axes_grid(2, len(groups), (14, 8.4), sharex=True, sharey="row")
        for column, (group, found) in enumerate(groups.items()):
            for row, measure in enumerate(("score", "mask")):
                place = axes[row * len(groups) + column]
                for name in analysis["pruners"]:
                    for number, ratio in enumerate(analysis["keep_ratios"]):
                        each = found["rows"][f"{name}@{ratio:g}"]
                        drawn = style(name, analysis["pruners"])
                        face = "white" if number else drawn["color"]
                        x, y = each["selection"]["mean"], each[measure]["mean"]
                        text = None if number else name
                        place.plot(x, y, markerfacecolor=face, linestyle="", markersize=8, label=text, **drawn)
                place.axhline(found["rows"]["all"][measure]["mean"], color="black", linewidth=1, label=label("all"))
                if measure == "mask":
                    place.axhline(found["target"], color="black", linestyle=":", label="the target itself")
            axes[column].set_title(f"{group}: {found['n']} clips", fontsize=10)
            axes[len(groups) + column].set_xlabel(MEASURES["selection"])
        axes[0].set_ylabel(MEASURES["score"])
        axes[len(groups)].set_ylabel(MEASURES["mask"])
        kept = " and ".join(map(percent, analysis["keep_ratios"]))
        figure.suptitle(f"{SUBJECT}, clips of eight frames; filled and hollow: {kept} of the tokens kept", fontsize=11)
        save(figure, axes[len(groups)], path, columns=4)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return what is steadier and what is better than frame-wise EVTP, and on which clips."""
        n_clips = listed([f"{group['n']} {name}" for name, group in analysis["groups"].items()])
        said = [f"There are {n_clips} clips: what is not named below cannot be told apart from frame-wise {DEFAULT}."]
        for measure, title in MEASURES.items():
            higher, lower = (_standing(analysis, measure, sign) for sign in (1, -1))
            said.append(
                f"{title[0].upper()}{title[1:]}, compared with frame-wise {DEFAULT}: higher: {higher}. Lower: {lower}."
            )
        said.append(
            f"Overlap of successive masks with all tokens minus the target's own on the same clip: {_above(analysis)}."
        )
        whole = [
            f"`{name}` at {percent(ratio)}"
            for name in analysis["pruners"]
            for ratio in analysis["keep_ratios"]
            if _more(analysis, name, ratio)
        ]
        said.append(
            f"Uneven, as they keep a tenth or more above frame-wise tokens of the segmented frame: {listed(whole)}."
        )
        return said


def _standing(analysis: Analysis, measure: str, sign: int) -> str:
    """Return which methods differ measurably in this direction, and where: at every ratio unless one is named."""
    where: dict[str, list[str]] = {}
    for group, found in analysis["groups"].items():
        stands = {
            each["first"] for each in found["differences"][measure] if each["significant"] and sign * each["mean"] > 0
        }
        for name in analysis["pruners"]:
            ratios = [ratio for ratio in analysis["keep_ratios"] if f"{name}@{ratio:g}" in stands]
            every = len(ratios) == len(analysis["keep_ratios"])
            if ratios:
                place = group if every else f"{group} at {listed([percent(ratio) for ratio in ratios])}"
                where.setdefault(name, []).append(place)
    return "; ".join(f"`{name}` ({listed(places)})" for name, places in where.items()) or "none"


def _above(analysis: Analysis) -> str:
    """Return where the masks of all tokens overlap measurably more than the target itself, where less."""
    above, below, unclear = "measurably above 0", "below", "not told apart from it after correction"
    places: dict[str, list[str]] = {above: [], below: [], unclear: []}
    for group, found in analysis["groups"].items():
        (each,) = (each for each in found["differences"]["mask"] if each["second"] == _TARGET)
        where = unclear if not each["significant"] else above if each["mean"] > 0 else below
        places[where].append(f"{group} {each['mean']:+.3f} ({each['low']:+.3f} to {each['high']:+.3f})")
    return "; ".join(f"{where}: {listed(found)}" for where, found in places.items())


def _group(measured: Measured, members: Any) -> dict[str, Any]:
    """Return what one group of clips says."""
    lines = [measured.lines[number] for number in members]
    pruned = [f"{name}@{ratio:g}" for name in measured.pruners for ratio in measured.keep_ratios]
    series: dict[str, dict[str, Array]] = {
        "score": {row: values[members] for row, values in measured.values.items()},
        "mask": {row: _noted(lines, row, "mask") for row in measured.values},
        "selection": {row: _noted(lines, row, "selection") for row in pruned},
    }
    rows: dict[str, dict[str, Any]] = {
        row: {name: rounded(bootstrap_mean(found[row])) for name, found in series.items() if row in found}
        for row in measured.values
    }
    for row in pruned:
        kept = [np.mean(line["facts"][row]["kept"]) for line in lines if row in line["facts"]]
        rows[row]["kept"] = round(float(np.mean(kept)), 2)
    target = np.array([line["target"]["stability"] for line in lines])
    series["mask"][_TARGET] = target
    pairs = [(row, f"{DEFAULT}@{row.rsplit('@', 1)[1]}") for row in pruned if row.rsplit("@", 1)[0] != DEFAULT]
    also = {"mask": [("all", _TARGET)]}
    return {
        "n": len(members),
        "target": round(float(target.mean()), 4),
        "rows": rows,
        "differences": {
            measure: differences(found, pairs + also.get(measure, [])) for measure, found in series.items()
        },
    }


def _noted(lines: list[Any], row: str, what: str) -> Array:
    """Return the overlap of successive frames per clip; 0 where the answer failed."""
    return np.array([line["facts"].get(row, {}).get("stability", {}).get(what, 0.0) for line in lines])


def _per_cell(analysis: Analysis, name: str, text: Any) -> list[str]:
    groups = analysis["groups"].values()
    return [text(group["rows"][f"{name}@{ratio:g}"]) for ratio in analysis["keep_ratios"] for group in groups]


def _score(row: dict[str, Any]) -> str:
    return f"{with_half(row['score'])} ({row['kept']:.0f})"


def _overlaps(row: dict[str, Any]) -> str:
    mask = f"{row['mask']['mean']:.3f}"
    return f"{mask} / {row['selection']['mean']:.3f}" if "selection" in row else mask


def _difference(group: dict[str, Any], measure: str, name: str, ratio: float) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {each["first"]: each for each in group["differences"][measure]}
    return found[f"{name}@{ratio:g}"]


def _more(analysis: Analysis, name: str, ratio: float) -> bool:
    groups = analysis["groups"].values()
    return any(g["rows"][f"{name}@{ratio:g}"]["kept"] > 1.1 * g["rows"][f"{DEFAULT}@{ratio:g}"]["kept"] for g in groups)

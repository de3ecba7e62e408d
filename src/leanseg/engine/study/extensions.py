"""What our own methods add to EVTP, on ordinary scenes and on those where pruning should hurt most."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leanseg.engine.evaluation.grid import Row, grid
from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table, with_half
from leanseg.engine.study.measured import UNPRUNED, Measured, rounded
from leanseg.engine.study.paired import BOLD, cell, differences
from leanseg.engine.study.plots import SUBJECT, axes_grid, save
from leanseg.metrics.significance import bootstrap_mean

KEEP_RATIOS = (0.2, 0.05)
SPLITS = ("test", "school", "tiny")
BASELINES = ("evtp", "uniform", "random")
EXTENSIONS = {
    "reserve": "reserve(inner=evtp())",
    "union": "union(first=attention(), second=evtp())",
    "chain": "chain(first=attention(keep_ratio=0.5), second=evtp())",
    "evtp_saliency": "evtp_saliency",
    "multiscale": "multiscale",
}
"""At the keep ratio of the row. `adaptive` comes besides, as it keeps it in the mean only."""
RADII = {0.2: 0.53056, 0.05: 1.07837}
"""The radius at which `adaptive` keeps this share in the mean: `leanseg.pruners.calibrate(EVTP(keep_ratio=1), tokens,
share)` on the tokens of the first hundred scenes of `validation`, under instructseg-nano."""
ADAPTIVE = "adaptive"


class Extensions(Study):
    """Our methods minus EVTP and the simple methods, paired by picture, on three kinds of scenes."""

    name = "extensions"
    question = "Do hybrid, adaptive and two-scale selection gain anything over EVTP and over the simple methods?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return an evaluation of each split."""
        return {
            f"extensions_{split}": setup.request(
                f"extensions_{split}", scenes=120, data=f"scenes:{split}", rows=_rows(), facts=("kept",)
            )
            for split in SPLITS
        }

    def analyse(self, records: Records) -> Analysis:
        """Return per split means, tokens kept, and differences, these corrected over one split."""
        found = {}
        for key, record in records.items():
            measured = Measured.of(record)
            ours = [name for name in measured.pruners if name not in BASELINES]
            pairs = [
                (f"{name}@{ratio:g}", f"{base}@{ratio:g}")
                for ratio in measured.keep_ratios
                for base in BASELINES
                for name in ours
            ]
            found[key.removeprefix("extensions_")] = {
                "n": measured.n,
                "means": {name: rounded(bootstrap_mean(values)) for name, values in measured.values.items()},
                "kept": {name: _kept(measured, name) for name in measured.values if name not in UNPRUNED},
                "differences": differences(measured.values, pairs),
            }
        return {"keep_ratios": list(measured.keep_ratios), "ours": ours, "splits": found}

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return a table per split."""
        ratios, tables = analysis["keep_ratios"], {}
        what = ("tokens", "gIoU", "against evtp", "against uniform")
        for split, found in analysis["splits"].items():
            changes = {(each["first"], each["second"]): cell(each) for each in found["differences"]}
            rows = []
            for name in (*BASELINES, *analysis["ours"]):
                cells = []
                for ratio in ratios:
                    row = f"{name}@{ratio:g}"
                    against = [changes.get((row, f"{base}@{ratio:g}"), "") for base in BASELINES[:2]]
                    cells += [f"{found['kept'][row]:.1f}", with_half(found["means"][row]), *against]
                rows.append((name, *cells))
            blank = [""] * (len(what) * len(ratios) - 2)
            rows += [(label(name), "", with_half(found["means"][name]), *blank) for name in UNPRUNED]
            head = [f"{each}, {percent(ratio)}" for ratio in ratios for each in what]
            title = f"`{split}`, {found['n']} pictures: tokens kept in the mean, gIoU ± half of its 95 % interval, and "
            tables[f"{title}differences, {BOLD}"] = table(("pruner", *head), rows)
        return tables

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw the mean of each method with its interval, a panel per split, lines for all tokens and blind."""
        names = [*BASELINES, *analysis["ours"]]
        figure, axes = axes_grid(1, len(analysis["splits"]), (13, 4.6), sharey=True)
        for place, (split, found) in zip(axes, analysis["splits"].items(), strict=True):
            for number, ratio in enumerate(analysis["keep_ratios"]):
                means = [found["means"][f"{name}@{ratio:g}"] for name in names]
                heights = np.arange(len(names)) + 0.16 * (2 * number - 1)
                sides = [[m["mean"] - m["low"] for m in means], [m["high"] - m["mean"] for m in means]]
                place.errorbar(
                    [m["mean"] for m in means], heights, xerr=sides, fmt="o", color=("#1f5fa8", "#c2563a")[number % 2],
                    label=f"{percent(ratio)} of the tokens kept",
                )  # fmt: skip
            for name, line in (("all", "-"), ("blind", ":")):
                mean = found["means"][name]["mean"]
                place.axvline(mean, color="black", linestyle=line, linewidth=1, label=label(name))
            place.set(xlabel="gIoU, 95 % interval", title=f"{split}: {found['n']} pictures")
        axes[0].set_yticks(range(len(names)), names)
        axes[0].invert_yaxis()
        figure.suptitle(SUBJECT, fontsize=11)
        save(figure, axes[0], path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return what can be told apart from evtp and from the simple methods, and on which scenes."""
        every = [each for found in analysis["splits"].values() for each in found["differences"]]
        half = sum(each["high"] - each["low"] for each in every) / len(every) / 2
        said = [
            f"What is not named below cannot be told apart: {len(every)} differences, corrected within each split, "
            f"with intervals of ± {half:.3f} in the mean.",
        ]
        for base in BASELINES:
            better, worse = (_standing(analysis, base, sign) for sign in (1, -1))
            said.append(f"Measurably better than {base} at the same ratio: {better}. Worse: {worse}.")
        named = [
            f"{name} is `{spec}`" for name, spec in EXTENSIONS.items() if name in analysis["ours"] and name != spec
        ]
        if ADAPTIVE in analysis["ours"]:
            named.append(f"{ADAPTIVE} keeps its ratio in the mean of other scenes, and so another number here")
        return [*said, f"Here {listed(named)}."]


def _standing(analysis: Analysis, base: str, sign: int) -> str:
    """Return which methods differ measurably from `base` in this direction, and where."""
    where: dict[str, list[str]] = {}
    for split, found in analysis["splits"].items():
        for each in found["differences"]:
            if each["second"].startswith(f"{base}@") and each["significant"] and sign * each["mean"] > 0:
                name, _, ratio = each["first"].rpartition("@")
                where.setdefault(name, []).append(f"`{split}` at {percent(float(ratio))}")
    return "; ".join(f"{name} ({listed(places)})" for name, places in where.items()) or "none"


def _rows() -> tuple[Row, ...]:
    everything, *rest = grid(BASELINES, KEEP_RATIOS)
    ours = [
        Row(name=row.name.replace(spec, name), pruner=row.pruner, keep_ratio=row.keep_ratio)
        for name, spec in EXTENSIONS.items()
        for row in grid((spec,), KEEP_RATIOS, unpruned=())
        if row.pruner is not None
    ]
    adaptive = [
        Row(
            name=f"{ADAPTIVE}@{ratio:g}",
            # The most that one picture may keep is what `calibrate` assumes.
            pruner=f"adaptive(keep_ratio={4 * ratio:g}, inner=evtp(keep_ratio=1.0), radius={radius})",
            keep_ratio=ratio,
        )
        for ratio, radius in RADII.items()
    ]
    return (everything, *ours, *adaptive, *rest)


def _kept(measured: Measured, row: str) -> float:
    """Return the mean number of tokens that were kept."""
    return round(float(np.mean([line["facts"][row]["kept"] for line in measured.lines if row in line["facts"]])), 2)

"""Which pruners can be told apart at all, and on which kinds of instruction one loses something."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from leanseg.engine.evaluation.request import Request
from leanseg.engine.study.base import Analysis, Records, Setup, Study
from leanseg.engine.study.markdown import label, listed, percent, table
from leanseg.engine.study.measured import UNPRUNED, Measured
from leanseg.engine.study.pictures import PAPER_RATIOS, pictures
from leanseg.engine.study.plots import SUBJECT, axes_grid, write
from leanseg.metrics.comparison import Comparison, adjusted, check_resolution, compare

LEVEL = 0.05
KINDS_AT = 0.1
# Enough that the smallest p of all pairs at ten ratios can pass Holm's correction.
_RESAMPLES = 30_000
_FEWEST = 10
_DIGITS = 5


class Significance(Study):
    """Paired tests of each pruner with each other, and with the unpruned rows, at every keep ratio.

    A pair is told apart if the p of its paired t and of its paired bootstrap, each Holm-corrected over all pairs at all
    ratios, are both below 0.05.
    """

    name = "significance"
    question = "Which pruners can be told apart at all, at which keep ratio, and on which kinds of instruction?"

    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return the shared evaluation of pictures."""
        return pictures(setup)

    def analyse(self, records: Records) -> Analysis:
        """Return every difference with its corrected p, and the losses by kind of instruction."""
        measured = Measured.of(records["pictures"])
        names, family = (*measured.pruners, *UNPRUNED), []
        for ratio in measured.keep_ratios:
            found = compare({name: _values(measured, name, ratio) for name in names}, n_resamples=_RESAMPLES)
            family += [(ratio, pair) for pair in found if not {pair.first, pair.second} <= set(UNPRUNED)]
        family += [(1.0, pair) for pair in found if {pair.first, pair.second} <= set(UNPRUNED)]
        pairs = _corrected([pair for _, pair in family])
        return {
            "measure": measured.measure,
            "n": measured.n,
            "names": list(measured.pruners),
            "keep_ratios": list(measured.keep_ratios),
            "n_tests": len(pairs),
            "pairs": [{"keep_ratio": ratio, **pair} for (ratio, _), pair in zip(family, pairs, strict=True)],
            "kinds": _by_kind(measured),
        }

    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return counts of pairs told apart, the pairs at the paper's ratios, and losses by kind."""
        names, ratios = [*analysis["names"], *UNPRUNED], analysis["keep_ratios"]
        n_pairs = len(analysis["names"]) * (len(analysis["names"]) - 1) // 2
        counts = [("pairs of pruners told apart", *(f"**{told_apart(analysis, r)}** of {n_pairs}" for r in ratios))]
        counts += [(label(name), *(_standing(analysis, name, ratio) for ratio in ratios)) for name in names]
        title = f"Than how many of the other {len(names) - 1} rows one is measurably better (+), and worse (-)"
        found = {title: table(("tokens kept", *map(percent, ratios)), counts)}
        for ratio in (ratio for ratio in PAPER_RATIOS if ratio in ratios):
            title = f"{percent(ratio)} kept: row minus column, bold where told apart"
            found[title] = _matrix(analysis, names, ratio)
        if analysis["kinds"]:
            title = (
                f"Change against all tokens by kind of instruction at {percent(KINDS_AT)} kept, bold where told apart"
            )
            found[title] = _kind_table(analysis["kinds"], names)
        return found

    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw the differences at the paper's ratios as maps, a dot where a pair is told apart."""
        names = [*analysis["names"], *UNPRUNED]
        ratios = [ratio for ratio in PAPER_RATIOS if ratio in analysis["keep_ratios"]]
        figure, axes = axes_grid(1, len(ratios), (4.9 * len(ratios), 5.2), sharey=True)
        for place, ratio in zip(axes, ratios, strict=True):
            values, apart = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)), dtype=bool)
            for i, j in combinations(range(len(names)), 2):
                pair = _pair(analysis, names[i], names[j], ratio)
                values[i, j], values[j, i] = pair["difference"], -pair["difference"]
                apart[i, j] = apart[j, i] = pair["significant"]
            image = place.imshow(values, cmap="RdBu", vmin=-0.3, vmax=0.3)
            place.scatter(*np.nonzero(apart)[::-1], s=9, color="black")
            place.set_xticks(range(len(names)), map(label, names), rotation=60, ha="right", fontsize=8)
            place.set_yticks(range(len(names)), map(label, names), fontsize=8)
            place.set_title(f"{percent(ratio)} of the tokens kept", fontsize=10)
            place.grid(visible=False)
        figure.colorbar(image, ax=axes, label="row minus column, gIoU", shrink=0.75)
        figure.suptitle(f"{SUBJECT}, {analysis['n']} pictures; a dot: told apart", fontsize=11)
        write(figure, path)

    def sentences(self, analysis: Analysis) -> list[str]:
        """Return how many pairs can be told apart at each ratio, and what that says of evtp and the simple methods."""
        n_pairs = len(analysis["names"]) * (len(analysis["names"]) - 1) // 2
        counts = {ratio: told_apart(analysis, ratio) for ratio in analysis["keep_ratios"]}
        some = [f"{count} at {percent(ratio)}" for ratio, count in counts.items() if count]
        rest = ", none elsewhere" if 0 in counts.values() else ""
        tests = f"{analysis['n']} samples, {analysis['n_tests']} tests corrected together"
        found = [f"Told apart, of {n_pairs} pairs of pruners: {listed(some)}{rest} ({tests})."]
        for ratio in (
            ratio for ratio in PAPER_RATIOS if ratio in analysis["keep_ratios"] and "evtp" in analysis["names"]
        ):
            groups = zip(("better than", "worse than", "not told apart from"),
                         _against(analysis, "evtp", ratio, analysis["names"]), strict=True)  # fmt: skip
            said = "; ".join(f"{words} {listed(others)}" for words, others in groups if others)
            found.append(f"At {percent(ratio)} evtp is {said}.")
        harmless = [
            ratio
            for ratio in analysis["keep_ratios"]
            if not any(_pair(analysis, "all", name, ratio)["significant"] for name in analysis["names"])
        ]
        if harmless:
            found.append(f"No pruner can be told apart from all tokens at {listed([percent(r) for r in harmless])}.")
        lost = sorted({kind for kind, each in analysis["kinds"].items() if _loses(each, "evtp")})
        if analysis["kinds"]:
            found.append(f"At {percent(KINDS_AT)} evtp loses measurably on these kinds of instruction: {listed(lost)}.")
        return found


def told_apart(analysis: Analysis, keep_ratio: float) -> int:
    """Return how many pairs of pruners can be told apart at a keep ratio."""
    pairs = combinations(analysis["names"], 2)
    return sum(_pair(analysis, first, second, keep_ratio)["significant"] for first, second in pairs)


def _values(measured: Measured, name: str, keep_ratio: float) -> Any:
    return measured.values[name] if name in UNPRUNED else measured.at(name, keep_ratio)


def _corrected(pairs: list[Comparison]) -> list[dict[str, Any]]:
    """Return the comparisons as plain data, corrected over all of them, whatever `compare` was called with.

    Raises:
        InputError: they are too many for the resamples; nothing could be told apart.
    """
    check_resolution(len(pairs), LEVEL, _RESAMPLES)
    p_t, p_bootstrap = (adjusted([getattr(pair, kind) for pair in pairs]) for kind in ("p_t", "p_bootstrap"))
    worst = np.maximum(p_t, p_bootstrap)
    return [
        {
            "first": pair.first,
            "second": pair.second,
            **{name: round(float(getattr(pair, name)), _DIGITS) for name in ("difference", "low", "high")},
            "p_adjusted": float(f"{p:.3g}"),
            "significant": bool(p < LEVEL),
        }
        for pair, p in zip(pairs, worst, strict=True)
    ]


def _by_kind(measured: Measured) -> dict[str, Any]:
    """Return the change of each row against all tokens, by kind, corrected over all kinds and rows."""
    if KINDS_AT not in measured.keep_ratios:
        return {}
    kinds = np.array([str(line["kind"]) for line in measured.lines])
    found: list[tuple[str, Comparison]] = []
    for kind in sorted(set(kinds)):
        members = kinds == kind
        if members.sum() < _FEWEST:
            continue
        values = {name: _values(measured, name, KINDS_AT)[members] for name in (*measured.pruners, *UNPRUNED)}
        found += [(kind, pair) for pair in compare(values, against="all", n_resamples=_RESAMPLES)]
    corrected = _corrected([pair for _, pair in found]) if found else []
    by_kind = [kind for kind, _ in found]
    return {
        kind: {
            "n": int((kinds == kind).sum()),
            "all": round(float(measured.values["all"][kinds == kind].mean()), _DIGITS),
            "rows": [row for each, row in zip(by_kind, corrected, strict=True) if each == kind],
        }
        for kind in dict.fromkeys(by_kind)
    }


def _pair(analysis: Analysis, first: str, second: str, keep_ratio: float) -> dict[str, Any]:
    """Return first minus second; two unpruned rows differ by the same at every ratio."""
    at = 1.0 if {first, second} <= set(UNPRUNED) else keep_ratio
    for pair in analysis["pairs"]:
        if pair["keep_ratio"] == at and {pair["first"], pair["second"]} == {first, second}:
            sign = 1 if pair["first"] == first else -1
            return {**pair, "difference": sign * pair["difference"]}
    raise KeyError(f"{first} and {second} at {keep_ratio}")


def _against(
    analysis: Analysis, name: str, keep_ratio: float, others: list[str]
) -> tuple[list[str], list[str], list[str]]:
    """Return than which others a row is measurably better, than which worse, and from which it is not told apart."""
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for other in others:
        if other != name:
            pair = _pair(analysis, name, other, keep_ratio)
            found[2 if not pair["significant"] else 0 if pair["difference"] > 0 else 1].append(other)
    return found


def _standing(analysis: Analysis, name: str, keep_ratio: float) -> str:
    better, worse, _ = _against(analysis, name, keep_ratio, [*analysis["names"], *UNPRUNED])
    return f"+{len(better)} -{len(worse)}"


def _matrix(analysis: Analysis, names: list[str], keep_ratio: float) -> str:
    rows = []
    for i, first in enumerate(names[:-1]):
        cells = [""] * i
        for second in names[i + 1 :]:
            pair = _pair(analysis, first, second, keep_ratio)
            text = f"{pair['difference']:+.3f}"
            cells.append(f"**{text}**" if pair["significant"] else text)
        rows.append((label(first), *cells))
    return table(("", *map(label, names[1:])), rows)


def _kind_table(kinds: dict[str, Any], names: list[str]) -> str:
    head = ("", *(f"{kind} ({each['n']})" for kind, each in kinds.items()))
    rows = [("all tokens, gIoU", *(f"{each['all']:.3f}" for each in kinds.values()))]
    for name in names:
        cells = []
        for each in kinds.values():
            for pair in each["rows"]:
                if pair["first"] == name:
                    text = f"{pair['difference']:+.3f}"
                    cells.append(f"**{text}**" if pair["significant"] else text)
        if cells:
            rows.append((label(name), *cells))
    return table(head, rows)


def _loses(kind: dict[str, Any], name: str) -> bool:
    return any(p["significant"] and p["difference"] < 0 for p in kind["rows"] if p["first"] == name)

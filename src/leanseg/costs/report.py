"""Costs under several budgets: what each saves, as rows, as Markdown, and as the tables of docs/costs.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leanseg.core.budget import keep_count
from leanseg.costs.amdahl import Amdahl, amdahl
from leanseg.costs.cost import Cost
from leanseg.costs.datasets import DATASETS
from leanseg.costs.estimate import instructseg
from leanseg.costs.instructseg_paper import N
from leanseg.costs.profile import UNIFORM, Profile
from leanseg.costs.sam import sam
from leanseg.costs.sam_methods import sam_method
from leanseg.costs.sam_published import PUBLISHED
from leanseg.costs.sizes import Sizes

KEEP_RATIOS = (1.0, 0.2, 0.1, 0.05)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A cost and what it saves against all tokens."""

    cost: Cost
    reduction: float
    speedup: float
    lm_speedup: float

    def to_json(self) -> dict[str, Any]:
        """Return the cost's JSON data with the three ratios."""
        ratios = {"reduction": self.reduction, "speedup": self.speedup, "lm_speedup": self.lm_speedup}
        return {**self.cost.to_json(), **ratios}


def n_tokens(mode: str, sizes: Any = None) -> int:
    """Return the visual tokens of one frame: the paper's, or those of the sizes."""
    return N if mode == "paper" else Sizes.of(sizes).n_tokens


def default_budgets(mode: str, sizes: Any = None) -> list[int]:
    """Return the paper's four budgets.

    >>> default_budgets("paper")
    [729, 146, 73, 36]
    """
    return [keep_count(n_tokens(mode, sizes), ratio) for ratio in KEEP_RATIOS]


def compare(dataset: str, mode: str, budgets: Iterable[int], **readings: Any) -> list[Row]:
    """Return one row per budget, in their order."""
    full = instructseg(dataset, n_tokens(mode, readings.get("sizes")), mode, **readings)
    rows = []
    for kept in budgets:
        cost = instructseg(dataset, kept, mode, **readings)
        lm_speedup = full.parts["lm"] / cost.parts["lm"]
        saved = 1 - cost.total / full.total
        rows.append(Row(cost=cost, reduction=saved, speedup=full.total / cost.total, lm_speedup=lm_speedup))
    return rows


def ceiling(dataset: str, mode: str, budgets: Sequence[int], profile: Profile = UNIFORM, **readings: Any) -> Amdahl:
    """Return what pruning can save on one data set, on one machine."""
    full, least = (instructseg(dataset, kept, mode, **readings) for kept in (n_tokens(mode, readings.get("sizes")), 1))
    return amdahl(full, least, [instructseg(dataset, kept, mode, **readings) for kept in budgets], profile)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(header)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _overview(mode: str, **readings: Any) -> str:
    """One line per data set; cells hold the total and, where pruned, what that saves."""
    budgets = default_budgets(mode)
    lines = []
    for name, dataset in DATASETS.items():
        full, *pruned = compare(name, mode, budgets, **readings)
        cells = [
            f"{row.cost.total:.4f} ({row.reduction:.1%}; {row.speedup:.2f}; {row.lm_speedup:.2f})" for row in pruned
        ]
        lines.append([dataset.label, str(full.cost.text_tokens), f"{full.cost.total:.4f}", *cells])
    return table(["data set", "text tokens", *(f"{kept} tokens" for kept in budgets)], lines)


def _parts(**readings: Any) -> str:
    """Every part of both modes on an image and a clip, all tokens and a fifth of them."""
    columns = [
        (mode, name, kept) for mode in ("paper", "exact") for name in ("refcoco", "refyoutube") for kept in (729, 146)
    ]
    costs = [instructseg(name, kept, mode, **(readings if mode == "exact" else {})) for mode, name, kept in columns]
    names = list(dict.fromkeys(part for cost in reversed(costs) for part in cost.parts))
    header = ["part", *(f"{mode}, {DATASETS[name].label}, {kept}" for mode, name, kept in columns)]
    lines = [[part, *(f"{cost.parts[part]:.4f}" if part in cost.parts else "" for cost in costs)] for part in names]
    lines.append(["total", *(f"{cost.total:.4f}" for cost in costs)])
    lines.append(["sequence length", *(str(cost.sequence_length) for cost in costs)])
    return table(header, lines)


VIEWS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("paper's closed forms, image", "refcoco", "paper", {}),
    ("paper's closed forms, clip", "refyoutube", "paper", {}),
    ("exact, image, as released", "refcoco", "exact", {"cached": False}),
    ("exact, image, as this library", "refcoco", "exact", {}),
    ("exact, clip, as released", "refyoutube", "exact", {"cached": False}),
    ("exact, clip, as this library", "refyoutube", "exact", {}),
)


def _ceilings() -> str:
    """What pruning can save where every multiply-add takes the same time."""
    header = ["view", "all tokens", "pruned stages", "146", "73", "36", "one token left", "pruned stages free"]
    lines = []
    for label, dataset, mode, readings in VIEWS:
        found = ceiling(dataset, mode, (146, 73, 36), **readings)
        speedups = [f"x{speedup:.2f}" for speedup in (*found.speedups, found.floor, found.limit)]
        lines.append([label, f"{found.total_s:.3f}", f"{found.pruned_share:.1%}", *speedups])
    return table(header, lines)


def _caching() -> str:
    """The two savings one after the other on a clip, and more instructions per frame."""
    steps: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("as released", 729, {"cached": False}),
        ("pruned to 146", 146, {"cached": False}),
        ("each frame once", 729, {}),
        ("both", 146, {}),
        ("both, 2 instructions per frame", 146, {"instructions": 2}),
        ("both, 4 instructions per frame", 146, {"instructions": 4}),
    )
    lines = []
    for label, kept, readings in steps:
        cells = []
        for name in ("refcoco", "refyoutube"):
            base = instructseg(name, 729, "exact", cached=False).total
            total = instructseg(name, kept, "exact", **readings).total
            cells.append(f"{total:.3f} (x{base / total:.2f})")
        lines.append([label, *cells])
    return table(["", "image", "key frame of a clip"], lines)


def _staged() -> str:
    """The paper's printed figures for SAM with stages, its rule, and the exact count, which is none of the paper's."""
    header = ["paper's table", "SAM", "dropped after block", "printed (paper)", "its rule", "off by", "exact (ours)"]
    lines = []
    for row in PUBLISHED:
        stages = ", ".join(f"{place}: {1 - keep:.0%}" for place, keep in row.stages.items()) or "nothing"
        label = f"{row.table} ({row.remark})" if row.remark else row.table
        off = f"{row.by_rule / row.printed - 1:+.1%}{'' if row.follows_rule else ', not reproducible'}"
        cells = [f"{row.printed}", f"{row.by_rule:.1f}", off, f"{row.exact:.1f}"]
        lines.append([label, f"ViT-{row.size.upper()}", stages, *cells])
    return table(header, lines)


# Method, number of tokens in runs of blocks of ViT-H, after which blocks it acts, and the paper's Table 7.
METHODS: tuple[tuple[str, tuple[tuple[int, int], ...], tuple[int, ...], str], ...] = (
    ("vltp", ((4096, 16), (820, 16)), (16, 24), "1782"),
    ("random", ((4096, 16), (2048, 16)), (16,), "2297"),
    ("guidance_similarity", ((4096, 16), (820, 16)), (16, 24), ""),
    ("kcenter", ((4096, 16), (820, 16)), (16, 24), ""),
    ("evtp", ((4096, 16), (820, 16)), (16, 24), ""),
    ("cts", ((3073, 32),), (0,), "2232"),
    ("dtop", ((4096, 10), (2048, 11), (1024, 11)), (10, 21), "1892"),
    ("svit", ((4096, 8), (2867, 8), (2007, 8), (1405, 8)), (8,), "1935"),
)


def _methods() -> str:
    """Every encoder method at ViT-H, exactly, where the tokens that it keeps fall uniformly."""
    header = ["method", "tokens x blocks", "its own work", "total, exact (ours)", "saved", "Table 7 (paper)"]
    whole = sam("h", {}, "exact").total
    lines = []
    for name, runs, places, printed in METHODS:
        cost = sam_method("h", name, [number for number, blocks in runs for _ in range(blocks)], places)
        text = ", ".join(f"{number} x {blocks}" for number, blocks in runs)
        figures = [f"{cost.parts['prune'] * 1e3:.1f}", f"{cost.total * 1e3:.1f}", f"{1 - cost.total / whole:.1%}"]
        lines.append([f"`{name}`", text, *figures, printed])
    return table(header, lines)


TABLES: dict[str, Callable[[], str]] = {
    "paper": lambda: _overview("paper"),
    "exact": lambda: _overview("exact"),
    "exact_released": lambda: _overview("exact", cached=False),
    "parts": _parts,
    "ceilings": _ceilings,
    "caching": _caching,
    "staged": _staged,
    "methods": _methods,
}
_BLOCK = re.compile(r"(<!-- costs: (\w+) -->\n)(.*?)(<!-- /costs -->)", re.DOTALL)


def render(text: str) -> str:
    """Fill every `<!-- costs: NAME -->...<!-- /costs -->` block of a document with the table of that name."""
    return _BLOCK.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[4]}", text)

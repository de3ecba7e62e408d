"""`leanseg flops vltp`: SAM's image encoder with stages, by the paper's rule and by what is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leanseg.errors import InputError, unknown_name

if TYPE_CHECKING:
    from leanseg.costs import SamCost
    from leanseg.costs.sam_published import Published

MODELS = ("instructseg", "vltp")


def is_asked_for(name: str | None, option: str | None, own: dict[str, Any], others: dict[str, Any]) -> bool:
    """Say whether VLTP is the model, by argument or option; refuse the other model's options, as they change nothing.

    `own`: what was given of VLTP's options, `others`: of InstructSeg's.
    """
    if name and option and name != option:
        raise InputError(f"the model is {name}, and --model is {option}; expected one of them: drop the other")
    model = name or option or MODELS[0]
    if model not in MODELS:
        raise InputError(unknown_name("model", model, MODELS))
    is_vltp = model == "vltp"
    foreign = [key for key, value in (others if is_vltp else own).items() if value is not None and value != []]
    if foreign:
        flag = {"cached": "as-released", "sizes": "preset"}.get(foreign[0], foreign[0].replace("_", "-"))
        owner = MODELS[0] if is_vltp else MODELS[1]
        raise InputError(f"--{flag} belongs to the model {owner}, and it is {model}; drop it, or change the model")
    return is_vltp


def run(modes: tuple[str, ...], is_both: bool, size: str | None, stages: list[str] | None, *, as_json: bool) -> None:
    """Print an encoder that keeps everything and one with stages, for each mode."""
    from leanseg import costs
    from leanseg.costs.sam import PAPER_TOTALS
    from leanseg.costs.sam_published import PUBLISHED

    name = size or "h"
    if is_both and name not in PAPER_TOTALS:
        modes = ("exact",)  # the paper has no figure for b, and was not asked for by name
    chosen = None if not stages else dict(_stage(text) for text in stages)
    if chosen is not None and len(chosen) < len(stages or ()):
        raise InputError(f"--stage was given twice for one block: {', '.join(stages or ())}; give each block once")
    pairs = [(costs.sam(name, {}, mode), costs.sam(name, chosen, mode)) for mode in modes]
    strays = [row for row in PUBLISHED if row.size == name and not row.follows_rule] if "paper" in modes else []
    if as_json:
        from leanseg.cli.console import print_json

        rows = [
            cost.to_json() | {"reduction": 1 - cost.total / full.total} for full, kept in pairs for cost in (full, kept)
        ]
        unit = "1e12 multiply-adds; flops = 2 x total"
        print_json(
            {"schema": 1, "command": "flops", "unit": unit, "rows": rows, "no_rule": [row.to_json() for row in strays]}
        )
    else:
        _print(pairs)
        _print_strays(strays)


def _stage(text: str) -> tuple[int, float]:
    block, _, ratio = text.partition(":")
    try:
        return int(block), float(ratio)
    except ValueError as error:
        raise InputError(f"--stage {text!r} cannot be read; expected AFTER_BLOCK:KEEP_RATIO, such as 16:0.2") from error


def _print(pairs: list[tuple[SamCost, SamCost]]) -> None:
    from rich.table import Table

    from leanseg.cli.console import results
    from leanseg.costs import UNIT_TEXT

    out = results(columns=120)
    for full, kept in pairs:
        out.print(
            f"[bold]SAM ViT-{full.size.upper()}, {full.mode}[/bold]: {UNIT_TEXT}, for one picture and instruction"
        )
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
        table.add_column("kept after block")
        for part in (*full.parts, "total", "saved"):
            table.add_column(part.replace("_", "\n"), justify="right")
        for cost in (full, kept):
            stages = ", ".join(f"{place}: {ratio:g}" for place, ratio in cost.stages) or "everything"
            figures = [f"{value:.4f}" for value in (*cost.parts.values(), cost.total)]
            table.add_row(stages, *figures, f"{1 - cost.total / full.total:.1%}")
        out.print(table)
        out.print()


def _print_strays(rows: list[Published]) -> None:
    from rich.table import Table

    from leanseg.cli.console import results

    if not rows:
        return
    out = results(columns=120)
    out.print(f"[bold]SAM ViT-{rows[0].size.upper()}, rows of the paper that follow no rule[/bold], in the same unit")
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("kept after block")
    for name in ("paper's\ntable", "printed", "its rule", "exact\n(ours)"):
        table.add_column(name, justify="right")
    for row in rows:
        stages = ", ".join(f"{place}: {ratio:g}" for place, ratio in row.stages.items())
        figures = [f"{value / 1e3:.4f}" for value in (row.printed, row.by_rule, row.exact)]
        table.add_row(f"{stages} ({row.remark})" if row.remark else stages, row.table, *figures)
    out.print(table)

"""`leanseg flops`: what an answer costs under several budgets, counted and not run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leanseg.cli import flops_vltp
from leanseg.errors import InputError, unknown_name

if TYPE_CHECKING:
    from rich.table import Table

    from leanseg.costs.amdahl import Amdahl
    from leanseg.costs.report import Row

EPILOG = (
    "Examples: leanseg flops --dataset refcoco --dataset revos --mode exact | "
    "leanseg flops --amdahl --mode exact --as-released | "
    "leanseg flops vltp --stage 16:0.2 --stage 24:0.2 | "
    "leanseg flops --amdahl --preset nano --mode exact --profile out/picture/result.json"
)
MODES = ("paper", "exact", "both")
TABLE_COLUMNS = 120
# Broken so that a row of the widest table fits; every other part is a column of its own name.
HEADERS = {"projector": "pro-\njector", "temporal": "tempo-\nral", "pixel_decoder": "pixel\ndec."}

_Mode = Annotated[str, typer.Option(help="paper (the paper's closed forms), exact (what is run) or both.")]
_DataSet = Annotated[
    list[str] | None,
    typer.Option(help="Whose typical input; repeat for several. (default: all; with --amdahl an image and a clip)"),
]
_Tokens = Annotated[list[int] | None, typer.Option(help="Tokens kept per frame; repeat. (default: 729 146 73 36)")]
_Ratio = Annotated[list[float] | None, typer.Option(help="The same as fractions; repeat.")]
_Amdahl = Annotated[bool, typer.Option("--amdahl", help="Show each stage's share and what pruning saves at most.")]
_Profile = Annotated[
    Path | None, typer.Option(help="How fast a machine is, by stage: rates, or a result.json of leanseg segment.")
]
_Preset = Annotated[str | None, typer.Option(help="Sizes (exact): full, nano or tiny. (default: full)")]
_Plot = Annotated[Path | None, typer.Option(help="Draw bars into this .png, .svg or .pdf.")]
_SeqReading = Annotated[str | None, typer.Option(help="paper: clips put VF (default) or V tokens into the sequence.")]
_Teff = Annotated[str | None, typer.Option(help="paper: text tokens of VMTF, T (default), T+fix or S.")]
_VisionFrames = Annotated[
    bool | None, typer.Option("--vision-times-frames/--vision-once", help="paper: encoder per frame (default) or once.")
]
_TemporalImages = Annotated[
    bool | None, typer.Option("--temporal-on-images/--no-temporal-on-images", help="paper: default on.")
]
_PruneReading = Annotated[str | None, typer.Option(help="paper: auto (default), per_frame, once or joint.")]
_PruneFull = Annotated[
    bool | None, typer.Option("--prune-at-full/--no-prune-at-full", help="paper: pruning counts without pruning, too.")
]
_MaskReading = Annotated[str | None, typer.Option(help="paper: mask decoder and VMTF read V (default) or VF tokens.")]
_Released = Annotated[bool, typer.Option("--as-released", help="exact: encode anew for each answer; cache nothing.")]
_Site = Annotated[str | None, typer.Option(help="exact: before_projector (default) or after_projector.")]
_Selection = Annotated[str | None, typer.Option(help="exact: evtp (default), or free of matrix work.")]
_Asked = Annotated[int | None, typer.Option(help="exact: instructions that share a frame. (default: 1)")]
_TextTokens = Annotated[int | None, typer.Option(help="exact: of the instruction. (default: the data set's)")]
_Template = Annotated[int | None, typer.Option(help="exact: around the instruction. (default: 69; clips 80)")]
_Name = Annotated[str | None, typer.Argument(metavar="MODEL", help="instructseg (default) or vltp (SAM with stages).")]
_Model = Annotated[str | None, typer.Option(help="The same as the argument MODEL.")]
_Size = Annotated[str | None, typer.Option(help="vltp: SAM's size, b, l or h. (default: h)")]
_Stage = Annotated[list[str] | None, typer.Option(help="vltp: AFTER_BLOCK:KEEP_RATIO; repeat (default: 16:0.2 24:0.2)")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON (docs/cli.md) instead of tables.")]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for; `readings` by mode, `budgets` as counts or ratios (both empty = the paper's four)."""

    modes: tuple[str, ...]
    datasets: tuple[str, ...]
    visual_tokens: tuple[int, ...]
    keep_ratios: tuple[float, ...]
    readings: dict[str, dict[str, Any]]
    profile: Path | None

    def budgets(self, mode: str) -> list[int]:
        """Return the counts for a mode, in the order given; none stands twice."""
        from leanseg.core.budget import keep_count
        from leanseg.costs.report import default_budgets, n_tokens

        sizes = self.readings[mode].get("sizes")
        counts = [*self.visual_tokens, *(keep_count(n_tokens(mode, sizes), ratio) for ratio in self.keep_ratios)]
        return list(dict.fromkeys(counts or default_budgets(mode, sizes)))


def flops(
    name: _Name = None,
    model: _Model = None,
    mode: _Mode = "both",
    dataset: _DataSet = None,
    visual_tokens: _Tokens = None,
    keep_ratio: _Ratio = None,
    amdahl: _Amdahl = False,
    profile: _Profile = None,
    preset: _Preset = None,
    plot: _Plot = None,
    seq_reading: _SeqReading = None,
    teff: _Teff = None,
    vision_times_frames: _VisionFrames = None,
    temporal_on_images: _TemporalImages = None,
    prune_reading: _PruneReading = None,
    prune_at_full: _PruneFull = None,
    mask_reading: _MaskReading = None,
    as_released: _Released = False,
    site: _Site = None,
    selection: _Selection = None,
    instructions: _Asked = None,
    text_tokens: _TextTokens = None,
    template_tokens: _Template = None,
    size: _Size = None,
    stage: _Stage = None,
    as_json: _Json = False,
) -> None:
    """Count multiply-adds of answers, all tokens and pruned; nothing is run or downloaded."""
    paper = {
        "seq_reading": seq_reading, "teff": teff, "vision_times_frames": vision_times_frames,
        "temporal_on_images": temporal_on_images, "prune_reading": prune_reading, "prune_at_full": prune_at_full,
        "mask_reading": mask_reading,
    }  # fmt: skip
    exact = {
        "cached": False if as_released else None, "site": site, "selection": selection, "instructions": instructions,
        "text_tokens": text_tokens, "template_tokens": template_tokens, "sizes": preset,
    }  # fmt: skip
    inputs = {"dataset": dataset, "visual_tokens": visual_tokens, "keep_ratio": keep_ratio, "amdahl": amdahl or None}
    others = {**inputs, "profile": profile, "plot": plot, **paper, **exact}
    if flops_vltp.is_asked_for(name, model, {"size": size, "stage": stage}, others):
        return flops_vltp.run(_modes(mode), mode == "both", size, stage, as_json=as_json)
    request = Request(
        modes=_modes(mode),
        datasets=_datasets(dataset, amdahl),
        visual_tokens=tuple(visual_tokens or ()),
        keep_ratios=tuple(keep_ratio or ()),
        readings=_readings(mode, paper, exact),
        profile=profile,
    )
    if profile is not None and not amdahl:
        raise InputError(f"--profile {profile} says how fast stages are; expected --amdahl beside it: add it")
    _run(request, amdahl=amdahl, plot=plot, as_json=as_json)


def _modes(mode: str) -> tuple[str, ...]:
    if mode not in MODES:
        raise InputError(unknown_name("mode", mode, MODES))
    return ("paper", "exact") if mode == "both" else (mode,)


def _datasets(given: list[str] | None, amdahl: bool) -> tuple[str, ...]:
    from leanseg.costs import DATASETS

    # The shares of an image and a clip say it all; tables of eight data sets would hide it.
    return tuple(dict.fromkeys(given or (("refcoco", "refyoutube") if amdahl else DATASETS)))


def _readings(mode: str, paper: dict[str, Any], exact: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options given for each mode; one for a mode that is not shown is refused, as it changes nothing."""
    found = {
        "paper": {name: value for name, value in paper.items() if value is not None},
        "exact": {name: value for name, value in exact.items() if value is not None},
    }
    for other in found:
        if other not in _modes(mode) and found[other]:
            name = {"cached": "as_released", "sizes": "preset"}.get(first := next(iter(found[other])), first)
            raise InputError(
                f"--{name.replace('_', '-')} belongs to mode {other}, and --mode is {mode}; "
                f"drop it or ask for --mode {other}"
            )
    if "sizes" in found["exact"]:
        from leanseg.models.presets import PRESETS

        if (preset := found["exact"]["sizes"]) not in PRESETS:
            raise InputError(unknown_name("preset", preset, PRESETS))
        found["exact"]["sizes"] = PRESETS[preset]
    return found


def _run(request: Request, *, amdahl: bool, plot: Path | None, as_json: bool) -> None:
    from leanseg.cli.console import print_json
    from leanseg.costs.report import compare

    if plot is not None:
        from leanseg.costs.plot import check_target, draw

        check_target(plot)
    keys = [(dataset, mode) for dataset in request.datasets for mode in request.modes]
    groups = {(d, m): compare(d, m, request.budgets(m), **request.readings[m]) for d, m in keys}
    views = _views(request) if amdahl else []
    if plot is not None:
        draw([(_title(dataset, mode), rows) for (dataset, mode), rows in groups.items()], plot)
    if as_json:
        print_json(_document(groups, views))
    elif amdahl:
        _print_views(views, request)
    else:
        _print_groups(groups)


def _title(dataset: str, mode: str) -> str:
    from leanseg.costs import DATASETS

    found = DATASETS[dataset]
    return f"{found.label} ({'key frame of a clip' if found.is_video else 'image'}), {mode}"


def _views(request: Request) -> list[Amdahl]:
    from leanseg.costs import UNIFORM, Sizes, read_profile
    from leanseg.costs.report import ceiling

    sizes = Sizes.of(request.readings["exact"].get("sizes"))
    profile = UNIFORM if request.profile is None else read_profile(request.profile, sizes)
    return [
        ceiling(dataset, mode, _pruned(request, mode), profile, **request.readings[mode])
        for dataset in request.datasets
        for mode in request.modes
    ]


def _pruned(request: Request, mode: str) -> list[int]:
    """Return the budgets below all tokens, which save nothing; all tokens alone if nothing else was asked for."""
    from leanseg.costs.report import n_tokens

    everything, budgets = n_tokens(mode, request.readings[mode].get("sizes")), request.budgets(mode)
    return [kept for kept in budgets if kept != everything] or budgets


def _document(groups: dict[tuple[str, str], list[Row]], views: list[Amdahl]) -> dict[str, object]:
    return {
        "schema": 1,
        "command": "flops",
        "unit": "1e12 multiply-adds; flops = 2 x total",
        "rows": [row.to_json() for rows in groups.values() for row in rows],
        "amdahl": [view.to_json() for view in views],
    }


def _print_groups(groups: dict[tuple[str, str], list[Row]]) -> None:
    from leanseg.cli.console import results
    from leanseg.costs import UNIT_TEXT

    out = results(columns=TABLE_COLUMNS)
    for (dataset, mode), rows in groups.items():
        out.print(f"[bold]{dataset}, {mode}[/bold]: {UNIT_TEXT}, for one answer")
        out.print(_cost_table(rows))
        out.print()
    out.print("S is the language model's sequence; saved, speed up and LM alone are against all tokens.")


def _cost_table(rows: list[Row]) -> Table:
    table = _empty_table()
    parts = (HEADERS.get(part, part) for part in rows[0].cost.parts)
    for name in ("kept", "text", "S", *parts, "total", "saved", "speed\nup", "LM\nalone"):
        table.add_column(name, justify="right")
    for row in rows:
        cost = row.cost
        counts = [str(number) for number in (cost.visual_tokens, cost.text_tokens, cost.sequence_length)]
        figures = [f"{value:.4f}" for value in (*cost.parts.values(), cost.total)]
        table.add_row(*counts, *figures, f"{row.reduction:.1%}", f"x{row.speedup:.2f}", f"x{row.lm_speedup:.2f}")
    return table


def _print_views(views: list[Amdahl], request: Request) -> None:
    from leanseg.cli.console import results

    out = results(columns=TABLE_COLUMNS)
    for view in views:
        is_anew = view.mode == "exact" and request.readings["exact"].get("cached") is False
        label = f"{view.dataset}, {view.mode}{' as released' if is_anew else ''}"
        amount = f"{view.total_s:.4g} seconds are expected"
        if request.profile is None:
            amount = f"{view.total_s:.4f}e12 multiply-adds (times 2 = {2 * view.total_s:.4f} TFLOPs)"
        out.print(f"[bold]{label}[/bold]: {amount} for one answer with all tokens")
        out.print(_share_table(view))
        out.print(
            f"{view.pruned_share:.1%} is spent in stages that pruning shortens: x{view.limit:.2f} if they were free, "
            f"x{view.floor:.2f} with one token left.\n"
        )


def _share_table(view: Amdahl) -> Table:
    table = _empty_table()
    table.add_column("stage")
    for name in ("share", "pruned", *(f"saved at {kept}" for kept in view.budgets)):
        table.add_column(name, justify="right")
    for stage in view.stages:
        # Selection costs a little more than nothing, which is no negative zero.
        saved = (f"{round(share, 3) + 0.0:.1%}" for share in stage.saved)
        table.add_row(stage.stage, f"{stage.share:.1%}", "yes" if stage.pruned else "no", *saved)
    table.add_row("speed-up", "", "", *(f"x{speedup:.2f}" for speedup in view.speedups), style="bold")
    return table


def _empty_table() -> Table:
    from rich.table import Table

    return Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")

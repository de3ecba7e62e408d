"""`leanseg segment`: a picture or a clip and one or more sentences in, masks and overlays out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from leanseg.cli.console import messages, print_json, results
from leanseg.cli.folder import RESULT, check_replaceable, whole_folder
from leanseg.cli.notes import notes
from leanseg.cli.truth import check_has_stages, label_tokens, read_truths
from leanseg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from leanseg.engine.segmenter import ModelSegmenter
    from leanseg.engine.video import ClipInfo
    from leanseg.pruners import Pruner

DEFAULT_PRUNER = "evtp"
DEFAULT_KEEP_RATIO = 0.2
# Whichever of the two is better on the shipped model; models are called with `compact` from Python, as the release.
DEFAULT_POSITION_IDS = "compact"
DEFAULT_SITE = "before_projector"
SHIPPED = "instructseg-nano"
# What InstructSeg has and VLTP has not, as it is when it is left alone, and why VLTP refuses anything else.
OTHERS: dict[str, tuple[Any, str]] = {
    "task": (None, "its guide is asked in one way, whatever the instruction"),
    "position_ids": (DEFAULT_POSITION_IDS, "its language model reads all tokens of the picture"),
    "site": (DEFAULT_SITE, "its tokens are chosen at stages between SAM's blocks"),
    "mass_preserving": (False, "tokens that a stage drops are frozen, and nobody stands for them"),
    "template": (None, "the template of its conversations is in the model's configuration"),
}
EPILOG = (
    'Examples: leanseg segment picture.png "the dog left of the red apple" | '
    'leanseg segment clip.mp4 "the tool" "the animal that moves" --pruner "evtp(keep_ratio=0.1)" --out out/clip | '
    'leanseg segment photo.jpg "the mug" --model instructseg --weights weic22/InstructSeg --dtype bfloat16'
)

_Source = Annotated[Path, typer.Argument(help="A picture, an mp4, gif or webm file, or a folder of frames.")]
_Instructions = Annotated[list[str], typer.Argument(help="What to segment, in words; each is answered on its own.")]
_Model = Annotated[str, typer.Option(help="A model in the package, `instructseg`, `vltp`, or a folder.")]
_Weights = Annotated[str | None, typer.Option(help="Folder or Hugging Face hub name of released weights.")]
_Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub repository. (default: newest)")]
_Local = Annotated[bool, typer.Option("--local-files-only", help="Use earlier downloads; never ask the network.")]
_PrunerSpec = Annotated[
    str | None,
    typer.Option(help="Which tokens stay (`leanseg pruners`); `identity` keeps all. (default: evtp; vltp: its own)"),
]
_KeepRatio = Annotated[
    float | None,
    typer.Option(help="Fraction of tokens that stays, if the pruner's spec has none. (default: 0.2; vltp: its own)"),
]
_Task = Annotated[str | None, typer.Option(help="referring or reasoning (for clips: video_...). (default: referring)")]
_PositionIds = Annotated[str, typer.Option(help="Number kept tokens anew (compact) or not (original).")]
_Site = Annotated[str, typer.Option(help="Prune before_projector, after_projector, or (tome only) inside_encoder.")]
_Mass = Annotated[
    bool, typer.Option("--mass-preserving", help="Let a kept token draw the attention of all it stands for.")
]
_Template = Annotated[str | None, typer.Option(help="Prompt: released or paper. (default: the model's own)")]
_Truth = Annotated[
    list[Path] | None,
    typer.Option(help="vltp: a true mask per instruction; the tokens it lies in are outlined on a picture's overlay."),
]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")]
_Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
_Out = Annotated[Path | None, typer.Option(help="The folder to write. (default: out/<name of the source>)")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON (docs/cli.md) instead of lines.")]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, checked as far as it can be before a model is loaded."""

    source: Path
    instructions: tuple[str, ...]
    model: str
    weights: str | None
    load_options: dict[str, Any]
    out: Path
    options: dict[str, Any]
    truths: tuple[NDArray[np.bool_], ...] = ()


def segment(
    source: _Source,
    instructions: _Instructions,
    model: _Model = SHIPPED,
    weights: _Weights = None,
    revision: _Revision = None,
    local_files_only: _Local = False,
    pruner: _PrunerSpec = None,
    keep_ratio: _KeepRatio = None,
    task: _Task = None,
    position_ids: _PositionIds = DEFAULT_POSITION_IDS,
    site: _Site = DEFAULT_SITE,
    mass_preserving: _Mass = False,
    template: _Template = None,
    truth: _Truth = None,
    device: _Device = "auto",
    dtype: _Dtype = "float32",
    out: _Out = None,
    as_json: _Json = False,
) -> None:
    """Segment what each sentence asks for; writes masks, an overlay with the kept tokens, and result.json."""
    _check_instructions(instructions)
    folder = out or Path("out") / source.resolve().stem
    check_replaceable(folder, "segment")
    from leanseg.engine.video import clip_info

    info = clip_info(source)
    truths = read_truths(truth or (), len(instructions), info)
    family = _family(model, weights)
    if truths:
        check_has_stages(model, family == "vltp")
    options = _options(
        family, pruner, keep_ratio, task=task, position_ids=position_ids, site=site,
        mass_preserving=mass_preserving, template=template,
    )  # fmt: skip
    load_options: dict[str, Any] = {"device": device, "dtype": dtype, "local_files_only": local_files_only}
    if revision is not None:
        load_options["revision"] = revision
    request = Request(
        source=source, instructions=tuple(instructions), model=model, weights=weights, load_options=load_options,
        out=folder, options=options, truths=truths,
    )  # fmt: skip
    said = notes(source, instructions, model, weights)
    document = _run(request, info, said)
    for note in said:
        messages().print(f"[yellow]note:[/yellow] {escape(note)}")
    if as_json:
        print_json(document)
    else:
        _report(document, folder)


def _check_instructions(instructions: list[str]) -> None:
    for instruction in instructions:
        if not instruction.strip():
            raise InputError("an instruction is empty; say in words what to segment, such as 'the dog on the left'")


def _family(model: str, weights: str | None) -> str:
    from leanseg.engine.segmenter import family_of

    return family_of(model, weights)


def _pruner(spec: str, keep_ratio: float | None, learned: dict[str, Any] | None = None) -> Pruner:
    from leanseg.pruners import pruner

    made = pruner(spec, keep_ratio=DEFAULT_KEEP_RATIO if keep_ratio is None else keep_ratio, learned=learned)
    if keep_ratio is not None and made.keep_ratio != keep_ratio:
        raise InputError(
            f"--pruner {made.spec()} and --keep-ratio {keep_ratio} contradict each other; give one of them"
        )
    return made


def _options(family: str, spec: str | None, keep_ratio: float | None, **given: Any) -> dict[str, Any]:
    """Return the options for a model of this family, after checking them as it will."""
    from leanseg.engine.segmenter import check_options
    from leanseg.pruners import pruner

    options: dict[str, Any]
    if family == "vltp":
        _refuse_others(given)
        # Made here only to be checked: each stage makes its own, of its ratio and of what the model learnt.
        made = None if spec is None else _pruner(spec, keep_ratio, learned={"scorer": len})
        options = {"pruner": None if spec is None else partial(pruner, spec), "keep_ratio": keep_ratio}
    else:
        made = _pruner(spec or DEFAULT_PRUNER, keep_ratio)
        options = {"pruner": made, **given}
    check_options(family, {**options, "pruner": made})
    return options


def _refuse_others(given: dict[str, Any]) -> None:
    for name, value in given.items():
        default, why = OTHERS[name]
        if value != default:
            raise InputError(
                f"VLTP takes no --{name.replace('_', '-')}: {why}; drop it, or choose an InstructSeg model"
            )


def _run(request: Request, info: ClipInfo, said: list[str]) -> dict[str, Any]:
    from leanseg import __version__
    from leanseg.engine import segmenter
    from leanseg.engine.records import write_json

    with messages().status(f"loading {escape(request.weights or request.model)}"):
        loaded = segmenter.load(request.model, request.weights, **request.load_options)
    if request.truths:
        check_has_stages(request.model, bool(loaded.config.stages))
    with whole_folder(request.out, "segment") as staging:
        answers = list(_answer(loaded, request, info, staging))
        document: dict[str, Any] = {
            "schema": 1,
            "command": "segment",
            "leanseg": __version__,
            "source": str(request.source),
            "kind": info.kind,
            "frames": info.frames,
            "height": info.height,
            "width": info.width,
            "notes": said,
            "timings_s": answers[0].timings_s,
            "results": [answer.to_json() for answer in answers],
        }
        write_json(staging / RESULT, document)
    return document


def _answer(loaded: ModelSegmenter, request: Request, info: ClipInfo, staging: Path) -> Iterator[Any]:
    """Yield one finished `Answer` per instruction, after all frames went by once."""
    from rich.progress import Progress

    from leanseg.cli.answers import Answer, Tee
    from leanseg.engine.video import iter_frames

    tee = Tee(iter_frames(request.source))
    parts = loaded.segment_stream(tee, list(request.instructions), **request.options)
    labels = [label_tokens(mask, loaded.config) for mask in request.truths]
    with ExitStack() as stack:
        answers = [
            stack.enter_context(
                Answer(
                    folder=staging,
                    name=str(number),
                    instruction=text,
                    info=info,
                    layout=loaded.layout,
                    colour=number - 1,
                    labels=tokens,
                )
            )
            for number, (text, tokens) in enumerate(zip_longest(request.instructions, labels), start=1)
        ]
        console = messages()
        hidden = info.is_picture or not console.is_terminal
        progress = stack.enter_context(Progress(console=console, transient=True, disable=hidden))
        bar = progress.add_task("frames", total=info.frames)
        for frame_parts in parts:
            image = tee.next_answered()
            for answer, part in zip(answers, frame_parts, strict=True):
                answer.add(image, part)
            progress.advance(bar)
    yield from answers


def _report(document: dict[str, Any], folder: Path) -> None:
    from leanseg.cli.answers import summary

    out = results()
    for result in document["results"]:
        out.print(f"[bold]{escape(result['instruction'])}[/bold]: {summary(result)}")
        out.print(f"  {folder / result['files']['overlay']}", markup=False)
    out.print(str(folder / RESULT), markup=False)

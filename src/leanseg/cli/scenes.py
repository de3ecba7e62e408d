"""`leanseg scenes`: write generated pictures and clips with their instructions and masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leanseg.data.scenes import ClipScene, Scene

EPILOG = "Example: leanseg scenes --split clips_test --count 20 --format revos --out revos"
PICTURE_FORMATS = ("refcoco", "reasonseg")
CLIP_FORMATS = ("ref-youtube-vos", "ref-davis17", "revos")
FORMATS = ("native", *PICTURE_FORMATS, *CLIP_FORMATS)


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write; a new one, or the result of an earlier run.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the first scene; the others follow it. Default 0.")] = None,
    count: Annotated[int, typer.Option(help="How many pictures and how many clips.")] = 8,
    split: Annotated[
        str | None, typer.Option(help="A pinned split instead of a seed, from its first scene on.")
    ] = None,
    layout: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.")] = "native",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/scenes.md) instead of text.")] = False,
) -> None:
    """Write generated scenes: pictures, clips, instructions and masks, all from one seed."""
    from leanseg.cli.console import print_json, results
    from leanseg.cli.folder import RESULT, whole_folder
    from leanseg.data.scenes.export.files import write_json

    check(seed=seed, count=count, split=split, layout=layout)
    first = 0 if seed is None else seed
    with whole_folder(out, "scenes") as folder:
        counts = write(folder, seed=first, count=count, split=split, layout=layout)
        summary = {
            "schema": 1,
            "command": "scenes",
            "format": layout,
            "split": split,
            "seed": None if split else first,
            "count": count,
            "written": counts,
        }
        write_json(folder / RESULT, summary, indent=2)
    if as_json:
        print_json({**summary, "out": str(out)})
    else:
        parts = ", ".join(f"{number} {name}" for name, number in counts.items())
        results().print(f"{out}: {parts}")


def check(*, seed: int | None, count: int, split: str | None, layout: str) -> None:
    """Refuse options that do not fit together, before anything is generated."""
    from leanseg.data.scenes.splits import find
    from leanseg.errors import InputError, unknown_name

    if layout not in FORMATS:
        raise InputError(unknown_name("format", layout, FORMATS))
    if count < 1:
        raise InputError(f"--count is {count}; expected at least 1; ask for one scene or more")
    if seed is not None and split is not None:
        raise InputError(
            f"--seed {seed} and --split {split} are both given; a split has its own seeds; drop one of them"
        )
    if seed is not None and seed < 0:
        raise InputError(f"--seed is {seed}; expected a number >= 0; choose another seed")
    if split is None:
        return
    part = find(split)
    if count > part.scenes:
        raise InputError(f"--count is {count}; split {split!r} has {part.scenes} scenes; ask for fewer")
    if layout in PICTURE_FORMATS and part.is_clip:
        raise InputError(
            f"--format {layout} holds pictures and split {split!r} holds clips; choose a split of pictures"
        )
    if layout in CLIP_FORMATS and not part.is_clip:
        raise InputError(f"--format {layout} holds clips and split {split!r} holds pictures; choose a split of clips")


def write(folder: Path, *, seed: int, count: int, split: str | None, layout: str) -> dict[str, int]:
    """Generate and write the scenes; return how many of what."""
    from leanseg.data.scenes import export

    if layout == "native":
        return export.write_native(_all(seed, count, split), folder)
    if layout in PICTURE_FORMATS:
        write_pictures = {"refcoco": export.write_refcoco, "reasonseg": export.write_reasonseg}[layout]
        return write_pictures(_pictures(seed, count, split), folder)
    write_clips = {
        "ref-youtube-vos": export.write_ref_youtube_vos,
        "ref-davis17": export.write_ref_davis17,
        "revos": export.write_revos,
    }[layout]
    return write_clips(_clips(seed, count, split), folder)


def _all(seed: int, count: int, split: str | None) -> Iterator[Scene | ClipScene]:
    from leanseg.data.scenes.splits import find

    if split is not None:
        yield from (find(split).scene(k) for k in range(count))
        return
    yield from _pictures(seed, count, None)
    yield from _clips(seed, count, None)


def _pictures(seed: int, count: int, split: str | None) -> Iterator[Scene]:
    from leanseg.data.scenes import Scene, generate_scene
    from leanseg.data.scenes.splits import find

    for k in range(count):
        scene = generate_scene(seed + k) if split is None else find(split).scene(k)
        if isinstance(scene, Scene):
            yield scene


def _clips(seed: int, count: int, split: str | None) -> Iterator[ClipScene]:
    """Yield clips; without a split they are static, slow and fast in turn."""
    from leanseg.data.scenes import KINDS, ClipScene, SceneOptions, generate_clip
    from leanseg.data.scenes.scene import REDUNDANCIES
    from leanseg.data.scenes.splits import find

    for k in range(count):
        if split is None:
            redundancy = REDUNDANCIES[k % len(REDUNDANCIES)]
            scene: Scene | ClipScene = generate_clip(
                seed + k, SceneOptions(kinds=(*KINDS, "motion"), redundancy=redundancy)
            )
        else:
            scene = find(split).scene(k)
        if isinstance(scene, ClipScene):
            yield scene

"""The zip that the Ref-YouTube-VOS server scores: one black and white PNG per video, expression and frame."""

import io
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leanseg.errors import DataError, InputError
from leanseg.metrics._masks import checked_mask
from leanseg.metrics._pictures import read_json, require

VALID_VIDEOS = 202
# The earliest time that a zip can hold: the same masks give the same file, byte for byte.
_TIME = (1980, 1, 1, 0, 0, 0)


def submission_files(root: Path, *, valid_videos: int | None = VALID_VIDEOS) -> dict[tuple[str, str], list[str]]:
    """Return the frames that the server expects of each (video, expression) of the valid split.

    `valid/meta_expressions.json` lists the videos of the test split too; those are taken out. `valid_videos` is how
    many must remain (None: any number), 202 in the public release.
    """
    metas = {split: root / "meta_expressions" / split / "meta_expressions.json" for split in ("valid", "test")}
    require(metas.values(), "expressions")
    valid, test = (read_json(path)["videos"] for path in metas.values())
    videos = {name: video for name, video in valid.items() if name not in test}
    if valid_videos is not None and len(videos) != valid_videos:
        raise DataError(
            f"{len(valid)} videos in {metas['valid']} less those in {metas['test']} are {len(videos)}; expected "
            f"{valid_videos}; get both files again, or say how many with valid_videos (--protocol valid_videos=N)"
        )
    return {
        (name, expression): list(video["frames"])
        for name, video in videos.items()
        for expression in video["expressions"]
    }


def write_submission(
    path: Path,
    masks: Iterable[tuple[str, str, str, npt.ArrayLike]],
    expected: Mapping[tuple[str, str], Iterable[str]],
) -> int:
    """Write `Annotations/<video>/<expression>/<frame>.png` for each (video, expression, frame, mask) and count them.

    8-bit grey, 255 inside. Each frame of `expected` must come exactly once, all of a video at one size. The zip
    appears whole or not at all.

    Raises:
        InputError: a mask is missing (one error names all of them), not expected, there twice, or no mask.
    """
    wanted = {(video, name, frame) for (video, name), frames in expected.items() for frame in frames}
    outside = sorted({part for key in wanted for part in key if part.startswith("/") or ".." in part.split("/")})
    if outside:
        raise InputError(f"{', '.join(outside)}: no names; a zip must not leave its folder")
    sizes: dict[str, tuple[int, ...]] = {}
    left = set(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for video, name, frame, mask in masks:
                key = (video, name, frame)
                if key not in left:
                    why = "came twice" if key in wanted else "is not expected"
                    raise InputError(f"mask {'/'.join(key)} {why}; give one per expected frame, and no other")
                left.remove(key)
                inside = checked_mask(f"mask {'/'.join(key)}", mask, True)
                size = sizes.setdefault(video, inside.shape[-2:])
                if inside.shape != size:
                    raise InputError(
                        f"mask {'/'.join(key)} has shape {inside.shape}; expected {size}, one mask (H, W) at the size "
                        f"of the first of {video}"
                    )
                archive.writestr(zipfile.ZipInfo(f"Annotations/{video}/{name}/{frame}.png", _TIME), _png(inside))
        if left:
            names = ", ".join("/".join(key) for key in sorted(left))
            raise InputError(f"{len(left)} of {len(wanted)} masks are missing: {names}; no submission was written")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return len(wanted)


def _png(mask: npt.NDArray[Any]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(buffer, format="PNG")
    return buffer.getvalue()

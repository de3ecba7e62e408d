"""ReVOS scored from its files: expressions, run lengths of every annotation, and one PNG per predicted frame."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from leanseg.errors import DataError, InputError
from leanseg.metrics._pictures import Labels, read_json, read_labels, require
from leanseg.metrics._workers import mapped
from leanseg.metrics.protocols.revos import KINDS, ReVOS
from leanseg.metrics.result import Result
from leanseg.run_length import decode_mask

Found = list[tuple[str, str, list[list[int]]]]
"""Expression, kind and counts per frame; no counts where its masks cannot be used."""


class Video(NamedTuple):
    """What measuring one video needs; sent to workers."""

    name: str
    expressions: dict[str, tuple[str, list[int]]]
    masks: dict[int, list[Any]]
    foreground: list[Any]
    pictures: dict[str, list[Path]]


def evaluate_revos(
    root: Path, results: Path, metric: ReVOS | None = None, *, split: str = "valid", processes: int = 1
) -> Result:
    """Score `results/<video>/<expression>/<frame>.png` against the official files in `root`.

    Raises:
        DataError: files are missing (one error names all of them) or cannot be read.
        InputError: masks that cannot be compared.
    """
    rules = ReVOS(**({} if metric is None else metric.options))
    videos = list(_videos(root, results, split))
    if rules.missing == "error":
        pictures = (path for video in videos for paths in video.pictures.values() for path in paths)
        require(pictures, "predicted masks")
    for video, found in zip(videos, mapped(partial(measure_video, rules.options), videos, processes), strict=True):
        for expression, kind, counts in found:
            if counts:
                rules.take(video.name, expression, kind, counts)
            else:
                rules.update_missing(video.name, expression, kind)
    return rules.compute()


def measure_video(options: Mapping[str, Any], video: Video) -> Found:
    """Return the counts of every expression of a video, frame after frame; run in workers."""
    rules = ReVOS(**options)
    counts: dict[str, list[list[int]]] = {name: [] for name in video.expressions}
    lost = {name for name, paths in video.pictures.items() if not all(path.is_file() for path in paths)}
    for t in range(len(video.foreground)):
        where = f"frame {t} of {video.name}"
        masks = {number: _decoded(codes[t], f"annotation {number}, {where}") for number, codes in video.masks.items()}
        foreground = _decoded(video.foreground[t], f"the foreground, {where}")
        for name, (_, annotations) in video.expressions.items():
            if name in lost:
                continue
            try:
                frame = _frame(video.pictures[name][t], [masks[number] for number in annotations], foreground)
                counts[name] += rules.counts(*frame).tolist()
            except (DataError, InputError):
                if rules.missing == "error":
                    raise
                lost.add(name)
    return [(name, kind, [] if name in lost else counts[name]) for name, (kind, _) in video.expressions.items()]


def _frame(
    picture: Path, masks: Sequence[Labels | None], foreground: Labels | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return ground truth (summed, as the reference has it), prediction and foreground, each (1, H, W)."""
    pred = read_labels(picture)
    there = [mask for mask in masks if mask is not None]
    gt = np.asarray(np.sum(there, axis=0, dtype=np.uint8)) if there else np.zeros_like(pred)
    anything = np.zeros_like(pred) if foreground is None else foreground
    if not gt.shape == pred.shape == anything.shape:
        raise DataError(
            f"{picture} is {pred.shape[0]} x {pred.shape[1]} pixels and the ground truth {gt.shape[0]} x "
            f"{gt.shape[1]}; write the masks at the video's own size"
        )
    return gt[None], pred[None], anything[None]


def _decoded(code: Any, what: str) -> Labels | None:
    if code is None:
        return None
    try:
        return decode_mask(code).astype(np.uint8)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"the run lengths of {what} cannot be read ({error}); get the file again") from error


def _videos(root: Path, results: Path, split: str) -> Iterator[Video]:
    files = [root / f"meta_expressions_{split}_.json", root / "mask_dict.json", root / "mask_dict_foreground.json"]
    require(files, "files of ReVOS")
    meta, masks, foreground = (read_json(path) for path in files)
    for name, entry in meta["videos"].items():
        expressions = {key: (_kind(said, name), list(said["anno_id"])) for key, said in entry["expressions"].items()}
        numbers = sorted({number for _, annotations in expressions.values() for number in annotations})
        lost = [str(number) for number in numbers if str(number) not in masks]
        if lost or name not in foreground:
            what = f"annotations {', '.join(lost)}" if lost else "the foreground"
            raise DataError(f"{what} of video {name} cannot be found in {root}; get all files of one release again")
        codes = {number: masks[str(number)] for number in numbers}
        behind = foreground[name]["masks_rle"]
        frames = entry["frames"]
        if any(len(each) != len(frames) for each in (behind, *codes.values())):
            raise DataError(f"video {name} has {len(frames)} frames and masks of another number; get {root} again")
        pictures = {key: [results / name / key / f"{frame}.png" for frame in frames] for key in expressions}
        yield Video(name, expressions, codes, behind, pictures)


def _kind(said: Mapping[str, Any], video: str) -> str:
    number = said["type_id"]
    if number not in range(len(KINDS)):
        raise DataError(f"'type_id' of an expression of video {video} is {number!r}; expected 0, 1 or 2")
    return KINDS[number]

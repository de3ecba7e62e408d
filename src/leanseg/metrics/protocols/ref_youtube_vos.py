"""Ref-YouTube-VOS on a split whose ground truth is at hand: J, F and J&F, averaged over expressions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy.typing as npt

from leanseg.errors import DataError
from leanseg.metrics._keyed import Counts, KeyedMetric
from leanseg.metrics._pictures import read_clip, read_json, read_masks, require
from leanseg.metrics._workers import mapped
from leanseg.metrics.boundary import TOLERANCE
from leanseg.metrics.result import Result
from leanseg.metrics.video import clip_counts, summary


@final
@dataclass(kw_only=True, eq=False)
class RefYouTubeVOS(KeyedMetric):
    """J and F per (video, expression) over the listed frames, then the plain mean over expressions; J&F = (J + F) / 2.

    That is the server's rule as far as it is published. The valid split's ground truth is not, so that a number from
    here is of a hold-out of the training split and comparable with no published one. A frame in which the object is
    absent from both masks counts 1. `tolerance` as in `boundary_f`.
    """

    tolerance: float = TOLERANCE

    def update(self, video: str, expression: str, gt: npt.ArrayLike, pred: npt.ArrayLike) -> None:
        """Add an expression: masks (T, H, W) on the listed frames."""
        self._keep(f"{video}/{expression}", clip_counts(gt, pred, None, self.tolerance))

    def compute(self) -> Result:
        """Return means over expressions, and each expression `<video>/<expression>` under `samples`."""
        return summary(self._seen(), {"average": "expressions", "frames": "listed", **self.options})


def evaluate_ref_youtube_vos(
    root: Path,
    results: Path,
    metric: RefYouTubeVOS | None = None,
    *,
    split: str = "train",
    videos: Sequence[str] | None = None,
    processes: int = 1,
) -> Result:
    """Score `results/<video>/<expression>/<frame>.png` against `root/<split>/Annotations`, in the official layout.

    `videos` is the hold-out (None: the whole split). `results` may be the folder that holds `Annotations`, as an
    unpacked submission does.

    Raises:
        DataError: files are missing (one error names all of them) or cannot be read, or no ground truth exists.
        InputError: masks that cannot be compared.
    """
    rules = RefYouTubeVOS(**({} if metric is None else metric.options))
    meta = root / "meta_expressions" / split / "meta_expressions.json"
    require([meta], "expressions")
    listed = read_json(meta)["videos"]
    unknown = [video for video in videos or () if video not in listed]
    if unknown:
        raise DataError(f"{meta} has no video {', '.join(unknown)}; give names that it lists")
    home = results / "Annotations" if (results / "Annotations").is_dir() else results
    given: list[tuple[str, str, list[Path], list[Path]]] = []
    for video in listed if videos is None else videos:
        for name, said in listed[video]["expressions"].items():
            if "obj_id" not in said:
                raise DataError(
                    f"{meta} says of no expression which object it means: the ground truth of {split!r} is not public; "
                    "score a hold-out of the train split, or make a submission with write_submission"
                )
            frames = listed[video]["frames"]
            gt = [root / split / "Annotations" / video / f"{frame}.png" for frame in frames]
            given.append((f"{video}/{name}", said["obj_id"], gt, [home / video / name / f"{f}.png" for f in frames]))
    require((path for *_, gt, pred in given for path in gt + pred), "masks")
    for (id, *_), counts in zip(given, mapped(partial(_measure, rules.tolerance), given, processes), strict=True):
        rules._keep(id, counts)
    return rules.compute()


def _measure(tolerance: float, item: tuple[str, Any, list[Path], list[Path]]) -> Counts:
    _, label, gt, pred = item
    return clip_counts(read_clip(gt) == int(label), read_masks(pred), None, tolerance)

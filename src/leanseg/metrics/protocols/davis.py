"""DAVIS 2017: J, F and J&F over the objects of label maps, semi-supervised and unsupervised."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.core.matching import assign
from leanseg.errors import DataError, InputError, unknown_name
from leanseg.metrics._keyed import Counts, KeyedMetric
from leanseg.metrics._pictures import Labels, read_clip, require
from leanseg.metrics._workers import mapped
from leanseg.metrics.boundary import TOLERANCE, boundary_radius, cross_counts, f_of, j_of, outlines, pair_counts
from leanseg.metrics.result import Result
from leanseg.metrics.video import summary

VOID = 255
TASKS = {
    "semi-supervised": {"matching": "id", "frames": "inner", "void": "background"},
    "unsupervised": {"matching": "hungarian", "frames": "all", "void": "ignore"},
}
CHOICES = {
    "task": tuple(TASKS),
    "matching": ("id", "hungarian"),
    "frames": ("all", "inner"),
    "void": ("ignore", "background"),
    "objects": ("first_frame", "all_frames"),
}


@final
@dataclass(kw_only=True, eq=False)
class Davis(KeyedMetric):
    """J, F and J&F of the DAVIS 2017 evaluation over sequences of label maps. `task` decides what is not given:

    * `matching`: `id` compares label with label (semi-supervised); `hungarian` gives the objects those proposals for
      which the sum of (J + F) / 2 is largest (unsupervised), so that a swap of labels costs nothing;
    * `frames`: `inner` leaves out the first and the last frame (semi-supervised), `all` none (unsupervised);
    * `void`: pixels of label 255 in the ground truth count in no mask with `ignore` (unsupervised), and are
      `background` in the semi-supervised task;
    * `objects`: as many as the largest label of the **first frame**, as in the reference, where an object that enters
      later under a larger label is dropped in silence; `all_frames` counts them all;
    * `max_proposals`: more predicted labels than this are refused (hungarian); `tolerance` as in `boundary_f`.

    Missing proposals are empty masks. With `hungarian` the rows are in the order of the proposals: `dogs_2` is the
    second assigned proposal and not object 2; `samples` says which is which. Differs from the reference: decay is right
    beyond 255 frames, and nothing is ever taken from an old results file.
    """

    task: str = "unsupervised"
    matching: str | None = None
    frames: str | None = None
    void: str | None = None
    objects: str = "first_frame"
    max_proposals: int = 20
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) is None:
                setattr(self, name, TASKS[self.task][name])
            if getattr(self, name) not in known:
                raise InputError(unknown_name(name, str(getattr(self, name)), known))

    def update(self, sequence: str, gt: npt.ArrayLike, pred: npt.ArrayLike) -> None:
        """Add a sequence: label maps (T, H, W), 0 = background, 255 in `gt` = void."""
        for id, counts, facts in self.measured(sequence, gt, pred):
            self._keep(id, counts, facts)

    def compute(self) -> Result:
        """Return means over objects, and under `samples` each object `<sequence>_<k>`."""
        samples = self._seen()
        result = summary(samples, self.options)
        facts = {id: {name: sample.facts[name] for name in ("object", "proposal")} for id, sample in samples}
        return replace(result, samples={id: {**row, **facts[id]} for id, row in result.samples.items()})

    def measured(
        self, sequence: str, gt: npt.ArrayLike, pred: npt.ArrayLike
    ) -> list[tuple[str, Counts, dict[str, Any]]]:
        """Return id, counts per frame and facts of each object of a sequence, without keeping them."""
        truth, guess = _labels("gt", sequence, gt), _labels("pred", sequence, pred)
        if truth.shape != guess.shape:
            raise InputError(
                f"gt of {sequence!r} has shape {truth.shape} and pred {guess.shape}; both must be (T, H, W) of one size"
            )
        void = truth == VOID
        truth = np.where(void, 0, truth)
        n_objects = int((truth[0] if self.objects == "first_frame" else truth).max())
        if n_objects == 0:
            raise InputError(
                f"{sequence!r} has no object in its first frame; give label maps, or count later objects with "
                "objects='all_frames'"
            )
        if self.frames == "inner":
            if len(truth) < 3:
                raise InputError(f"{sequence!r} has {len(truth)} frames; frames='inner' needs at least 3")
            truth, guess, void = truth[1:-1], guess[1:-1], void[1:-1]
        pairs = self._by_id if self.matching == "id" else self._by_overlap
        found = pairs(sequence, truth, guess, void if self.void == "ignore" else None, n_objects)
        return [
            (f"{sequence}_{k}", counts, {"object": n, "proposal": p, "objects": n_objects})
            for k, (n, p, counts) in enumerate(found, start=1)
        ]

    def _by_id(
        self, sequence: str, gt: Labels, pred: Labels, void: npt.NDArray[np.bool_] | None, n_objects: int
    ) -> Iterator[tuple[int, int, Counts]]:
        if (found := int(pred.max())) > n_objects:
            raise InputError(
                f"pred of {sequence!r} has a label {found} and gt {n_objects} objects; labels must be the objects' own "
                "(255 is no label here)"
            )
        for n in range(1, n_objects + 1):
            yield n, n, pair_counts(gt == n, pred == n, void, self.tolerance)

    def _by_overlap(
        self, sequence: str, gt: Labels, pred: Labels, void: npt.NDArray[np.bool_] | None, n_objects: int
    ) -> Iterator[tuple[int, int, Counts]]:
        if (found := int(pred.max())) > self.max_proposals:
            raise InputError(
                f"pred of {sequence!r} has a label {found}; at most {self.max_proposals} proposals are allowed "
                "(max_proposals), and 255 is no label here"
            )
        n_proposals = max(found, n_objects)
        radius = boundary_radius(gt.shape[1], gt.shape[2], self.tolerance)
        counts = np.empty((n_proposals, n_objects, len(gt), 6), np.int64)
        for t in range(len(gt)):
            keep = np.True_ if void is None else ~void[t]
            first, second = (
                outlines((np.arange(1, n + 1, dtype=np.uint8)[:, None, None] == labels[t]) & keep, radius)
                for n, labels in ((n_objects, gt), (n_proposals, pred))
            )
            counts[:, :, t] = cross_counts(first, second)
        # The reference's own order of operations: a tie, broken by the last digit, falls the same way.
        values = (np.mean(j_of(counts), axis=2) + np.mean(f_of(counts), axis=2)) / 2
        for p, n in zip(*assign(values, maximise=True), strict=True):
            yield int(n) + 1, int(p) + 1, counts[p, n]


def evaluate_davis(
    root: Path,
    results: Path,
    metric: Davis | None = None,
    *,
    subset: str | Sequence[str] = "val",
    resolution: str = "480p",
    processes: int = 1,
) -> Result:
    """Score `results/<sequence>/<frame>.png` against a DAVIS 2017 tree, under the rules of `metric`.

    `subset` is the name of a list in `ImageSets/2017`, or the sequences themselves; rows come in its order.

    Raises:
        DataError: files are missing (one error names all of them) or cannot be read.
        InputError: label maps that cannot be compared.
    """
    rules = Davis(**({} if metric is None else metric.options))
    paths = sequence_paths(root, results, rules.task, subset, resolution)
    for found in mapped(partial(measure_sequence, rules.options), paths.items(), processes):
        for id, counts, facts in found:
            rules._keep(id, counts, facts)
    result = rules.compute()
    place = {name: n for n, name in enumerate(paths)}
    ordered = sorted(result.samples.items(), key=lambda item: place.get(item[0].rpartition("_")[0], len(place)))
    return replace(result, samples=dict(ordered))


Paths = tuple[list[Path], list[Path]]


def measure_sequence(options: dict[str, Any], item: tuple[str, Paths]) -> list[tuple[str, Counts, dict[str, Any]]]:
    """Return `Davis(**options).measured` of a sequence whose label maps lie in files; run in workers."""
    name, (gt, pred) = item
    return Davis(**options).measured(name, read_clip(gt), read_clip(pred))


def sequence_paths(
    root: Path, results: Path, task: str, subset: str | Sequence[str], resolution: str
) -> dict[str, Paths]:
    """Return the label maps of each sequence, ground truth and results, once all of them are there."""
    listed = root / "ImageSets" / "2017" / f"{subset}.txt"
    if isinstance(subset, str):
        require([listed], "list of sequences")
        names = listed.read_text(encoding="utf-8").split()
    else:
        names = list(subset)
    if not names or len(set(names)) != len(names):
        raise DataError(
            f"{listed if isinstance(subset, str) else subset} names no sequence, or one twice; mend the list"
        )
    home = root / ("Annotations" if task == "semi-supervised" else "Annotations_unsupervised") / resolution
    require((home / name for name in names), "folders of annotations")
    paths: dict[str, Paths] = {}
    for name in names:
        # A frame without annotation would shift the pairing; where the pictures are there, they say which are frames.
        pictures = sorted((root / "JPEGImages" / resolution / name).glob("*.jpg"))
        gt = [home / name / f"{each.stem}.png" for each in pictures] or sorted((home / name).glob("*.png"))
        paths[name] = gt, [results / name / path.name for path in gt]
    empty = [str(home / name) for name, (gt, _) in paths.items() if not gt]
    if empty:
        raise DataError(f"no annotation in {', '.join(empty)}; get the data set again")
    require((path for pair in paths.values() for side in pair for path in side), "label maps")
    return paths


def write_davis_csv(result: Result, folder: Path, *, subset: str = "val", digits: int = 3) -> None:
    """Write the reference's two tables, `global_results-<subset>.csv` and `per-sequence_results-<subset>.csv`."""
    header = ("J&F", "J", "J-Recall", "J-Decay", "F", "F-Recall", "F-Decay")
    names = [name if "-" in name else f"{name}-Mean" for name in header]
    over = ",".join(f"{result.scores[name]:.{digits}f}" for name in header)
    rows = [f"{id},{row['J']:.{digits}f},{row['F']:.{digits}f}" for id, row in result.samples.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"global_results-{subset}.csv").write_text("\n".join([",".join(names), over, ""]))
    (folder / f"per-sequence_results-{subset}.csv").write_text("\n".join(["Sequence,J-Mean,F-Mean", *rows, ""]))


def _labels(name: str, sequence: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    labels = np.asarray(value)
    if labels.ndim != 3 or 0 in labels.shape or labels.dtype.kind not in "biu":
        raise InputError(
            f"{name} of {sequence!r} is {labels.dtype} {labels.shape}; expected label maps (T, H, W) of whole numbers "
            "with at least one frame"
        )
    if labels.dtype.kind != "b" and (int(labels.min()) < 0 or int(labels.max()) > VOID):
        raise InputError(f"{name} of {sequence!r} holds labels below 0 or above 255; expected 0 (background) to 255")
    return labels.astype(np.uint8, copy=False)

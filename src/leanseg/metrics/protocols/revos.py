"""ReVOS: J, F, accuracy A and robustness R over referring and reasoning expressions, and overall."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._keyed import Counts, KeyedMetric, Sample, mean
from leanseg.metrics.boundary import TOLERANCE, f_of, j_of, pair_counts
from leanseg.metrics.result import Result

KINDS = ("referring", "reasoning", "no_object")
"""What type_id 0, 1 and 2 mean."""
MEASURES = ("J&F", "J", "F", "A", "R")
COMPATIBLE: dict[bool, dict[str, Any]] = {
    False: {"values": "binary", "round_percent": None, "missing": "error"},
    True: {"values": "raw", "round_percent": 2, "missing": "zero"},
}
CHOICES = {"values": ("binary", "raw"), "missing": ("error", "zero")}


@final
@dataclass(kw_only=True, eq=False)
class ReVOS(KeyedMetric):
    """J, F, A and R per (video, expression), averaged per kind; overall = the **unweighted** mean of the two kinds.

    A = mean over frames of the share of pixels on which both masks agree; R = mean over frames of
    max(0, 1 - |pred outside gt| / (|foreground| + 1e-6)), foreground being whatever any expression of the video means.
    Expressions without an object (`no_object`) are measured, and enter neither kind nor the overall. A kind without
    expressions has NaN, and so has the overall.

    `reference_compat=True` reproduces the public evaluation and decides what is not given:

    * `values`: `raw` counts A and R on the numbers as saved, in 8 bits: with masks saved as 0 and 255, as the public
      code saves them, A counts the whole object as wrong and R each false pixel 255 times; where objects overlap, gt is
      2 and 1 - gt wraps to 255. `binary` (default) takes any number but 0 as inside;
    * `round_percent`: 2 rounds each expression to two decimals of a percent before the mean; None does not;
    * `missing`: `zero` scores an expression 0 on any missing frame or wrong size; `error` names all of them.

    J and F are the same either way. `tolerance` as in `boundary_f`.
    """

    reference_compat: bool = False
    values: str | None = None
    round_percent: int | None = None
    missing: str | None = None
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        for name, value in COMPATIBLE[self.reference_compat].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(unknown_name(name, str(getattr(self, name)), known))

    def update(
        self,
        video: str,
        expression: str,
        kind: str,
        gt: npt.ArrayLike,
        pred: npt.ArrayLike,
        foreground: npt.ArrayLike,
    ) -> None:
        """Add an expression: masks (T, H, W) as saved, any number but 0 being inside; `kind` is one of `KINDS`."""
        self.take(video, expression, kind, self.counts(gt, pred, foreground))

    def update_missing(self, video: str, expression: str, kind: str) -> None:
        """Add an expression that has no usable masks; only with `missing='zero'`."""
        if self.missing != "zero":
            raise InputError(
                f"expression {video}/{expression} has no masks; write them, or score 0 as the reference does with "
                "missing='zero'"
            )
        self.take(video, expression, kind, [])

    def compute(self) -> Result:
        """Return the overall means under the names of `MEASURES`, each kind's under `<kind>/<measure>`."""
        rows: dict[str, dict[str, Any]] = {id: self._row(sample) for id, sample in self._seen()}
        by_kind = {kind: [row for row in rows.values() if row["kind"] == kind] for kind in KINDS}
        groups = {kind: _means(found) for kind, found in by_kind.items()}
        first, second = groups["referring"], groups["reasoning"]
        scores = {name: (first[name] + second[name]) / 2.0 for name in MEASURES}
        for kind, group in groups.items():
            scores |= {f"{kind}/{name}": value for name, value in group.items()}
        protocol = {"overall": "unweighted mean of referring and reasoning", **self.options}
        return Result(protocol=protocol, scores=scores, samples=rows)

    def counts(self, gt: npt.ArrayLike, pred: npt.ArrayLike, foreground: npt.ArrayLike) -> Counts:
        """Return per frame the counts of `pair_counts`, then agreeing pixels, pixels, false ones and foreground."""
        truth, guess, anything = (
            _as_saved(name, value) for name, value in (("gt", gt), ("pred", pred), ("foreground", foreground))
        )
        if not truth.shape == guess.shape == anything.shape:
            raise InputError(
                f"gt has shape {truth.shape}, pred {guess.shape} and foreground {anything.shape}; all must be "
                "(T, H, W) of one size"
            )
        overlap = pair_counts(truth, guess, tolerance=self.tolerance)
        if self.values == "binary":
            truth, guess = (truth > 0).astype(np.uint8), (guess > 0).astype(np.uint8)
        # 8 bits, as in the reference: they overflow on purpose where the values are raw.
        false = (np.uint8(1) - truth) * guess
        sums = [(truth == guess), np.ones_like(truth), false, anything > 0]
        return np.concatenate([overlap, np.stack([_total(each) for each in sums], axis=1)], axis=1)

    def take(self, video: str, expression: str, kind: str, counts: Counts | Sequence[Sequence[int]]) -> None:
        """Add an expression by its `counts`."""
        if kind not in KINDS:
            raise InputError(unknown_name("kind", kind, KINDS))
        self._keep(f"{video}/{expression}", counts, {"kind": kind})

    def _row(self, sample: Sample) -> dict[str, Any]:
        if not sample.counts:
            return {"kind": sample.facts["kind"], **dict.fromkeys(MEASURES, 0.0)}
        counts = np.array(sample.counts, dtype=np.int64)
        agreeing, pixels, false, foreground = counts[:, 6:].T
        row = {
            "J": float(np.mean(j_of(counts))),
            "F": float(np.mean(f_of(counts))),
            "A": float(np.mean(agreeing / pixels)),
            "R": float(np.mean(np.maximum(0.0, 1.0 - false / (foreground + 1e-6)))),
        }
        row["J&F"] = (row["J"] + row["F"]) / 2.0
        if self.round_percent is not None:
            row = {name: round(100.0 * value, self.round_percent) / 100.0 for name, value in row.items()}
        return {"kind": sample.facts["kind"], **{name: row[name] for name in MEASURES}}


def write_revos_csv(result: Result, path: Path, *, texts: dict[str, str] | None = None) -> None:
    """Write one line per expression, in percent, with the reference's columns; `texts` has the words per sample."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_name", "exp_id", "exp", "videxp", "J", "F", "JF", "A", "R", "type_id"])
        for id, row in result.samples.items():
            video, _, expression = id.rpartition("/")
            values = [round(100.0 * row[name], 2) for name in ("J", "F", "J&F", "A", "R")]
            words = (texts or {}).get(id, "")
            writer.writerow([video, expression, words, f"{video}_{expression}", *values, KINDS.index(row["kind"])])


def _as_saved(name: str, value: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    masks = np.asarray(value)
    if masks.ndim != 3 or 0 in masks.shape or masks.dtype.kind not in "biu":
        raise InputError(
            f"{name} is {masks.dtype} {masks.shape}; expected masks (T, H, W) of whole numbers with at least one frame"
        )
    if masks.dtype.kind != "b" and (int(masks.min()) < 0 or int(masks.max()) > 255):
        raise InputError(f"{name} holds numbers below 0 or above 255; expected masks as saved in 8 bits")
    return masks.astype(np.uint8, copy=False)


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    means = {name: mean(row[name] for row in rows) for name in MEASURES}
    return means | {"J&F": (means["J"] + means["F"]) / 2.0}


def _total(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.asarray(values.sum(axis=(1, 2), dtype=np.int64))

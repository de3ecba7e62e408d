"""Ref-DAVIS17: J, F and J&F as the mean over four sets of descriptions, each scored as unsupervised DAVIS."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError, unknown_name
from leanseg.metrics._keyed import KeyedMetric, mean, natural
from leanseg.metrics._workers import mapped
from leanseg.metrics.boundary import TOLERANCE
from leanseg.metrics.protocols.davis import Davis, measure_sequence, sequence_paths
from leanseg.metrics.result import Result
from leanseg.metrics.video import summary

ANNOTATORS = ("anno_0", "anno_1", "anno_2", "anno_3")
"""First annotator from the first frame and from the whole video, then the second annotator likewise."""
MERGES = ("referformer", "instructseg", "overwrite")


@final
@dataclass(kw_only=True, eq=False)
class RefDavis(KeyedMetric):
    """Ref-DAVIS17: each of the four text sets is one run over all objects, scored by `Davis`; then their mean.

    * `passes`: `four_annotators`, or `single_pass`: one run whose instruction joins the texts, as InstructSeg's public
      evaluation does. The two are not comparable; the result says which it is.
    * `matching`: `hungarian` as in the public evaluation, where two objects whose descriptions are mixed up cost
      nothing, or `id`: strict, each description must find its own object.
    * `frames`, `void`, `objects`, `max_proposals`, `tolerance` as in `Davis`.
    """

    passes: str = "four_annotators"
    matching: str = "hungarian"
    frames: str = "all"
    void: str = "ignore"
    objects: str = "first_frame"
    max_proposals: int = 20
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if self.passes not in ("four_annotators", "single_pass"):
            raise InputError(unknown_name("passes", self.passes, ("four_annotators", "single_pass")))
        _ = self.rules

    @property
    def rules(self) -> Davis:
        """The rules by which each run is scored."""
        return Davis(task="unsupervised", **{name: value for name, value in self.options.items() if name != "passes"})

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of the runs."""
        return ANNOTATORS if self.passes == "four_annotators" else ("single",)

    def update(self, run: str, sequence: str, gt: npt.ArrayLike, pred: npt.ArrayLike) -> None:
        """Add a sequence of one run (`anno_0` to `anno_3`, or `single`): label maps (T, H, W)."""
        if run not in self.runs:
            raise InputError(unknown_name("run", run, self.runs))
        self._take(run, self.rules.measured(sequence, gt, pred))

    def compute(self) -> Result:
        """Return the mean over runs; `samples` holds each run, and each object of each as `<run>/<sequence>_<k>`."""
        samples = self._seen()
        ids = {run: {id.partition("/")[2] for id, _ in samples if id.startswith(f"{run}/")} for run in self.runs}
        every = set().union(*ids.values())
        missing = [f"{run}/{id}" for run in self.runs for id in sorted(every - ids[run], key=natural)]
        if missing:
            raise InputError(f"these were not measured: {', '.join(missing)}; every run must score the same objects")
        parts = {
            run: summary([(id, sample) for id, sample in samples if id.startswith(f"{run}/")], {}) for run in self.runs
        }
        rows: dict[str, Any] = {run: part.scores for run, part in parts.items()}
        for part in parts.values():
            rows |= part.samples
        scores = {name: mean(part.scores[name] for part in parts.values()) for name in parts[self.runs[0]].scores}
        return Result(protocol=self.options, scores=scores, samples=rows)

    def _take(self, run: str, found: Any) -> None:
        for id, counts, facts in found:
            self._keep(f"{run}/{id}", counts, facts)


def evaluate_ref_davis(
    root: Path,
    results: Path,
    metric: RefDavis | None = None,
    *,
    subset: str | Sequence[str] = "val",
    resolution: str = "480p",
    processes: int = 1,
) -> Result:
    """Score `results/anno_<k>/<sequence>/<frame>.png`, k = 0 to 3, against `root/Annotations_unsupervised`.

    With `RefDavis(passes="single_pass")` the sequences lie in `results` itself. Raises as `evaluate_davis`.
    """
    rules = RefDavis(**({} if metric is None else metric.options))
    given: list[tuple[str, Any]] = []
    for run in rules.runs:
        folder = results / run if rules.passes == "four_annotators" else results
        given += [(run, item) for item in sequence_paths(root, folder, "unsupervised", subset, resolution).items()]
    measure = partial(measure_sequence, rules.rules.options)
    for (run, _), found in zip(given, mapped(measure, [item for _, item in given], processes), strict=True):
        rules._take(run, found)
    return rules.compute()


def merge_objects(probabilities: npt.ArrayLike, rule: str = "referformer") -> npt.NDArray[np.uint8]:
    """Merge one probability map per object (N, ..., H, W) into a label map (..., H, W); ties go to the lowest label.

    * `referformer`: values below 0.5 become 0, the background is 0.1 everywhere, the largest wins;
    * `instructseg`: the background is prod(1 - p), the largest wins: an object may win with less than 0.5;
    * `overwrite`: where p > 0.5, later objects over earlier ones (InstructSeg with `use_soft` False).

    >>> merge_objects([[[0.4, 0.9]], [[0.6, 0.8]]]).tolist()
    [[2, 1]]
    """
    maps = np.asarray(probabilities)
    if maps.ndim < 3 or maps.dtype.kind not in "fbiu" or not 0 < len(maps) < 255:
        raise InputError(f"probabilities is {maps.dtype} {maps.shape}; expected (N, ..., H, W), N = 1 to 254 objects")
    if not bool(((maps >= 0) & (maps <= 1)).all()):
        raise InputError("probabilities holds values outside 0..1; apply the sigmoid first")
    if rule == "referformer":
        stack = np.concatenate([np.full_like(maps[:1], 0.1, dtype=np.float64), np.where(maps < 0.5, 0.0, maps)])
    elif rule == "instructseg":
        stack = np.concatenate([np.prod(1.0 - maps, axis=0, keepdims=True), maps])
    elif rule == "overwrite":
        # The last object that claims a pixel: counted from the end, since argmax finds the first.
        claims = np.concatenate([np.ones_like(maps[:1], dtype=bool), maps > 0.5])
        return (len(maps) - np.argmax(claims[::-1], axis=0)).astype(np.uint8)
    else:
        raise InputError(unknown_name("rule", rule, MERGES))
    return np.argmax(stack, axis=0).astype(np.uint8)


def text_sets(expressions: Sequence[str], n_sets: int = 4) -> list[list[str]]:
    """Return the expression names of a video, "0" to "4 N - 1", per text set: set k has one of each of N objects.

    In the converted files expression 4 n + k is description k of object n, and the objects are sorted **as text**
    ("1", "10", "2"): the label that belongs to it must come from the file's `obj_id`, not from n.

    >>> text_sets(["0", "1", "2", "3", "4", "5", "6", "7"])[1]
    ['1', '5']
    """
    names = sorted(expressions, key=natural)
    if not names or names != [str(n) for n in range(len(names))] or len(names) % n_sets:
        raise InputError(f"expressions are named {names}; expected 0 to {n_sets} N - 1, {n_sets} for each of N objects")
    return [names[k::n_sets] for k in range(n_sets)]

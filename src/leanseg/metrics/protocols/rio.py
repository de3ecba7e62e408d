"""RIO: gIoU and cIoU with the union of an intention's objects, and the best single object as an option."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from leanseg.errors import InputError
from leanseg.metrics._keyed import Counts, KeyedMetric, mean
from leanseg.metrics._masks import checked_mask, checked_masks, overlap_counts
from leanseg.metrics.region import CIoU, GIoU
from leanseg.metrics.result import Result


@final
@dataclass(kw_only=True, eq=False)
class RIO(KeyedMetric):
    """gIoU and cIoU over pictures, the target being the union of all objects that serve the intention.

    Which of the two VLTP prints for RIO is not known: always report both. `best_instance=True` adds `best_instance`,
    RIO's own measure (MDETR's and TOIST's "Segm-Top1"): per picture the largest IoU with any **single** object, then
    the mean. It is another measure than gIoU (0.69 beside 0.56 on the same masks of the reference's fixture).
    """

    best_instance: bool = False

    def update(self, id: str, gt: npt.ArrayLike, pred: npt.ArrayLike) -> None:
        """Add a picture: `gt` its objects (n, H, W), or their union (H, W); `pred` one mask (H, W)."""
        self._keep(id, instance_counts(gt, pred, self.best_instance))

    def compute(self) -> Result:
        """Return gIoU, cIoU and perhaps `best_instance`, and the IoU of each picture under `samples`."""
        samples = {id: sample.counts for id, sample in self._seen()}
        return Result(
            protocol={"target": "union", **self.options},
            scores=overlap_scores(samples.values(), self.best_instance),
            samples={id: picture_scores(counts, self.best_instance) for id, counts in samples.items()},
        )


def instance_counts(gt: npt.ArrayLike, pred: npt.ArrayLike, best_instance: bool) -> Counts:
    """Return intersection and union of `pred` with the union of the objects, and then with each where that is asked."""
    instances = checked_mask("gt", gt, True)
    if best_instance and instances.ndim != 3:
        raise InputError(
            f"gt has shape {instances.shape}; best_instance=True needs the objects one by one: (n, H, W), n = 0 where "
            "there is none"
        )
    if instances.ndim not in (2, 3):
        raise InputError(f"gt has shape {instances.shape}; expected objects (n, H, W) or their union (H, W)")
    union = instances if instances.ndim == 2 else instances.any(axis=0)
    truth, guess, _ = checked_masks(union, pred, None, "ignore", binary=True)
    counts = [overlap_counts(truth, guess, None)]
    if best_instance:
        counts += [overlap_counts(one, guess, None) for one in instances]
    return np.array(counts, dtype=np.int64)


def overlap_scores(pictures: Any, best_instance: bool) -> dict[str, float]:
    """Return gIoU and cIoU of pictures whose first counts are those with the union."""
    rows = list(pictures)
    state = {"intersections": [row[0][0] for row in rows], "unions": [row[0][1] for row in rows]}
    scores = {"giou": GIoU.from_state(state).compute(), "ciou": CIoU.from_state(state).compute()}
    return scores | ({"best_instance": mean(map(_best, rows))} if best_instance else {})


def picture_scores(counts: Any, best_instance: bool) -> dict[str, float]:
    """Return the IoU of one picture with the union, as gIoU has it, and perhaps the best with one object."""
    state = {"intersections": [counts[0][0]], "unions": [counts[0][1]]}
    return {"iou": GIoU.from_state(state).values()[0]} | ({"best_instance": _best(counts)} if best_instance else {})


def _best(counts: Any) -> float:
    """Return the largest I / U over the objects; against the empty union where there is none."""
    pairs = counts[1:] or counts
    return max(inter / union if union else 1.0 for inter, union in pairs)

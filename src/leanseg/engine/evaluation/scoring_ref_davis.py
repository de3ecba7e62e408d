"""The scoring of Ref-DAVIS17: all objects of a sequence are asked for at once and merged into label maps."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leanseg.data.refcoco import join_sentences
from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.scoring import Line, Scoring, missed
from leanseg.engine.evaluation.units import Unit, item_of
from leanseg.errors import DataError, unknown_name
from leanseg.metrics.boundary import f_of, j_of
from leanseg.metrics.protocols import RefDavis, Result, merge_objects
from leanseg.metrics.protocols.davis import VOID
from leanseg.metrics.protocols.ref_davis import ANNOTATORS, MERGES


@dataclass(frozen=True, kw_only=True)
class RefDavisScoring(Scoring):
    """Ref-DAVIS17: all objects of a sequence in one run, merged into label maps, scored as unsupervised DAVIS.

    `merge`: how the objects' masks become one map (`leanseg.metrics.protocols.merge_objects`); `matching` as there.
    `passes`: `four_annotators` is one run per text set, and their mean; a data set opened with `annotator=k` has one
    run only, and its score is that run's. `single_pass` is one run whose instruction joins an object's texts, as
    InstructSeg's public evaluation has it.
    """

    name = "refdavis"
    measure = "J&F"
    soft = True
    passes: str = "four_annotators"
    merge: str = "referformer"
    matching: str = "hungarian"

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise DataError(unknown_name("merge", self.merge, MERGES))
        _ = self._metric(self.passes)

    def _metric(self, passes: str) -> RefDavis:
        return RefDavis(passes=passes, matching=self.matching)

    def groups(self, dataset: Dataset) -> Sequence[Sequence[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for index in range(len(dataset)):
            meta = item_of(dataset, index).meta
            run = meta["annotator"] if self.passes == "four_annotators" else 0
            found.setdefault((meta["video"], run), []).append(index)
        return list(found.values())

    def check(self, dataset: Dataset, indices: Sequence[int]) -> None:
        groups = self.groups(dataset)
        metas = [item_of(dataset, groups[index][0]).meta for index in indices]
        every = {item_of(dataset, group[0]).meta["annotator"] for group in groups}
        runs: dict[str, set[int]] = {}
        for meta in metas:
            runs.setdefault(meta["video"], set()).add(meta["annotator"])
        cut = sorted(video for video, found in runs.items() if found != every)
        if cut and self.passes == "four_annotators":
            raise DataError(
                f"{len(indices)} runs leave some of sequence {cut[0]} out, and every text set must score the same "
                f"sequences; give --limit a multiple of {len(every)}, or --data-option annotator=0 for one text set"
            )

    def unit(self, dataset: Dataset, index: int, members: Sequence[int]) -> Unit:
        items = [item_of(dataset, member) for member in members]
        if self.passes == "four_annotators":
            return Unit(index, tuple(items), dataset, ANNOTATORS[items[0].meta["annotator"]])
        spoken: dict[int, list[Any]] = {}
        for item in items:
            spoken.setdefault(item.meta["object_id"], []).append(item)
        joined = [replace(of[0], instruction=join_sentences(item.instruction for item in of)) for of in spoken.values()]
        return Unit(index, tuple(joined), dataset, "single")

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> tuple[bytes, bytes]:
        labels = merge_objects(np.stack([answer.soft[0] for answer in answers]), self.merge)
        numbers = np.array([0, *(item.meta["object_id"] for item in unit.items)], dtype=np.uint8)
        truth = np.zeros(labels.shape, dtype=np.uint8)
        for item, (target, ignore) in zip(unit.items, unit.truths(time), strict=True):
            truth[target] = item.meta["object_id"]
            if ignore is not None:
                truth[ignore] = VOID
        # Label maps of every row lie in memory until the clip's end: small ones, then.
        return zlib.compress(truth.tobytes(), 1), zlib.compress(numbers[labels].tobytes(), 1)

    def counts(self, unit: Unit, frames: list[Any]) -> dict[str, Any]:
        shape = (len(frames), *unit.truths(0)[0][0].shape)
        truth, guess = (
            np.frombuffer(b"".join(zlib.decompress(frame[which]) for frame in frames), dtype=np.uint8).reshape(shape)
            for which in (0, 1)
        )
        measured = self._metric(self.passes).rules.measured(unit.meta["video"], truth, guess)
        return {id: {"counts": counts.tolist(), **facts} for id, counts, facts in measured}

    def nothing(self, unit: Unit | None) -> dict[str, Any]:
        if unit is None:
            raise DataError("a sequence of Ref-DAVIS17 cannot be read, so that its objects are unknown; mend the files")
        rows = [[*pair, 1, 1, 0, 0] for pair in missed(unit)]
        # As many as are measured where the run does not fail: labels up to the largest.
        n_objects = max(item.meta["object_id"] for item in unit.items)
        return {
            f"{unit.meta['video']}_{k}": {"counts": rows, "object": k, "proposal": 0, "objects": n_objects}
            for k in range(1, n_objects + 1)
        }

    def values(self, counts: dict[str, Any]) -> dict[str, float]:
        tables = [np.array(entry["counts"], dtype=np.int64) for entry in counts.values()]
        j, f = (float(np.mean([np.mean(of(table)) for table in tables])) for of in (j_of, f_of))
        return {"J&F": (j + f) / 2, "J": j, "F": f}

    def result(self, lines: Sequence[Line], row: str) -> Result:
        runs = {line["kind"] for line in lines}
        four = runs == set(ANNOTATORS)
        if not four and len(runs) > 1:
            raise DataError(f"runs {', '.join(sorted(runs))} were measured; expected all four, or one of them")
        samples = {
            f"{line['kind'] if four else 'single'}/{id}": entry
            for line in lines
            for id, entry in line["counts"][row].items()
        }
        metric = self._metric("four_annotators" if four else "single_pass")
        found = RefDavis.from_state({"options": metric.options, "samples": samples}).compute()
        protocol = {**found.protocol, **self.described, "runs": sorted(runs)}
        return Result(protocol=protocol, scores=found.scores, samples=found.samples)

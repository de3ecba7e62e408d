"""Which scoring belongs to which data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.scoring import Region, Scoring, Video, with_options
from leanseg.engine.evaluation.scoring_benchmarks import COCOTasksScoring, ReVOSScoring, RIOScoring
from leanseg.engine.evaluation.scoring_ref_davis import RefDavisScoring
from leanseg.engine.evaluation.submission import SERVED
from leanseg.errors import DataError, unknown_name

SCORINGS: dict[str, type[Scoring]] = {
    each.name: each for each in (Region, Video, RIOScoring, COCOTasksScoring, ReVOSScoring, RefDavisScoring)
}
_FAMILIES = {"refyoutube": "video", "refdavis": "refdavis", "revos": "revos", "rio": "rio", "coco_tasks": "coco_tasks"}


def scoring_for(name: str, dataset: Dataset, options: Mapping[str, Any] | None = None) -> Scoring:
    """Return the scoring of the data set `name` (`family:split`), with `options` of its protocol.

    Raises:
        DataError: there is nothing to score against, or an option that the scoring does not have.
    """
    family, _, split = name.partition(":")
    if family == "mmconv" or not getattr(dataset, "annotated", True):
        served = ", or make a submission: --submission FILE.zip" if name == SERVED else ""
        raise DataError(
            f"{name} has no published masks, so that nothing can be scored on it; choose a split that has{served}"
        )
    made_of_clips = bool(getattr(getattr(dataset, "split", None), "is_clip", False)) or (
        family == "instructseg" and split.startswith(("refyoutube", "refdavis"))
    )
    return make_scoring(_FAMILIES.get(family, "video" if made_of_clips else "region"), options or {})


def make_scoring(name: str, options: Mapping[str, Any]) -> Scoring:
    """Return a scoring by name with its options; `described` of a scoring has both."""
    if name not in SCORINGS:
        raise DataError(unknown_name("scoring", name, SCORINGS))
    return with_options(SCORINGS[name], options)


def scoring_of(record: Mapping[str, Any]) -> Scoring:
    """Return the scoring by which a record was made."""
    described = dict(record["scoring"])
    return make_scoring(described.pop("name"), described)

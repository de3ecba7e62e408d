"""A submission instead of scores: the answers themselves, as the server of Ref-YouTube-VOS takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanseg.data.sample import Dataset
from leanseg.engine.evaluation.grid import Row
from leanseg.engine.evaluation.scoring import Line, Recording, with_options
from leanseg.engine.evaluation.units import Unit, item_of
from leanseg.errors import DataError
from leanseg.metrics.protocols import submission_files, write_submission
from leanseg.metrics.protocols.submission import VALID_VIDEOS
from leanseg.run_length import decode_mask, encode_mask

if TYPE_CHECKING:
    from leanseg.engine.evaluation.request import Request
    from leanseg.engine.evaluation.worker import Evaluation

SERVED = "refyoutube:valid"
"""The only part whose targets a server keeps, and whose files say what it expects."""


@dataclass(frozen=True, kw_only=True)
class Submission(Recording):
    """Keeps each mask as run lengths, so that an unfinished submission is resumed like any evaluation.

    `valid_videos` is how many videos there must be (None: any number), 202 in the public release.
    """

    name = "submission"
    valid_videos: int | None = VALID_VIDEOS

    def expected(self, dataset: Any) -> dict[tuple[str, str], list[str]]:
        """Return the frames that the server expects of each (video, expression)."""
        return submission_files(dataset.folder.root / dataset.home, valid_videos=self.valid_videos)

    def frame(self, unit: Unit, time: int, answers: Sequence[Any]) -> dict[str, Any]:
        return encode_mask(answers[0].masks[0])

    def nothing(self, unit: Unit | None) -> list[dict[str, Any]]:
        if unit is None:
            raise DataError("an expression of the submission cannot be read; get its files again")
        # Of the first frame, which a submission cannot do without: it says how large the masks are.
        empty = unit.truths(0)[0][0]
        return [encode_mask(empty)] * unit.n_frames


def submission_for(request: Request, dataset: Dataset, rows: Sequence[Row]) -> tuple[Submission, tuple[Row, ...]]:
    """Return what keeps the answers of a submission, and the one row that answers.

    Raises:
        DataError: no server takes this data set, its files are not the release's, or there is more than one row.
    """
    if request.data != SERVED:
        raise DataError(
            f"--submission is for {SERVED}, whose masks a server keeps, and --data is {request.data}; leave it out"
        )
    for flag, given in (("--limit", request.limit), ("--fact", request.facts)):
        if given:
            raise DataError(f"{flag} does not go with --submission, which is every mask and nothing else; leave it out")
    pruned = tuple(row for row in rows if row.pruner is not None)
    if len(pruned) != 1:
        names = ", ".join(row.name for row in pruned)
        raise DataError(
            f"a submission holds the answers of one row, and these were asked for: {names}; give one --pruner and "
            "one --keep-ratio (--pruner identity keeps every token)"
        )
    made = with_options(Submission, request.protocol)
    made.expected(dataset)
    return made, pruned


def write_answers(path: Path, evaluation: Evaluation, lines: Sequence[Line]) -> int:
    """Write the zip from the lines of a whole submission, and return how many masks it holds."""
    kept: Any = evaluation.scoring
    (row,) = evaluation.rows

    def masks() -> Iterator[tuple[str, str, str, Any]]:
        for line in lines:
            meta = item_of(evaluation.dataset, line["index"]).meta
            for frame, code in zip(meta["frames"], line["counts"][row.name], strict=True):
                yield meta["video"], meta["expression"], frame, decode_mask(code)

    return write_submission(path, masks(), kept.expected(evaluation.dataset))

"""The data sets of the paper's cost table: tokens of a typical instruction, and frames."""

from __future__ import annotations

from dataclasses import dataclass

from leanseg.errors import InputError, unknown_name


@dataclass(frozen=True)
class DataSet:
    """One row of the paper's table of input configurations; `frames` is 1 for images, 4 for clips."""

    label: str
    text_tokens: int
    frames: int

    @property
    def is_video(self) -> bool:
        """Whether answers need reference frames."""
        return self.frames > 1


DATASETS: dict[str, DataSet] = {
    "refcoco": DataSet("RefCOCO", 15, 1),
    "refcoco+": DataSet("RefCOCO+", 15, 1),
    "refcocog": DataSet("RefCOCOg", 23, 1),
    "mmconv": DataSet("MM-Conv", 50, 1),
    "reasonseg": DataSet("ReasonSeg", 80, 1),
    "refyoutube": DataSet("RefYouTube", 20, 4),
    "refdavis": DataSet("RefDAVIS", 18, 4),
    "revos": DataSet("ReVOS", 25, 4),
}


def find(name: str) -> DataSet:
    """Return a data set by its name.

    >>> find("refdavis").text_tokens
    18
    """
    if name not in DATASETS:
        raise InputError(unknown_name("data set", name, DATASETS))
    return DATASETS[name]

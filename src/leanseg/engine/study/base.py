"""What a study is: a question, the evaluations it needs, and what becomes of their records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from leanseg.engine.evaluation.request import Request

KIND = "study"
Records = Mapping[str, Mapping[str, Any]]
"""Evaluation records by key."""
Analysis = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """On what studies are run: `limit` bounds the scenes or clips of every evaluation."""

    model: str = "instructseg-nano"
    out: Path = Path("results/studies")
    limit: int | None = None
    processes: int = 1
    device: str = "cpu"

    def request(self, key: str, *, scenes: int | None = None, **asked: Any) -> Request:
        """Return the evaluation `key` on this setup; `asked` are fields of `Request`, `scenes` how many are enough.

        Studies that give the same key share one evaluation, and must ask the same of it.
        """
        limits = [limit for limit in (scenes, self.limit) if limit is not None]
        asked = {"model": self.model, "processes": self.processes, "device": self.device, **asked}
        return Request(out=self.out / "evaluations" / f"{key}.json", limit=min(limits, default=None), **asked)


class Study(ABC):
    """One study. The records that `analyse` sees are those of `requests`, by the same keys.

    An analysis is plain JSON and holds all that tables, plot and sentences show, so that these can be made again from
    the committed record of a study without its evaluations.
    """

    name: ClassVar[str]
    question: ClassVar[str]

    @abstractmethod
    def requests(self, setup: Setup) -> dict[str, Request]:
        """Return the evaluations that the study needs, by key."""

    @abstractmethod
    def analyse(self, records: Records) -> Analysis:
        """Return what the records say, with intervals."""

    @abstractmethod
    def tables(self, analysis: Analysis) -> dict[str, str]:
        """Return Markdown tables by their titles."""

    @abstractmethod
    def plot(self, analysis: Analysis, path: Path) -> None:
        """Draw the analysis into a file."""

    @abstractmethod
    def sentences(self, analysis: Analysis) -> list[str]:
        """Return what the intervals support, also where a simple method wins or nothing can be told apart."""

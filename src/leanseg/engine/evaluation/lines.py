"""The file of a run's lines: a header that says whose they are, then a line per finished unit, as it comes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.resuming import log_resumed
from leanseg.errors import DataError


class Lines:
    """The lines of one evaluation at `path`, and its parts `path.0`, `path.1`, ... that other processes write.

    `about` identifies the evaluation; a file of another one is refused. Half a line, as a killed run may leave it, is
    passed over, so that its unit runs again.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self._header = _json({"evaluation": about})

    def part(self, rank: int) -> Path:
        """Return the file of process number `rank`."""
        return self.path.with_name(f"{self.path.name}.{rank}")

    def parts(self) -> list[Path]:
        """Return the parts that are there, of this run or of one with another number of processes."""
        found = self.path.parent.glob(f"{self.path.name}.*")
        return sorted(path for path in found if path.suffix[1:].isdigit())

    def read(self, path: Path | None = None) -> dict[int, Line]:
        """Return the lines of a file by their index; those of the whole run's file by default."""
        path = path or self.path
        if not path.exists():
            return {}
        header, *texts = path.read_text(encoding="utf-8").splitlines() or [""]
        # A header alone is what a run left that could not begin.
        if header != self._header and texts:
            raise DataError(
                f"{path} holds lines of another evaluation (other pruners, data, options or weights); "
                "give another --out, or remove the file"
            )
        found: dict[int, Line] = {}
        for text in texts:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            found[line["index"]] = line
        return found

    def write(self, lines: Iterable[Line], path: Path | None = None) -> None:
        """Write a file whole: header and lines."""
        path = path or self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.partial")
        temporary.write_text("".join(f"{text}\n" for text in (self._header, *map(_json, lines))), encoding="utf-8")
        os.replace(temporary, path)

    def resume(self) -> dict[int, Line]:
        """Return what is done already, by index. Where a row has only failed so far, nothing is: its cause was mended.

        Lines do not say on what device or with how much memory they were made, and what failed there may do well now.
        """
        done = self.gather()
        failed = [set(line.get("failures", ())) for line in done.values()]
        if failed and set.intersection(*failed):
            done = {}
            self.write(())
        if done:
            log_resumed(self.path, f"{len(done)} samples are done")
        return done

    def gather(self) -> dict[int, Line]:
        """Bring the parts into the whole run's file, and return all lines by index."""
        parts = self.parts()
        done: dict[int, Line] = {}
        for path in (self.path, *parts):
            done |= self.read(path)
        self.write(done.values())
        for path in parts:
            path.unlink()
        return done


def append(path: Path, line: Line) -> None:
    """Add a line to a file that has its header."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_json(line)}\n")


def _json(line: Any) -> str:
    return json.dumps(line, separators=(",", ":"))

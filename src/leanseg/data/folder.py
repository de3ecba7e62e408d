"""A data set's folder: no path that a file names leads out of it, and missing files are told all at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, final

from leanseg.errors import DataError

_NAMED = 20


@final
class MissingFilesError(DataError):
    """Files of a data set that are not there; `missing` holds all of their paths below `root`."""

    def __init__(self, name: str, root: Path, missing: Iterable[str], where: str) -> None:
        self.root, self.missing = root, tuple(missing)
        listed = ", ".join(self.missing[:_NAMED])
        more = f" and {len(self.missing) - _NAMED} more" if len(self.missing) > _NAMED else ""
        count = f"{len(self.missing)} file{'s' if len(self.missing) > 1 else ''}"
        super().__init__(
            f"{name} lacks {count} below {root}: {listed}{more}; get the data set from {where} and lay it out as "
            "docs/data.md shows, or give another root"
        )


@final
class Folder:
    """A root and what may be opened below it; with `links`, symbolic links that lead out of it are followed."""

    def __init__(self, root: Path, *, links: bool = False) -> None:
        if not root.is_dir():
            raise DataError(f"no such folder: {root}; give the folder that holds the data set")
        self.root, self.links = root, links
        self._real = root.resolve()
        self._inside: dict[str, bool] = {}
        self._names: dict[str, frozenset[str]] = {}

    def path(self, relative: Any, what: str = "the annotation file") -> Path:
        """Return the path of a file below the root; it may be missing.

        Raises:
            DataError: no relative path, or one that leads out of the root, by itself or through a link.
        """
        if not isinstance(relative, str) or not relative or "\0" in relative or "\\" in relative:
            raise DataError(f"{what} names {relative!r} for a file; expected a relative path; mend the file")
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts:
            raise DataError(
                f"{what} names {relative!r}, which leads out of {self.root}; expected a path below it; mend the file"
            )
        path = self.root / pure
        if not self.links and not self._is_inside(str(pure.parent), path):
            raise DataError(
                f"{relative} is a link that leads out of {self.root}; expected files below it; copy them there, or "
                "allow links if you made this one yourself (links=True, --links)"
            )
        return path

    def _is_inside(self, parent: str, path: Path) -> bool:
        if parent not in self._inside:
            self._inside[parent] = path.parent.resolve().is_relative_to(self._real)
        return self._inside[parent] and (not path.is_symlink() or path.resolve().is_relative_to(self._real))

    def exists(self, relative: str) -> bool:
        """Return whether a file or folder is there; each folder is listed once."""
        pure = PurePosixPath(relative)
        return pure.name in self.names(str(pure.parent))

    def names(self, relative: str) -> frozenset[str]:
        """Return what a folder holds; nothing if it is missing."""
        if relative not in self._names:
            folder = self.path(relative + "/_").parent
            self._names[relative] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        return self._names[relative]

    def forget(self) -> None:
        """Drop the listings, which are large for large folders."""
        self._names.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_names": {}, "_inside": {}}

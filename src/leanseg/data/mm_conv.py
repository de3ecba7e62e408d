"""The conversations that are mixed into training: LLaVA-1.5's 665k items. They have no masks, so they score nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from leanseg.data.base import FileDataset, Item, nothing
from leanseg.data.checks import field, list_of
from leanseg.data.json_files import index_array
from leanseg.errors import DataError

FILE = "llava_v1_5_mix665k.json"


class Conversations(FileDataset):
    """LLaVA's mix; items without a picture are counted (`n_text_only`) and left out, as InstructSeg leaves them out.

    The instruction is the first human turn without its `<image>`; the whole talk is `meta["conversations"]`.
    """

    family = "mmconv"
    splits = ("train",)
    homes = ("", "llava_mm_conv", "llava")
    marker = FILE
    annotated = False

    def _open(self, images: str | None = None) -> None:
        self.images = images
        self.require([f"{self.home}{FILE}"])
        self.n_text_only = 0
        self._numbers: list[int] = []
        self._paths: dict[str, None] = {}
        self._seen = 0
        self._entries = index_array(self.folder.path(f"{self.home}{FILE}"), self._note)
        self._homes = {first: self._picture_home(first) for first in {path.split("/")[0] for path in self._paths}}

    def _note(self, entry: Any) -> None:
        picture = field(entry, "image", str, f"entry {self._seen} of {FILE}", "")
        if picture:
            self._numbers.append(self._seen)
            self._paths[picture.encode("latin-1", "replace").decode("utf-8", "replace")] = None
        else:
            self.n_text_only += 1
        self._seen += 1

    def _picture_home(self, first: str) -> str:
        """Return what stands before a picture's path; COCO's pictures are often kept in a folder of another name."""
        if self.images is not None:
            return f"{self.images}/{first}"
        candidates = [f"{self.home}{first}", first, *(["COCO2014"] if first == "coco" else [])]
        return self.first_home(candidates)

    def _path(self, picture: str) -> str:
        self.folder.path(picture, f"an entry of {FILE}")
        first, _, rest = picture.partition("/")
        return f"{self._homes[first]}/{rest}" if rest else f"{self.home}{first}"

    def _files(self) -> Iterable[str]:
        return (self._path(picture) for picture in self._paths)

    def __len__(self) -> int:
        return len(self._numbers)

    def item(self, index: int) -> Item:
        number = self._numbers[index]
        entry = self._entries[number]
        what = f"entry {number} of {FILE}"
        turns = list_of(entry, "conversations", dict, what)
        for turn in turns:
            if field(turn, "from", str, what) not in ("human", "gpt"):
                raise DataError(f"a turn of {what} is by {turn['from'][:20]!r}; expected human or gpt; mend the file")
            field(turn, "value", str, what)
        asked = [turn["value"] for turn in turns if turn["from"] == "human"]
        if not asked:
            raise DataError(f"{what} has no human turn; expected a question; mend the file")
        identity = field(entry, "id", object, what)
        if not isinstance(identity, str | int):
            raise DataError(f"'id' of {what} is {type(identity).__name__}; expected text or a number; mend the file")
        path = self._path(entry["image"])
        meta = {
            "dataset": self.name, "task": "conversation", "kind": "conversation", "conversations": turns, "file": path,
            "annotated": False,
        }  # fmt: skip
        instruction = asked[0].replace("<image>", "").strip()
        return Item(f"mmconv/{number}/{identity}", instruction, 1, partial(self._frame, path), _empty, meta)

    def _frame(self, path: str, _time: int) -> Any:
        return self.frame(path)

    def statistics(self) -> dict[str, Any]:
        return {"pictures": len(self._paths), "conversations": len(self), "text_only": self.n_text_only}


def _empty(_time: int, size: tuple[int, int]) -> Any:
    return nothing(size)

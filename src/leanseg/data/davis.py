"""Ref-DAVIS17, as downloaded and as ReferFormer's converter lays it out; both give the same samples.

Two annotators described each object twice: having seen the first frame, and the whole video. Expression number
4 x object + k is description k of (first annotator: first frame, full video; second annotator: the same). The benchmark
runs each of the four by itself and averages the four scores.
"""

from __future__ import annotations

import re
from typing import Any

from leanseg.data.base import IGNORE_POLICIES
from leanseg.data.checks import choice, field
from leanseg.data.json_files import read_json
from leanseg.data.videos import Expression, Video, VideoDataset, object_number, read_categories, read_expressions
from leanseg.errors import DataError

TEXTS = (
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)
# The text files misspell three sequences.
SPELLING = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
_LINE = re.compile(r"\s*(\S+)\s+([0-9]{1,3})\s+(\S.*?)\s*")
_MOST_BYTES = 16 * 1024 * 1024


class RefDAVIS(VideoDataset):
    """Ref-DAVIS17. `layout` is `raw` or `converted` (None: what is there); `annotator` 0 to 3 keeps one of four."""

    family = "refdavis"
    splits = ("train", "val")

    def _open(self, layout: str | None = None, annotator: int | None = None, ignore: str = "ignore") -> None:
        self.ignore = choice("ignore", ignore, IGNORE_POLICIES)
        if annotator is not None and annotator not in range(len(TEXTS)):
            raise DataError(f"option annotator is {annotator!r}; expected 0, 1, 2 or 3 (or none, for all); choose one")
        homes = ("", "ref-davis_raw/", "ref-davis_converted/", "ref-davis/", "Ref-DAVIS17/")
        markers = {"raw": "davis_text_annotations", "converted": "meta_expressions"}
        wanted = tuple(markers) if layout is None else (choice("layout", layout, tuple(markers)),)
        there = [(kind, home) for kind in wanted for home in homes if self.folder.exists(f"{home}{markers[kind]}")]
        kind, self.home = there[0] if there else (wanted[0], "")
        self.layout = kind
        self.categories = {}
        every = self._raw() if kind == "raw" else self._converted()
        self.expressions = [
            said for said in every if annotator is None or int(said.name) % len(TEXTS) == annotator
        ]  # fmt: skip

    def _about(self, said: Expression) -> dict[str, Any]:
        return {**super()._about(said), "annotator": int(said.name) % len(TEXTS)}

    def _raw(self) -> list[Expression]:
        listed = f"{self.home}DAVIS/ImageSets/2017/{self.split}.txt"
        semantics = f"{self.home}DAVIS/davis_semantics.json"
        texts = [f"{self.home}davis_text_annotations/{name}" for name, _ in TEXTS]
        self.require([listed, semantics, *texts])
        table = read_json(self.folder.path(semantics))
        spoken: dict[str, dict[str, dict[int, str]]] = {}
        for number, (path, (_, encoding)) in enumerate(zip(texts, TEXTS, strict=True)):
            for sequence, identity, text in self._lines(path, encoding):
                spoken.setdefault(sequence, {}).setdefault(identity, {})[number] = text
        found = []
        for name in self._text(listed, "utf-8").split():
            if name not in spoken:
                raise DataError(f"sequence {name} of {listed} is not described in {texts[0]}; get the texts again")
            pictures, masks = (
                f"{self.home}DAVIS/{kind}/480p/{name}" for kind in ("JPEGImages", "Annotations_unsupervised")
            )
            frames = sorted(file.removesuffix(".jpg") for file in self.folder.names(pictures) if file.endswith(".jpg"))
            if not frames:
                self.require([f"{pictures}/00000.jpg"])
            video = Video(name, tuple(frames), pictures, masks)
            self.categories[name] = {key: str(value) for key, value in field(table, name, dict, semantics).items()}
            # In the order of numbers as text, as the converter sorts them; it matters from ten objects on.
            for place, identity in enumerate(sorted(spoken[name])):
                number = object_number({"obj_id": identity}, f"sequence {name}")
                for k, text in sorted(spoken[name][identity].items()):
                    found.append(Expression(video, str(len(TEXTS) * place + k), text, number))
        return found

    def _text(self, path: str, encoding: str) -> str:
        file = self.folder.path(path)
        if file.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has {file.stat().st_size} bytes; expected at most {_MOST_BYTES}; get it again")
        try:
            return file.read_bytes().decode(encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is no {encoding} text ({error.reason}); the file is damaged; get it again"
            ) from None

    def _lines(self, path: str, encoding: str) -> list[tuple[str, str, str]]:
        found = []
        for number, line in enumerate(self._text(path, encoding).splitlines(), start=1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise DataError(
                    f'line {number} of {path} is {line[:40]!r}; expected: sequence, number, "text"; mend the file'
                )
            video, identity, text = match.groups()
            found.append((SPELLING.get(video, video), identity, text.strip('"').strip()))
        return found

    def _converted(self) -> list[Expression]:
        part = "valid" if self.split == "val" else self.split
        path, meta = f"{self.home}meta_expressions/{part}/meta_expressions.json", f"{self.home}{part}/meta.json"
        self.require([path, meta])
        self.categories = read_categories(read_json(self.folder.path(meta)), meta)
        found = []
        for name, (frames, spoken) in read_expressions(read_json(self.folder.path(path)), path).items():
            home = f"{self.home}{part}"
            video = Video(name, frames, f"{home}/JPEGImages/{name}", f"{home}/Annotations/{name}")
            for key, entry in spoken.items():
                what = f"expression {key} of video {name}"
                if not key.isdecimal() or len(key) > 6:
                    raise DataError(f"{what} of {path} has no number for a name; expected 0, 1, 2 ...; mend the file")
                text = field(entry, "exp", str, what).strip()
                found.append(Expression(video, key, text, object_number(entry, what)))
        return found

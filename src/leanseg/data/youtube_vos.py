"""Ref-YouTube-VOS: expressions by video; every fifth frame is published, and masks for the training part only."""

from __future__ import annotations

from typing import Any

from leanseg.data.checks import field
from leanseg.data.json_files import read_json
from leanseg.data.videos import Expression, Video, VideoDataset, object_number, read_categories, read_expressions


class RefYouTubeVOS(VideoDataset):
    """Ref-YouTube-VOS. `valid` are the 202 videos that are not in the test part, `valid_all` all 507.

    The masks of `valid` and `test` are not published: their targets are empty and mean nothing (`annotated` is False).
    """

    family = "refyoutube"
    splits = ("train", "valid", "valid_all", "test")
    homes = ("", "Ref-YouTube-VOS", "ref-youtube-vos", "refer_youtube_vos")
    marker = "meta_expressions"

    def _open(self) -> None:
        part = "valid" if self.split == "valid_all" else self.split
        needed = {part: f"{self.home}meta_expressions/{part}/meta_expressions.json"}
        if self.split == "valid":
            needed["test"] = f"{self.home}meta_expressions/test/meta_expressions.json"
        self.annotated = part == "train"
        meta = f"{self.home}{part}/meta.json"
        self.require([*needed.values(), *([meta] if self.annotated else [])])
        found = {name: read_expressions(self._json(path), path) for name, path in needed.items()}
        hidden = found["test"] if self.split == "valid" else {}
        self.expressions = []
        for name, (frames, spoken) in found[part].items():
            if name not in hidden:
                self._add(name, frames, spoken, part)
        self.categories = read_categories(self._json(meta), meta) if self.annotated else {}

    def _json(self, path: str) -> Any:
        return read_json(self.folder.path(path))

    def _add(self, name: str, frames: tuple[str, ...], spoken: dict[str, Any], part: str) -> None:
        # The frames of the test part come with those of valid.
        home = self.first_home([f"{self.home}{one}/JPEGImages" for one in dict.fromkeys((part, "valid"))], name)
        masks = f"{self.home}{part}/Annotations/{name}" if self.annotated else None
        video = Video(name, frames, f"{home}/{name}", masks)
        for key, entry in spoken.items():
            what = f"expression {key} of video {name}"
            number = object_number(entry, what) if self.annotated else None
            self.expressions.append(Expression(video, key, field(entry, "exp", str, what).strip(), number))

"""InstructSeg's own JSON: one record per ref for pictures, one per video and expression for clips.

The layout of the picture files was tried on samples; that of the clip files is known from a description only.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanseg.data.base import FileDataset, Item, Labels
from leanseg.data.checks import field, list_of, of_kind
from leanseg.data.json_files import index_array, index_arrays
from leanseg.data.raster import known_rule, segmentation_mask
from leanseg.data.refcoco import PICTURES, join_sentences
from leanseg.errors import DataError

PICTURE_SPLITS = tuple(
    f"{name}_{part}"
    for name, parts in {
        "refcoco": ("train", "val", "testA", "testB"),
        "refcoco+": ("train", "val", "testA", "testB"),
        "refcocog": ("train", "val", "test"),
    }.items()
    for part in parts
)
CLIP_SPLITS = ("refyoutube_train", "refyoutube_valid", "refdavis_train", "refdavis_valid")
_FRAME_HOMES = ("", "train/JPEGImages", "valid/JPEGImages", "JPEGImages", "DAVIS/JPEGImages/480p")
_CLIP_HOMES = ("Ref-YouTube-VOS", "ref-youtube-vos", "ref-davis", "ref-davis_converted", "ref-davis_raw")


class InstructSegFiles(FileDataset):
    """InstructSeg's files; all sentences of a record are one instruction, and OpenCV's rule paints the polygons."""

    family = "instructseg"
    splits = (*PICTURE_SPLITS, *CLIP_SPLITS)
    homes = ("", "instructseg_RES")

    def _open(self, rasteriser: str = "cv2", images: str | None = None) -> None:
        self.rule = known_rule(rasteriser)
        folder = self.split.rsplit("_", 1)[0]
        names = [f"{self.split}.json", f"{folder}/{self.split}.json"]
        paths = [f"{home}{name}" for home in ("", "instructseg_RES/") for name in names[::-1]]
        self.path = next((path for path in paths if self.folder.exists(path)), names[-1])
        self.require([self.path])
        self._units: list[tuple[int, int | None, str]] = []
        self._sizes: list[tuple[int, int]] = []
        self._pictures: list[tuple[str, ...]] = []
        self._by_video: dict[int, list[int]] = {}
        if self.split in PICTURE_SPLITS:
            self._records = index_array(self.folder.path(self.path), self._note_picture)
            homes = [f"{home}{path}" for home in ("", "refer_seg/") for path in PICTURES]
            probe = self._pictures[0][0] if self._pictures else ""
            self.images = images or self.first_home([*homes, "COCO2014/train2014"], probe)
        else:
            self._open_clips(images)

    def _note_picture(self, record: Any) -> None:
        what = f"record {len(self._units)} of {self.path}"
        about = field(record, "image_info", dict, what)
        file = field(about, "file_name", str, what)
        self._sizes.append((field(about, "height", int, what), field(about, "width", int, what)))
        self._pictures.append((file,))
        self._units.append((len(self._units), None, ""))
        if len(list_of(record, "anns", dict, what)) != 1:
            raise DataError(f"{what} has {len(record['anns'])} annotations; expected exactly one; mend the file")

    def _open_clips(self, images: str | None) -> None:
        identities: list[int] = []

        def note_video(record: Any) -> None:
            what = f"video {len(identities)} of {self.path}"
            identities.append(field(record, "id", int, what))
            self._sizes.append((field(record, "height", int, what), field(record, "width", int, what)))
            self._pictures.append(tuple(list_of(record, "file_names", str, what)))
            if not self._pictures[-1]:
                raise DataError(f"{what} has no frames; expected at least one; mend the file")
            number = len(identities) - 1
            self._units += [(number, k, text) for k, text in enumerate(_expressions(record, what))]

        def note_annotation(record: Any) -> None:
            self._by_video.setdefault(field(record, "video_id", int, "an annotation"), []).append(self._count)
            self._count += 1

        self._count = 0
        arrays = index_arrays(self.folder.path(self.path), {"videos": note_video, "annotations": note_annotation})
        self._records, self._ids = arrays["annotations"], identities
        self.annotated = bool(self._count)
        homes = [f"{top}/{home}".strip("/") for top in ("", *_CLIP_HOMES) for home in _FRAME_HOMES]
        probe = self._pictures[0][0] if self._pictures else ""
        self.images = images or self.first_home([home or "." for home in homes], probe)

    def _path(self, file: str) -> str:
        return file if self.images == "." else f"{self.images}/{file}"

    def _files(self) -> Iterable[str]:
        return (self._path(file) for files in self._pictures for file in files)

    def __len__(self) -> int:
        return len(self._units)

    def item(self, index: int) -> Item:
        number, which, text = self._units[index]
        name, files, size = f"instructseg/{self.split}/{index}", self._pictures[number], self._sizes[number]
        task = "referring" if which is None else "video_referring"
        meta: dict[str, Any] = {
            "dataset": self.name,
            "task": task,
            "kind": "ref",
            "files": list(files),
            "rasteriser": self.rule,
        }
        if which is None:
            record = self._records[number]
            said = list_of(record, "instruction", dict, name)
            text = join_sentences(field(sentence, "sent", str, name) for sentence in said)
            annotation = record["anns"][0]
            masks = [field(annotation, "segmentation", object, name)]
        else:
            masks = self._track(number, which, name, len(files))
            meta["annotated"] = self.annotated
        return Item(
            name,
            text,
            len(files),
            partial(self._read, files, size, name),
            partial(self._labels, masks, size, name),
            meta,
        )

    def _track(self, number: int, which: int, name: str, frames: int) -> list[Any]:
        """Return the masks of object `which` of a video, one per frame; None where it cannot be seen."""
        places = self._by_video.get(self._ids[number], [])
        if not places:
            return [None] * frames
        if which >= len(places):
            raise DataError(f"{name} is expression {which} of a video with {len(places)} annotations; mend the file")
        masks: list[Any] = field(self._records[places[which]], "segmentations", list, name)
        if len(masks) != frames:
            raise DataError(f"{name} has masks of {len(masks)} frames; expected {frames}, one per frame; mend the file")
        return masks

    def _read(self, files: tuple[str, ...], size: tuple[int, int], name: str, time: int) -> NDArray[np.uint8]:
        return self.picture(self._path(files[time]), size, name)

    def _labels(self, masks: list[Any], size: tuple[int, int], name: str, time: int, _size: Any) -> Labels:
        if masks[time] is None:
            return np.zeros(size, dtype=np.uint8)
        return segmentation_mask(masks[time], *size, name, rule=self.rule).astype(np.uint8)

    def statistics(self) -> dict[str, Any]:
        unit = "videos" if self.split in CLIP_SPLITS else "pictures"
        return {unit: len(set(self._pictures)), "expressions": len(self)}


def _expressions(record: Any, what: str) -> list[str]:
    """Return one instruction per object; Ref-DAVIS17's file holds a list over objects, each a text or several."""
    said = field(record, "expressions", list, what)
    objects = said[0] if said and isinstance(said[0], list) else said
    texts = []
    for one in objects:
        if isinstance(one, list):
            texts.append(join_sentences(of_kind(text, str, f"an expression of {what}") for text in one))
        else:
            texts.append(f"{of_kind(one, str, f'an expression of {what}').strip()}.")
    return [text.encode("latin-1", "replace").decode("utf-8", "replace") for text in texts]

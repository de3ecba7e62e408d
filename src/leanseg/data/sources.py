"""Where each data set is published and under which licence; leanseg downloads none of them."""

from __future__ import annotations

from dataclasses import dataclass

_ASK = "read the terms where it is published; we have not checked them"


@dataclass(frozen=True)
class Source:
    """A data set's title, the place where it is published, and its licence as far as we know it."""

    title: str
    where: str
    licence: str


_REFER = "https://github.com/lichengunc/refer (annotations) and https://cocodataset.org (train2014 pictures)"
_COCO = "pictures: Flickr's terms through COCO"

SOURCES: dict[str, Source] = {
    "refcoco": Source("RefCOCO", _REFER, f"annotations: {_ASK}; {_COCO}"),
    "refcoco+": Source("RefCOCO+", _REFER, f"annotations: {_ASK}; {_COCO}"),
    "refcocog": Source("RefCOCOg", _REFER, f"annotations: {_ASK}; {_COCO}"),
    "reasonseg": Source("ReasonSeg", "https://github.com/dvlab-research/LISA", _ASK),
    "refyoutube": Source("Ref-YouTube-VOS", "https://youtube-vos.org/dataset/rvos", _ASK),
    "refdavis": Source(
        "Ref-DAVIS17",
        "https://davischallenge.org (frames and masks, 2017, unsupervised, 480p) and the page of Khoreva et al., "
        "Video Object Segmentation with Language Referring Expressions (texts)",
        _ASK,
    ),
    "revos": Source("ReVOS", "https://github.com/cilinyan/ReVOS-api", "CC BY-NC-SA 4.0"),
    "rio": Source("RIO", "https://github.com/qumengxue/RIO and https://cocodataset.org (2014)", f"{_ASK}; {_COCO}"),
    "coco_tasks": Source(
        "COCO-Tasks",
        "https://github.com/coco-tasks/dataset (Git LFS) and https://cocodataset.org (2014)",
        f"CC BY-NC-SA 4.0; {_COCO}",
    ),
    "mmconv": Source("LLaVA-1.5 mix 665k (MM-Conv)", "https://github.com/haotian-liu/LLaVA, docs/Data", _ASK),
    "instructseg": Source("InstructSeg's own files", "https://github.com/congvvc/InstructSeg", _ASK),
}

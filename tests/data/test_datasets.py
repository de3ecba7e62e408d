"""Every sample set in its published layout loads, with the counts, sentences and masks that its drawings have."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.golden_cases import GOLDEN

from leanseg import data
from leanseg.data.reasonseg import paint
from leanseg.errors import DataError

ROOT = GOLDEN / "datasets"
RASTER = GOLDEN / "metrics" / "raster_cases.json"
pytestmark = pytest.mark.golden


def counts(family: str) -> list[object]:
    if not (ROOT / "expected_counts.json").is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {ROOT}"), id="datasets/absent")]
    expected = json.loads((ROOT / "expected_counts.json").read_text(encoding="utf-8"))
    return [pytest.param((key, value), id=f"datasets/{family}-{key}") for key, value in expected[family].items()]


def need(folder: str) -> Path:
    if not (ROOT / folder).is_dir():
        pytest.skip(f"no folder {folder} below {ROOT}")
    return ROOT


def whole(dataset, *, annotated: bool = True) -> list[data.Sample]:
    """Every sample, decoded and looked at."""
    samples = [dataset[index] for index in range(len(dataset))]
    assert len({sample.id for sample in samples}) == len(samples) == len(dataset)
    for sample in samples:
        assert sample.instruction == sample.instruction.strip() != ""
        assert sample.meta["dataset"] == dataset.name
        assert annotated or not sample.target.any()
    assert dataset.annotated == annotated
    assert len(pickle.dumps(dataset)) < 100_000
    with pytest.raises(IndexError, match=f"has {len(dataset)} samples"):
        dataset[len(dataset)]
    return samples


@pytest.mark.parametrize("case", counts("refer"))
def test_refcoco(case):
    family, splits = case
    for split, expected in splits.items():
        by_sentence = data.open(f"{family}:{split}", need("refer_seg"))
        by_ref = data.open(f"{family}:{split}", ROOT / "refer_seg", unit="ref", rasteriser="cv2")
        assert (len(by_ref), len(by_sentence)) == (expected["refs"], expected["sentences"])
        sentences, refs = whole(by_sentence), whole(by_ref)
        stated = json.loads((ROOT / "refer_seg" / family / "expected_refs.json").read_text(encoding="utf-8"))
        mine = [ref for ref in stated if ref["ref_id"] in {sample.meta["ref_id"] for sample in refs}]
        said = [sentence["sent"] for ref in mine for sentence in ref["sentences"]]
        assert [sample.instruction for sample in sentences] == said
        assert refs[0].instruction == " ".join(f"{one['sent']}." for one in mine[0]["sentences"])
        instances = json.loads((ROOT / "refer_seg" / family / "instances.json").read_text(encoding="utf-8"))
        boxes = {entry["id"]: entry["bbox"] for entry in instances["annotations"]}
        for sample, ref in zip(refs, mine, strict=True):
            x, y, width, height = boxes[ref["ann_id"]]
            rows, columns = np.nonzero(sample.target[0])
            assert abs(columns.min() - x) <= 1 and abs(columns.max() + 1 - x - width) <= 2
            assert abs(rows.min() - y) <= 1 and abs(rows.max() + 1 - y - height) <= 2


@pytest.mark.parametrize("case", counts("ReasonSeg"))
def test_reasonseg(case):
    split, expected = case
    dataset = data.open(f"reasonseg:{split}", need("ReasonSeg"))
    assert len(dataset) == expected
    samples = whole(dataset)
    every = data.open(f"reasonseg:{split}", ROOT / "ReasonSeg", texts="all")
    documents = [path.read_bytes() for path in sorted((ROOT / "ReasonSeg" / split).glob("*.json"))]
    assert len(every) == sum(len(json.loads(text.decode("cp1252"))["text"]) for text in documents)
    assert {sample.meta["kind"] for sample in samples} <= {"short", "long"}
    background = whole(data.open(f"reasonseg:{split}", ROOT, ignore="background"))
    for sample, other in zip(samples, background, strict=True):
        assert np.array_equal(sample.target, other.target) and other.ignore is None
        labels = [
            shape["label"].lower() for shape in json.loads(documents[samples.index(sample)].decode("cp1252"))["shapes"]
        ]
        assert (sample.ignore is not None) == any("ignore" in label for label in labels)


def test_reasonseg_files_of_windows_and_explanations():
    need("ReasonSeg")
    texts = [data.open(f"reasonseg:{split}", ROOT, texts="all") for split in ("train", "val")]
    said = [one[index] for one in texts for index in range(len(one))]
    assert not any("\ufffd" in sample.instruction for sample in said)
    assert any(not sample.instruction.isascii() for sample in said)
    assert [sample.meta["explanation"] for sample in said if sample.meta["explanation"]]


@pytest.mark.parametrize(
    "name",
    [key for key in (json.loads(RASTER.read_text())["cases"] if RASTER.is_file() else ()) if "reasonseg/" in key],
)
def test_reasonseg_is_painted_as_the_reference_paints(name):
    case = json.loads(RASTER.read_text(encoding="utf-8"))["cases"][name]
    labels = paint(case["json"]["shapes"], case["height"], case["width"], name)
    with np.load(RASTER.with_suffix(".npz")) as arrays:
        expected = arrays[name]
    if "not normative" in case.get("note", ""):
        assert (labels != expected).sum() <= 64
        return
    assert np.array_equal(labels, expected)
    assert {str(value): int((labels == value).sum()) for value in (0, 1, 255)} == case["counts"]
    background = paint(case["json"]["shapes"], case["height"], case["width"], name, ignore="background")
    assert np.array_equal(background == 1, expected == 1) and not (background == 255).any()


def test_ref_youtube_vos():
    expected = json.loads((need("Ref-YouTube-VOS") / "expected_counts.json").read_text())["RefYouTubeVOS"]
    train, valid = data.open("refyoutube:train", ROOT), data.open("refyoutube:valid", ROOT)
    every = data.open("refyoutube:valid_all", ROOT / "Ref-YouTube-VOS")
    assert len(train) == expected["train_expressions"] and len(valid) == expected["valid_expressions"]
    assert train.statistics()["videos"] == expected["train_videos"]
    assert valid.statistics()["videos"] == expected["valid_minus_test_videos"]
    assert every.statistics()["videos"] == expected["valid_json_videos"]
    samples = whole(train)
    for sample in samples:
        assert sample.clip.shape[0] == len(sample.meta["frames"]) and sample.target.any()
    whole(valid, annotated=False), whole(every, annotated=False)
    whole(data.open("refyoutube:test", ROOT), annotated=False)


def test_objects_that_vanish_have_empty_masks():
    need("Ref-YouTube-VOS")
    train = data.open("refyoutube:train", ROOT)
    meta = json.loads((ROOT / "Ref-YouTube-VOS" / "train" / "meta.json").read_text())["videos"]
    for index in range(len(train)):
        sample = train[index]
        seen = meta[sample.meta["video"]]["objects"][str(sample.meta["object_id"])]["frames"]
        assert [name for name, mask in zip(sample.meta["frames"], sample.target, strict=True) if mask.any()] == seen


def test_ref_davis_raw_and_converted_are_the_same():
    expected = json.loads((need("ref-davis_raw") / "expected_counts.json").read_text())["RefDAVIS17"]
    for split in ("train", "val"):
        raw = data.open(f"refdavis:{split}", ROOT / "ref-davis_raw")
        converted = data.open(f"refdavis:{split}", ROOT, layout="converted")
        assert (raw.layout, converted.layout) == ("raw", "converted")
        assert raw.statistics()["videos"] == expected[f"{split}_videos"]
        assert raw.statistics() == converted.statistics()
        assert len(raw) == raw.statistics()["objects"] * expected["expressions_per_object"]
        for one, other in zip(whole(raw), whole(converted), strict=True):
            assert (one.id, one.instruction, one.meta) == (other.id, other.instruction, other.meta)
            assert np.array_equal(one.target, other.target) and np.array_equal(one.clip, other.clip)
        parts = [data.open(f"refdavis:{split}", ROOT, annotator=k) for k in range(4)]
        assert sum(map(len, parts)) == len(raw)
        assert {sample.meta["annotator"] for sample in whole(parts[3])} == {3}


def test_revos():
    expected = json.loads((need("ReVOS") / "expected_counts.json").read_text())["ReVOS"]
    train, valid = data.open("revos:train", ROOT), data.open("revos:valid", ROOT / "ReVOS")
    assert train.statistics()["videos"] == expected["train_videos"]
    assert valid.statistics()["videos"] == expected["valid_videos"]
    assert len(valid) == expected["valid_expressions"]
    kinds = dict(zip(("referring", "reasoning", "no_object"), expected["valid_by_type"].values(), strict=True))
    assert valid.statistics()["kinds"] == kinds
    samples = whole(valid)
    for sample in samples:
        assert "(s)" not in sample.instruction
        assert sample.target.any() == (sample.meta["kind"] != "no_object")
        foreground = valid.foreground(sample.meta["video"])
        assert not (sample.target & ~foreground).any()
    assert {kind: len(data.open("revos:valid", ROOT, kind=kind)) for kind in kinds} == kinds
    raw = data.open("revos:valid", ROOT, text="raw")
    assert any("(s)" in raw[index].instruction for index in range(len(raw)))
    with pytest.raises(DataError, match="has no video 'x'"):
        valid.foreground("x")


@pytest.mark.parametrize("case", counts("RIO"))
def test_rio(case):
    split, expected = case
    dataset = data.open(f"rio:{split}", need("RIO"))
    assert len(dataset) == expected
    for index, sample in enumerate(whole(dataset)):
        assert np.array_equal(dataset.instances(index).any(axis=0), sample.target[0])
        assert len(dataset.instances(index)) == len(sample.meta["boxes"])


def test_coco_tasks():
    expected = json.loads((need("coco-tasks") / "expected_counts.json").read_text())["COCO_Tasks"]
    for part in ("train", "test"):
        dataset = data.open(f"coco_tasks:task_1_{part}", ROOT)
        assert len(dataset) == expected[f"task_1_{part}_images"]
        listed = (ROOT / "coco-tasks" / "image_lists" / f"imgIds_task_1_{part}.txt").read_text().split()
        assert sorted(str(sample.meta["image_id"]) for sample in whole(dataset)) == sorted(listed)
    sample = dataset[0]
    assert sample.instruction == "you can use the thing to step on"
    assert bool(sample.target.any()) == bool(sample.meta["n_preferred"])
    with pytest.raises(DataError, match=r"coco_tasks:test lacks 12 files below .*task_2_test\.json"):
        data.open("coco_tasks:test", ROOT)


def test_conversations():
    dataset = data.open("mmconv:train", need("llava_mm_conv"))
    stated = json.loads((ROOT / "llava_mm_conv" / "llava_v1_5_mix665k.json").read_text(encoding="utf-8"))
    assert len(dataset) + dataset.n_text_only == len(stated) and dataset.n_text_only
    sample = whole(dataset, annotated=False)[0]
    assert "<image>" not in sample.instruction
    assert sample.meta["conversations"] == next(one for one in stated if "image" in one)["conversations"]


def test_instructseg_files():
    need("instructseg_RES")
    for path in sorted((ROOT / "instructseg_RES").rglob("*.json")):
        own = whole(data.open(f"instructseg:{path.stem}", ROOT))
        family, split = path.stem.split("_")
        same = data.open(f"{family}:{split}", ROOT, unit="ref", rasteriser="cv2")
        by_text = {sample.instruction: sample for sample in whole(same)}
        shared = [sample for sample in own if sample.instruction in by_text]
        assert len(own) == len(json.loads(path.read_text())) and all(sample.target.any() for sample in own)
        for sample in shared:
            assert np.array_equal(sample.target, by_text[sample.instruction].target)

"""What single wrong entries of an annotation file are answered with; `test_strangers` tries what nobody thought of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leanseg import data
from leanseg.data.refcoco import convert
from leanseg.data.safe_pickle import loads
from leanseg.errors import DataError

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"
YOUTUBE = "Ref-YouTube-VOS/meta_expressions/train/meta_expressions.json"
CONVERTED = "ref-davis_converted/meta_expressions/valid/meta_expressions.json"
REVOS = "ReVOS/meta_expressions_valid_.json"
TASK = "coco-tasks/annotations/task_1_test.json"
RES = "instructseg_RES/refcocog/refcocog_val.json"


@pytest.fixture
def copy(tmp_path) -> Path:
    return shutil.copytree(SAMPLES, tmp_path / "datasets")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def first(document: Any) -> Any:
    return next(iter(document["videos"].values()))


def expression(document: Any) -> Any:
    return first(document)["expressions"]["0"]


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("refyoutube:train", YOUTUBE, lambda d: first(d).update(frames=[]), "video 0a1b2c3d4e .* has no frames"),
        ("refyoutube:train", YOUTUBE, lambda d: expression(d).update(obj_id="300"), "'300'; expected a number from 1"),
        ("refyoutube:train", YOUTUBE, lambda d: expression(d).update(obj_id="²"), "expected a number from 1 to 254"),
        ("refyoutube:train", YOUTUBE, lambda d: expression(d).pop("exp"), "expression 0 of video .* has no 'exp'"),
        ("revos:valid", REVOS, lambda d: expression(d).update(type_id=3), "'type_id' of expression 0 .* is 3"),
        ("revos:valid", REVOS, lambda d: expression(d).update(anno_id=[999]), "means annotation 999, which mask_dict"),
        ("revos:valid", REVOS, lambda d: first(d)["frames"].pop(), "masks of 4 frames and video .* has 3"),
        ("rio:train", "RIO/RIO_train_all_thing.json", lambda d: d[0].update(expressions=7), "neither text nor a"),
        ("coco_tasks:task_1_test", TASK, lambda d: d["images"].clear(), "annotates picture 901, which"),
        ("instructseg:refcocog_val", RES, lambda d: d[0].update(anns=[]), "has 0 annotations; expected exactly one"),
        ("reasonseg:val", "ReasonSeg/val/2001_syn_2.json", lambda d: d.update(text=[]), "the first text of 2001_syn_2"),
        (
            "refcoco:val", "refer_seg/refcoco/instances.json", lambda d: d["annotations"].clear(),
            "3 refs of refcoco:val, first 2, mean a picture or an annotation that instances.json lacks",
        ),
    ],
)  # fmt: skip
def test_wrong_entries(copy, name, file, change, message):
    edit(copy / file, change)
    with pytest.raises(DataError, match=message):
        dataset = data.open(name, copy)
        _ = [dataset[index] for index in range(len(dataset))]


def test_converted_davis_needs_numbered_expressions(copy):
    edit(copy / CONVERTED, lambda d: first(d)["expressions"].update(x=expression(d)))
    with pytest.raises(DataError, match=r"expression x of video tiny-swan .* has no number for a name"):
        data.open("refdavis:val", copy, layout="converted")


def test_davis_without_frames_or_with_endless_lists(copy, monkeypatch):
    shutil.rmtree(copy / "ref-davis_raw/DAVIS/JPEGImages/480p/tiny-swan")
    with pytest.raises(DataError, match=r"lacks 1 file .*tiny-swan/00000\.jpg"):
        data.open("refdavis:val", copy, layout="raw")
    monkeypatch.setattr("leanseg.data.davis._MOST_BYTES", 3)
    with pytest.raises(DataError, match="expected at most 3; get it again"):
        data.open("refdavis:val", copy, layout="raw")


def test_revos_without_a_foreground(copy):
    path = copy / "ReVOS" / "mask_dict_foreground.json"
    edit(path, lambda d: d.pop("syn_valid_2"))
    with pytest.raises(DataError, match="has no video 'syn_valid_2'; get it again"):
        data.open("revos:valid", copy).foreground("syn_valid_2")
    path.unlink()
    with pytest.raises(DataError, match=r"lacks 1 file .*mask_dict_foreground"):
        data.open("revos:valid", copy).foreground("syn_valid_2")


def test_clip_files_need_frames(tmp_path):
    video = {"id": 1, "height": 2, "width": 2, "file_names": [], "expressions": ["x"]}
    (tmp_path / "refyoutube_train.json").write_text(json.dumps({"videos": [video], "annotations": []}))
    with pytest.raises(DataError, match=r"video 0 of refyoutube_train.json has no frames"):
        data.open("instructseg:refyoutube_train", tmp_path)


def test_frames_of_different_sizes(copy):
    Image.new("RGB", (20, 10)).save(copy / "Ref-YouTube-VOS/valid/JPEGImages/aaaa000001/00005.jpg")
    with pytest.raises(DataError, match=r"frame 1 of sample .* is 10 x 20 pixels and the first 120 x 160"):
        _ = data.open("refyoutube:valid", copy)[0]


def test_pictures_of_conversations_in_a_folder_of_their_own(tmp_path):
    shutil.copytree(SAMPLES / "llava_mm_conv", tmp_path, dirs_exist_ok=True)
    shutil.copytree(SAMPLES / "COCO2014", tmp_path / "all" / "coco")
    assert data.open("mmconv:train", tmp_path, images="all")[0].clip.shape == (1, 120, 160, 3)


def test_items_read_single_frames():
    item = data.open("refyoutube:train", SAMPLES).item(0)
    assert np.array_equal(item.frame(1), list(item.frames())[1])


def test_scenes_need_no_root():
    assert len(data.open("scenes:test", scenes=2)) == 8


def test_a_failed_conversion_leaves_nothing(copy, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    folder = copy / "refer_seg" / "refcoco"
    before = sorted(folder.iterdir())
    with pytest.raises(OSError, match="disk full"):
        convert(folder / "refs(unc).p", folder / "refs(unc).json")
    assert sorted(folder.iterdir()) == before


def test_marks_and_copies_of_a_pickle():
    assert loads(b"K\x072\x86.") == (7, 7)
    assert loads(b"(K\x011K\x02.") == 2
    assert loads(b"K\x01K\x020.") == 1


@pytest.mark.parametrize(
    ("clip", "target", "message"),
    [((2, 2, 3), (1, 2, 2), "the clip of sample 'a' is uint8"), ((1, 2, 2, 3), (2, 2), "the target of sample 'a'")],
)
def test_samples_check_their_arrays(clip, target, message):
    with pytest.raises(DataError, match=message):
        data.Sample("a", np.zeros(clip, np.uint8), "x", np.zeros(target, bool))

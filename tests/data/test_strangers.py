"""Files of strangers: cut, mutated, escaping or oversized ones end in a DataError that names them, never in a crash."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from leanseg import data
from leanseg.data import json_files
from leanseg.data.checks import field, list_of
from leanseg.data.folder import Folder, MissingFilesError
from leanseg.data.json_files import index_array, index_arrays, index_members, read_json
from leanseg.data.pictures import picture_size, read_frame, read_index_map
from leanseg.errors import DataError

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"
SETS = {
    "refcoco:val": ["refer_seg/refcoco/instances.json", "refer_seg/refcoco/refs(unc).p"],
    "reasonseg:train": ["ReasonSeg/train/1001_syn_0.json", "ReasonSeg/explanatory/train.json"],
    "refyoutube:train": [
        "Ref-YouTube-VOS/meta_expressions/train/meta_expressions.json", "Ref-YouTube-VOS/train/meta.json",
    ],
    "refdavis:val": [
        "ref-davis_raw/DAVIS/davis_semantics.json", "ref-davis_raw/davis_text_annotations/Davis17_annot1.txt",
        "ref-davis_raw/DAVIS/ImageSets/2017/val.txt",
        "ref-davis_raw/DAVIS/Annotations_unsupervised/480p/tiny-swan/00000.png",
    ],
    "revos:valid": ["ReVOS/meta_expressions_valid_.json", "ReVOS/mask_dict.json"],
    "rio:common": ["RIO/RIO_common_all_thing.json"],
    "coco_tasks:task_1_test": ["coco-tasks/annotations/task_1_test.json"],
    "mmconv:train": ["llava_mm_conv/llava_v1_5_mix665k.json"],
    "instructseg:refcocog_val": ["instructseg_RES/refcocog/refcocog_val.json"],
}  # fmt: skip
ODD = [
    None,
    True,
    -1,
    0,
    2**70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "\0",
    [],
    {},
    [[]],
    [1],
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    return shutil.copytree(SAMPLES, tmp_path_factory.mktemp("datasets") / "root")


def look_at_everything(name: str, root: Path) -> None:
    dataset = data.open(name, root)
    for index in range(len(dataset)):
        dataset[index]
    dataset.statistics()


def changed(document: object, chance: random.Random) -> object:
    """The document with one value, chosen by walking down, replaced, removed or doubled."""
    if isinstance(document, dict) and document and chance.random() < 0.9:
        key = chance.choice(list(document))
        if chance.random() < 0.15:
            return {name: value for name, value in document.items() if name != key}
        return {**document, key: changed(document[key], chance)}
    if isinstance(document, list) and document and chance.random() < 0.9:
        at = chance.randrange(len(document))
        if chance.random() < 0.1:
            return document[:at] + document[at + 1 :]
        return [*document[:at], changed(document[at], chance), *document[at + 1 :]]
    return chance.choice(ODD)


@pytest.mark.parametrize("name", SETS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_files_never_do_worse_than_a_data_error(copy, name, seed):
    chance = random.Random(seed)
    path = copy / chance.choice(SETS[name])
    before = path.read_bytes()
    mutated = bytearray(before)
    if path.suffix == ".json" and chance.random() < 0.7:
        mutated = bytearray(json.dumps(changed(json.loads(before.decode("cp1252")), chance)).encode())
    elif chance.random() < 0.5:
        mutated = mutated[: chance.randrange(len(mutated))]
    else:
        for _ in range(chance.randrange(1, 6)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
    path.write_bytes(mutated)
    try:
        with contextlib.suppress(DataError):
            look_at_everything(name, copy)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", SETS)
def test_a_missing_index_file_is_named_with_where_to_get_it(copy, name):
    for file in SETS[name]:
        if "explanatory" in file or "1001_syn" in file:
            continue
        (copy / file).rename(copy / "away")
        try:
            with pytest.raises(
                DataError, match=r"lacks 1 file below .*; get the data set from .*docs/data\.md"
            ) as caught:
                data.open(name, copy, **({"layout": "raw"} if name.startswith("refdavis") else {}))
            assert Path(file).name.split("_all")[0] in str(caught.value)
        finally:
            (copy / "away").rename(copy / file)


def test_all_missing_pictures_are_named_at_once(tmp_path):
    shutil.copytree(SAMPLES / "ReVOS", tmp_path / "ReVOS")
    for path in (tmp_path / "ReVOS" / "JPEGImages" / "syn_valid_2").iterdir():
        path.unlink()
    (tmp_path / "ReVOS" / "JPEGImages" / "MOSE" / "syn_valid_1" / "00002.jpg").unlink()
    with pytest.raises(MissingFilesError) as caught:
        data.open("revos:valid", tmp_path)
    assert len(caught.value.missing) == 5 and all(path in str(caught.value) for path in caught.value.missing)
    lazily = data.open("revos:valid", tmp_path, check=False)
    with pytest.raises(DataError, match=r"no such file: .*00002\.jpg"):
        lazily[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refcok:val", "unknown data set 'refcok'; did you mean 'refcoco'"),
        ("refcoco:test", "unknown split of refcoco 'test'"),
        ("refcoco", "names no split; expected one of train, val, testA, testB"),
        ("refcoco:val", "is read from files; expected the folder"),
    ],
)
def test_names_are_checked(name, message):
    with pytest.raises(DataError, match=message):
        data.open(name, None if name == "refcoco:val" else SAMPLES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("refcoco:val", {"units": "ref"}, "unknown option of refcoco 'units'; did you mean 'unit'"),
        ("refcoco:val", {"links": "false"}, "option links of refcoco is 'false'; expected True or False; give that"),
        ("refcoco:val", {"check": 0}, "option check of refcoco is 0; expected True or False; give that"),
        ("refcoco:val", {"unit": "image"}, "option unit is 'image'; expected one of sentence, ref"),
        ("refcoco+:val", {"split_by": "google"}, "option split_by is 'google'; expected one of unc"),
        ("refcoco:val", {"rasteriser": "pil"}, "unknown rasteriser 'pil'"),
        ("reasonseg:val", {"ignore": "drop"}, "option ignore is 'drop'; expected one of ignore, background"),
        ("refdavis:val", {"annotator": 4}, "option annotator is 4; expected 0, 1, 2 or 3"),
        ("revos:valid", {"kind": "x"}, "option kind is 'x'"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(DataError, match=message):
        data.open(name, SAMPLES, **options)


def test_a_root_that_is_no_folder():
    with pytest.raises(DataError, match=r"no such folder: .*nowhere; give the folder"):
        data.open("refcoco:val", SAMPLES / "nowhere")


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/passwd", "a/../../x", "", None, 7, "a\0b", "a\\b"])
def test_paths_stay_below_the_root(tmp_path, path):
    with pytest.raises(DataError, match=r"leads out of|expected a relative path") as caught:
        Folder(tmp_path).path(path, "instances.json")
    assert "instances.json names" in str(caught.value)


def test_links_that_lead_out_are_refused_unless_allowed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"x")
    root.mkdir()
    os.symlink(outside, root / "folder")
    os.symlink(outside / "a.jpg", root / "a.jpg")
    for path in ("a.jpg", "folder/a.jpg"):
        with pytest.raises(DataError, match=r"is a link that leads out of .*links=True, --links"):
            Folder(root).path(path)
        assert Folder(root, links=True).path(path).read_bytes() == b"x"
    os.symlink(root / "b.jpg", root / "c.jpg")
    assert Folder(root).path("c.jpg") == root / "c.jpg"


def test_an_escaping_file_name_in_instances_is_refused(tmp_path):
    shutil.copytree(SAMPLES / "refer_seg", tmp_path / "refer_seg")
    path = tmp_path / "refer_seg" / "refcoco" / "instances.json"
    path.write_text(path.read_text().replace("COCO_train2014_000000000102.jpg", "../../../../../../etc/x.jpg"))
    with pytest.raises(DataError, match="leads out of"):
        data.open("refcoco:val", tmp_path)
    with pytest.raises(DataError, match="leads out of"):
        data.open("refcoco:val", tmp_path, check=False)[0]


def test_pictures_are_checked_before_they_are_decoded(tmp_path, monkeypatch):
    Image.effect_noise((8, 6), 90).convert("RGB").save(tmp_path / "a.png")
    assert read_frame(tmp_path / "a.png").shape == (6, 8, 3) and picture_size(tmp_path / "a.png") == (6, 8)
    with pytest.raises(DataError, match="expected an indexed or grey PNG"):
        read_index_map(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"cannot read .*cut\.png"):
        read_frame(tmp_path / "cut.png")
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cannot read .*no\.png"):
        read_frame(tmp_path / "no.png")
    monkeypatch.setattr("leanseg.limits.MAX_PIXELS", 40)
    with pytest.raises(DataError, match="too large"):
        read_frame(tmp_path / "a.png")


def test_a_picture_or_mask_of_another_size_is_refused(tmp_path):
    shutil.copytree(SAMPLES / "refer_seg", tmp_path / "refer_seg")
    for path in (tmp_path / "refer_seg/images/mscoco/images/train2014").iterdir():
        Image.new("RGB", (20, 10)).save(path)
    with pytest.raises(DataError, match="has 10 x 20 pixels and refcoco/2/0 says 120 x 160"):
        data.open("refcoco:val", tmp_path)[0]
    shutil.copytree(SAMPLES / "Ref-YouTube-VOS", tmp_path / "Ref-YouTube-VOS")
    for path in (tmp_path / "Ref-YouTube-VOS/train/Annotations").rglob("*.png"):
        Image.new("L", (20, 10)).save(path)
    with pytest.raises(DataError, match="has 10 x 20 pixels and its picture 120 x 160"):
        data.open("refyoutube:train", tmp_path)[0]


def test_a_clip_that_would_not_fit_into_memory_is_read_frame_by_frame(monkeypatch):
    dataset = data.open("revos:valid", SAMPLES)
    monkeypatch.setattr("leanseg.data.base.MAX_CLIP_BYTES", 100_000)
    with pytest.raises(DataError, match=r"has 4 frames, .* read it frame by frame, with item\(index\)"):
        dataset[0]
    item = dataset.item(0)
    assert [frame.shape for frame in item.frames()] == [(120, 160, 3)] * 4
    assert item.target(2)[0].shape == (120, 160)


def test_objects_that_would_not_fit_into_memory_together_are_refused(tmp_path):
    shutil.copytree(SAMPLES, tmp_path, dirs_exist_ok=True)
    many = 256 * 1024**2 // (120 * 160) + 1
    path = tmp_path / "RIO/RIO_common_all_thing.json"
    entries = json.loads(path.read_text())
    entries[0]["mask_list"] = [[]] * many
    path.write_text(json.dumps(entries))
    with pytest.raises(DataError, match=rf"rio/common/0 has {many} objects of 120 x 160 pixels; expected at most 268"):
        data.open("rio:common", tmp_path).instances(0)
    path = tmp_path / "coco-tasks/annotations/task_1_test.json"
    content = json.loads(path.read_text())
    content["annotations"] = [{"category_id": 1, "image_id": content["images"][0]["id"], "segmentation": []}] * many
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"coco_tasks/1/901 has {many} objects of 120 x 160 pixels; .* mend the file"):
        data.open("coco_tasks:task_1_test", tmp_path).instances(0)


def test_frames_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr("leanseg.data.base._CACHE_BYTES", 120 * 160 * 3 * 2)
    dataset = data.open("revos:valid", SAMPLES)
    for index in range(len(dataset)):
        dataset[index]
        assert len(dataset._frames) <= 2


# The JSON index


def test_values_are_found_again_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "_BLOCK_BYTES", 7)
    values = [{"id": k, "text": f'schön {"x" * (k % 23)} \\ "', "n": [k, -1.5e3, None]} for k in range(60)] + [
        12345,
        "é",
    ]
    (tmp_path / "a.json").write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")
    seen: list[object] = []
    items = index_array(tmp_path / "a.json", lambda value: seen.append(value))
    assert list(items) == values and items[-1] == "é" and items[2:4] == values[2:4] and len(seen) == len(values)
    document = {"é": [1], "b": values, "c": {"d": 1}}
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(document, ensure_ascii=False), encoding="utf-8")
    members = index_members(tmp_path / "b.json")
    assert {key: members[key] for key in members.spans} == document and "é" in members and len(members) == 3
    assert list(index_arrays(tmp_path / "b.json", {"b": lambda _: None})["b"]) == values
    with pytest.raises(DataError, match="has no member annotations"):
        index_arrays(tmp_path / "b.json", {"annotations": lambda _: None})
    for text in ("[]", "{}"):
        (tmp_path / "c.json").write_text(text)
        assert len(index_array(tmp_path / "c.json") if text == "[]" else index_members(tmp_path / "c.json")) == 0


@pytest.mark.parametrize(
    "text", ["", "[", "[1", "[1,", "[1,]", "[1 2]", "[1] 2", "{}", "nonsense", "[" * 200_000, "[1}"]
)
def test_no_array(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json cannot be read as JSON .*; get it again"):
        index_array(tmp_path / "a.json")


@pytest.mark.parametrize("text", ['{"a"}', '{"a": 1', '{"a": 1,}', "{1: 2}", '{"a" 1}', "[]"])
def test_no_object(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json cannot be read as JSON"):
        index_members(tmp_path / "a.json")


def test_sizes_of_json_are_bounded(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[" + "1," * 50 + "1]")
    for name, use in (("MAX_WHOLE_BYTES", read_json), ("MAX_INDEXED_BYTES", index_array)):
        with monkeypatch.context() as patch:
            patch.setattr(json_files, name, 10)
            with pytest.raises(DataError, match="expected JSON of at most 10"):
                use(tmp_path / "a.json")
    monkeypatch.setattr(json_files, "MAX_VALUES", 10)
    with pytest.raises(DataError, match="holds more than 10 values"):
        index_array(tmp_path / "a.json")
    with pytest.raises(DataError, match="nested too deeply"):
        (tmp_path / "b.json").write_text("[" * 100_000)
        read_json(tmp_path / "b.json")
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "c.json")


def test_fields_say_what_they_should_be():
    with pytest.raises(DataError, match="video 3 is int; expected a table"):
        field(7, "frames", list, "video 3")
    with pytest.raises(DataError, match="video 3 has no 'frames'; expected a list"):
        field({}, "frames", list, "video 3")
    with pytest.raises(DataError, match="'frames' of video 3 is True; expected a whole number"):
        field({"frames": True}, "frames", int, "video 3")
    with pytest.raises(DataError, match="an entry of 'frames' of video 3 is 1; expected text"):
        list_of({"frames": ["a", 1]}, "frames", str, "video 3")
    assert field({}, "x", int, "y", None) is None and field({"x": 2}, "x", float, "y") == 2


def test_samples_check_their_ignored_pixels():
    clip, target = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2), bool)
    with pytest.raises(DataError, match="the ignored pixels of sample 'a'"):
        data.Sample("a", clip, "x", target, {}, target[0])

"""What the generated scenes write in a public layout, the readers read back: the same sentences, the same masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leanseg import data
from leanseg.data.mm_conv import FILE
from leanseg.data.refcoco import chosen, convert
from leanseg.data.scenes import KINDS, ClipScene, Scene, SceneOptions, export, generate_clip, generate_scene
from leanseg.errors import DataError
from leanseg.run_length import encode_mask


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed, SceneOptions(canvas=96, n_instructions=6)) for seed in range(40, 43)]


@pytest.fixture(scope="module")
def clips() -> list[ClipScene]:
    kinds = (*KINDS, "motion", "no_target")
    return [generate_clip(seed, SceneOptions(canvas=64, frames=3, kinds=kinds)) for seed in range(50, 53)]


def samples(name: str, root: Path, **options: object) -> list[data.Sample]:
    dataset = data.open(name, root, **options)
    return [dataset[index] for index in range(len(dataset))]


def test_refcoco(scenes, tmp_path):
    export.write_refcoco(scenes, tmp_path)
    masks = {
        (number, one.text.rstrip("?")): scene.target(one)
        for number, scene in enumerate(scenes, 1)
        for one in scene.instructions
    }
    for sample in samples("refcoco:val", tmp_path):
        texts = {
            text.lower().replace(",", ""): mask
            for (number, text), mask in masks.items()
            if number == sample.meta["image_id"]
        }
        assert np.array_equal(sample.target[0], texts[sample.instruction])
        assert sample.meta["task"] == "referring" and sample.clip.shape == (1, 96, 96, 3)


def test_reasonseg(scenes, tmp_path):
    export.write_reasonseg(scenes, tmp_path)
    asked = [(one, scene.target(one)) for scene in scenes for one in scene.instructions]
    read = samples("reasonseg:val", tmp_path)
    assert len(read) == len(asked)
    for sample, (instruction, mask) in zip(read, asked, strict=True):
        assert (sample.instruction, sample.meta["is_sentence"]) == (instruction.text, instruction.kind == "affordance")
        if len(instruction.targets) == 1:
            assert np.array_equal(sample.target[0], mask) and sample.ignore is None


def test_ref_youtube_vos(clips, tmp_path):
    export.write_ref_youtube_vos(clips, tmp_path)
    by_name = {f"{clip.seed:010x}": clip for clip in clips}
    read = samples("refyoutube:train", tmp_path)
    assert len(read) == sum(len(one.targets) == 1 for clip in clips for one in clip.instructions)
    for sample in read:
        clip = by_name[sample.meta["video"]]
        (one, *_) = [one for one in clip.instructions if one.text == sample.instruction and len(one.targets) == 1]
        assert np.array_equal(sample.target, clip.target(one))
        assert sample.meta["category"] == clip.objects[one.targets[0]].item


def test_ref_davis(clips, tmp_path):
    counts = export.write_ref_davis17(clips, tmp_path)
    read = samples("refdavis:val", tmp_path)
    assert len(read) == counts["expressions"] > 0 and len(data.open("refdavis:train", tmp_path)) == 0
    texts = {one.text: clip.target(one) for clip in clips for one in clip.instructions}
    assert all(np.array_equal(sample.target, texts[sample.instruction]) for sample in read)


def test_revos(clips, tmp_path):
    counts = export.write_revos(clips, tmp_path)
    read = samples("revos:valid", tmp_path)
    asked = [(one, clip.target(one)) for clip in clips for one in clip.instructions]
    assert len(read) == counts["expressions"] == len(asked)
    for sample, (one, mask) in zip(read, asked, strict=True):
        assert sample.instruction == one.text and np.array_equal(sample.target, mask)
    # InstructSeg's reader expects the videos right below the root.
    for path in (tmp_path / "JPEGImages").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "JPEGImages").rmdir()
    assert len(samples("revos:valid", tmp_path)) == len(read)


@pytest.fixture
def tracks(tmp_path) -> Path:
    """InstructSeg's clip files: a video of two objects, their masks as run lengths, the second unseen in one frame."""
    masks = np.zeros((2, 2, 8, 10), bool)
    masks[0, :, 1:4, 2:5] = masks[1, 0, 5:, 6:] = True
    frames = ["clip/00000.jpg", "clip/00001.jpg"]
    for name in frames:
        path = tmp_path / "Ref-YouTube-VOS" / "train" / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 8)).save(path)
    video = {"id": 7, "video": "clip", "file_names": frames, "height": 8, "width": 10, "length": 2}
    annotations = [
        {"video_id": 7, "id": k, "category_id": 1, "iscrowd": 0, "bboxes": [],
         "segmentations": [encode_mask(mask) if mask.any() else None for mask in masks[k]]} for k in range(2)
    ]  # fmt: skip
    for name, said in {
        "refyoutube_train": ["a dog", "the café"],
        "refdavis_valid": [["a dog", ["the cat", "a cat"]]],
    }.items():
        document = {"videos": [{**video, "expressions": said}], "annotations": annotations}
        (tmp_path / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    hidden = {"videos": [{**video, "expressions": ["a dog"], "exp_id": "0"}], "annotations": []}
    (tmp_path / "refyoutube_valid.json").write_text(json.dumps(hidden))
    return tmp_path


def test_clip_files_of_instructseg(tracks):
    dog, cafe = samples("instructseg:refyoutube_train", tracks)
    assert (dog.instruction, cafe.instruction) == ("a dog.", "the café.")
    assert dog.target.sum(axis=(1, 2)).tolist() == [9, 9] and cafe.target.sum(axis=(1, 2)).tolist() == [12, 0]
    assert [one.instruction for one in samples("instructseg:refdavis_valid", tracks)] == ["a dog.", "the cat. a cat."]
    hidden = data.open("instructseg:refyoutube_valid", tracks)
    assert not hidden.annotated and not hidden[0].target.any()


def test_clip_files_whose_parts_do_not_fit(tracks):
    path = tracks / "refyoutube_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentations"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="has masks of 1 frames; expected 2"):
        samples("instructseg:refyoutube_train", tracks)
    del document["annotations"][1]
    document["annotations"][0]["segmentations"].append(None)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="is expression 1 of a video with 1 annotations"):
        samples("instructseg:refyoutube_train", tracks)


def test_converted_refs_are_read_and_checked_against_their_pickle(scenes, tmp_path):
    export.write_refcoco(scenes, tmp_path)
    pickle = tmp_path / "refcoco" / "refs(unc).p"
    before = [sample.instruction for sample in samples("refcoco:val", tmp_path)]
    assert convert(pickle, pickle.with_suffix(".json")) > 0
    assert [sample.instruction for sample in samples("refcoco:val", tmp_path)] == before
    text = pickle.read_bytes()
    pickle.write_bytes(text.replace(b"'val'", b"'abc'"))
    with pytest.raises(DataError, match=r"was made from another refs\(unc\)\.p; .* run `leanseg data convert`"):
        data.open("refcoco:val", tmp_path)
    pickle.unlink()
    assert [sample.instruction for sample in samples("refcoco:val", tmp_path)] == before


def test_conversion_is_whole_or_nothing(tmp_path):
    (tmp_path / "refs(unc).p").write_bytes(b"(lp0\nI7\na.")
    with pytest.raises(DataError, match=r"ref number 0 of refs\(unc\)\.p is int; expected a table"):
        convert(tmp_path / "refs(unc).p", tmp_path / "refs(unc).json")
    assert [path.name for path in tmp_path.iterdir()] == ["refs(unc).p"]


def test_splits_are_chosen_by_the_rule_of_the_data_set():
    assert [chosen("testA", stated) for stated in ("testA", "testB", "testAB", "train")] == [True, False, True, False]
    assert [chosen("test", stated) for stated in ("test", "testA", "val")] == [True, True, False]
    assert not chosen("val", "train_val")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "1", "image": "coco/a.jpg", "conversations": []}, "has no human turn"),
        (
            {"id": "1", "image": "coco/a.jpg", "conversations": [{"from": "dog", "value": ""}]},
            "is by 'dog'; expected human",
        ),
        ({"id": "1", "image": "coco/a.jpg", "conversations": [{"from": "gpt"}]}, "has no 'value'"),
        ({"id": [], "image": "coco/a.jpg", "conversations": [{"from": "human", "value": ""}]}, "'id' of entry 0"),
    ],
)
def test_conversations_are_checked(tmp_path, entry, message):
    (tmp_path / FILE).write_text(json.dumps([entry]))
    with pytest.raises(DataError, match=message):
        data.open("mmconv:train", tmp_path, check=False).item(0)


def test_two_files_that_fit_one_part_of_rio(tmp_path):
    for name in ("RIO_train_a.json", "RIO_train_b.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(DataError, match="several files fit"):
        data.open("rio:train", tmp_path)


def test_several_expressions_of_one_entry_of_rio(tmp_path):
    entry = {
        "height": 6, "width": 8, "image_id": 3, "task_id": 1, "expressions": ["sit on it", "stand on it"],
        "bbox_list": [], "mask_list": [[[1, 1, 4, 1, 4, 4, 1, 4]]],
    }  # fmt: skip
    (tmp_path / "RIO_train_all_thing.json").write_text(json.dumps([entry, {**entry, "expressions": "eat it"}]))
    (tmp_path / "train2014").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "train2014" / "COCO_train2014_000000000003.jpg")
    read = samples("rio:train", tmp_path)
    assert [sample.instruction for sample in read] == ["sit on it", "stand on it", "eat it"]
    assert [sample.target.sum() for sample in read] == [9, 9, 9]


def test_lines_of_davis_that_are_no_descriptions(clips, tmp_path):
    export.write_ref_davis17(clips, tmp_path)
    path = tmp_path / "davis_text_annotations" / "Davis17_annot1.txt"
    text = path.read_text()
    path.write_text("\nnonsense\n" + text)
    with pytest.raises(DataError, match=r"line 2 of .*Davis17_annot1\.txt is 'nonsense'; expected: sequence"):
        data.open("refdavis:val", tmp_path)
    path.write_bytes(b"\xff" + text.encode())
    with pytest.raises(DataError, match="is no utf-8 text"):
        data.open("refdavis:val", tmp_path)
    path.write_text(text)
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("elsewhere")
    with pytest.raises(DataError, match=r"sequence elsewhere of .* is not described"):
        data.open("refdavis:val", tmp_path)

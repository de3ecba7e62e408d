import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from leanseg.errors import DataError, InputError
from leanseg.metrics import JF
from leanseg.metrics.protocols import (
    RefYouTubeVOS,
    evaluate_ref_youtube_vos,
    submission_files,
    write_submission,
)

FRAMES = ["00000", "00005", "00010"]


def labels(shift=0):
    clip = np.zeros((3, 24, 32), np.uint8)
    clip[:, 2:10, 3 + shift : 12 + shift] = 1
    clip[:, 13:20, 5 + shift : 15 + shift] = 4
    return clip


def meta(root, split, videos, with_objects=True):
    folder = root / "meta_expressions" / split
    folder.mkdir(parents=True)
    content = {}
    for video in videos:
        said = {str(n): {"exp": f"thing {label}"} for n, label in enumerate((1, 4))}
        if with_objects:
            for n, label in enumerate((1, 4)):
                said[str(n)]["obj_id"] = str(label)
        content[video] = {"expressions": said, "frames": FRAMES}
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": content}))


def save(folder, clip):
    folder.mkdir(parents=True, exist_ok=True)
    for frame, picture in zip(FRAMES, clip, strict=True):
        Image.fromarray(picture).save(folder / f"{frame}.png")


@pytest.fixture
def tree(tmp_path):
    root, results = tmp_path / "data", tmp_path / "results"
    meta(root, "train", ["a1", "b2"])
    for video, shift in (("a1", 0), ("b2", 2)):
        save(root / "train/Annotations" / video, labels())
        for n, label in enumerate((1, 4)):
            save(results / "Annotations" / video / str(n), (labels(shift) == label) * np.uint8(255))
    return root, results


@pytest.mark.parametrize("processes", [1, 2])
def test_a_hold_out_is_scored_per_expression(tree, processes):
    root, results = tree
    found = evaluate_ref_youtube_vos(root, results, processes=processes)
    metric = JF()
    for video, shift in (("a1", 0), ("b2", 2)):
        for n, label in enumerate((1, 4)):
            metric.update(f"{video}/{n}", labels() == label, labels(shift) == label)
    assert found.scores == metric.compute().scores and list(found.samples) == ["a1/0", "a1/1", "b2/0", "b2/1"]
    assert found.protocol == {"average": "expressions", "frames": "listed", "tolerance": 0.008}
    one = evaluate_ref_youtube_vos(root, results / "Annotations", RefYouTubeVOS(tolerance=3), videos=["a1"])
    assert list(one.samples) == ["a1/0", "a1/1"] and one.scores["J&F"] == 1.0 and one.protocol["tolerance"] == 3


def test_masks_in_memory_score_the_same(tree):
    found = evaluate_ref_youtube_vos(*tree)
    parts = [RefYouTubeVOS(), RefYouTubeVOS()]
    for place, (video, shift) in enumerate((("b2", 2), ("a1", 0))):
        for n, label in enumerate((1, 4)):
            parts[(n + place) % 2].update(video, str(n), labels() == label, labels(shift) == label)
    parts[0].merge(parts[1])
    assert parts[0].compute().to_json() == found.to_json()


def test_what_cannot_be_scored_is_refused(tree):
    root, results = tree
    with pytest.raises(DataError, match="has no video zz; give names that it lists"):
        evaluate_ref_youtube_vos(root, results, videos=["zz", "a1"])
    with pytest.raises(DataError, match=r"1 expressions missing: .*valid"):
        evaluate_ref_youtube_vos(root, results, split="valid")
    meta(root, "valid", ["c3"], with_objects=False)
    with pytest.raises(DataError, match="the ground truth of 'valid' is not public; score a hold-out"):
        evaluate_ref_youtube_vos(root, results, split="valid")
    grey = labels()
    grey[0, 0, 0] = 77
    save(results / "Annotations/a1/0", grey)
    with pytest.raises(DataError, match=r"a1/0/00000.png holds several values beside 0"):
        evaluate_ref_youtube_vos(root, results)
    for name in ("a1/0/00000", "b2/1/00010"):
        (results / "Annotations" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"2 masks missing: .*a1/0/00000.png, .*b2/1/00010.png"):
        evaluate_ref_youtube_vos(root, results)


def predictions(videos=("a1",), frames=FRAMES):
    for video in videos:
        for n, label in enumerate((1, 4)):
            for t, frame in enumerate(frames):
                yield video, str(n), frame, labels()[t] == label


def test_a_submission_holds_what_the_server_expects(tmp_path):
    meta(tmp_path, "valid", ["a1", "b2", "t9"], with_objects=False)
    meta(tmp_path, "test", ["t9"], with_objects=False)
    expected = submission_files(tmp_path, valid_videos=2)
    assert set(expected) == {("a1", "0"), ("a1", "1"), ("b2", "0"), ("b2", "1")} and expected["a1", "0"] == FRAMES
    with pytest.raises(DataError, match=r"3 videos in .* are 2; expected 202; get both files again"):
        submission_files(tmp_path)
    target = tmp_path / "out" / "submission.zip"
    assert write_submission(target, predictions(("a1", "b2")), expected) == 12
    with zipfile.ZipFile(target) as archive:
        assert len(archive.namelist()) == 12
        with archive.open("Annotations/b2/1/00010.png") as file, Image.open(file) as picture:
            assert picture.mode == "L" and np.array_equal(np.array(picture), (labels()[2] == 4) * 255)
    first = target.read_bytes()
    write_submission(target, predictions(("a1", "b2")), expected)
    assert target.read_bytes() == first and [path.name for path in target.parent.iterdir()] == ["submission.zip"]
    assert evaluate_unpacked(target, tmp_path) == 1.0


def evaluate_unpacked(target, root):
    with zipfile.ZipFile(target) as archive:
        archive.extractall(root / "unpacked")
    meta(root, "train", ["a1", "b2"])
    for video in ("a1", "b2"):
        save(root / "train/Annotations" / video, labels())
    return evaluate_ref_youtube_vos(root, root / "unpacked").scores["J&F"]


def one(mask, *key):
    return [(*key, mask)]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (predictions(frames=FRAMES[:2]), r"2 of 6 masks are missing: a1/0/00010, a1/1/00010; no submission"),
        (predictions(("a1", "a1")), "mask a1/0/00000 came twice"),
        (predictions(("b2",)), "mask b2/0/00000 is not expected"),
        (one(np.full((4, 4), 0.5), "a1", "0", "00000"), "mask a1/0/00000 holds values other than 0 and 1"),
        (one(np.ones((1, 4, 4)), "a1", "0", "00000"), r"mask a1/0/00000 has shape \(1, 4, 4\); expected \(4, 4\)"),
        (
            one(np.ones((4, 4)), "a1", "0", "00000") + one(np.ones((4, 5)), "a1", "0", "00005"),
            r"mask a1/0/00005 has shape \(4, 5\); expected \(4, 4\), one mask \(H, W\)",
        ),
    ],
)
def test_a_submission_is_whole_or_not_written(tmp_path, masks, message):
    expected = {("a1", "0"): FRAMES, ("a1", "1"): FRAMES}
    with pytest.raises(InputError, match=message):
        write_submission(tmp_path / "s.zip", masks, expected)
    assert list(tmp_path.iterdir()) == []


def test_a_submission_stays_in_its_folder(tmp_path):
    with pytest.raises(InputError, match=r"../../x: no names; a zip must not leave its folder"):
        write_submission(tmp_path / "s.zip", [], {("../../x", "0"): FRAMES})

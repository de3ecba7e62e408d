import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from leanseg.data.scenes import KINDS, ClipScene, Scene, SceneOptions, export, generate_clip, generate_scene
from leanseg.data.scenes.export.files import davis_palette
from leanseg.data.scenes.export.outline import center_polygons, edge_polygons
from leanseg.data.scenes.export.refcoco import old_pickle

# pycocotools' decode has not followed numpy 2's __array__ yet; its result is right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**81 - 1)).map(
    lambda t: np.array([(t[2] >> k) & 1 for k in range(t[0] * t[1])], bool).reshape(t[0], t[1])
)


class PlainUnpickler(pickle.Unpickler):
    """Reads plain data only, as a careful reader of the published files does."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"{module}.{name}")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed, SceneOptions(canvas=96, n_instructions=6)) for seed in range(40, 43)]


@pytest.fixture(scope="module")
def clips() -> list[ClipScene]:
    kinds = (*KINDS, "motion")
    made = [generate_clip(seed, SceneOptions(canvas=64, frames=3, kinds=kinds)) for seed in range(50, 52)]
    return [*made, generate_clip(52, SceneOptions(canvas=64, frames=3, kinds=("no_target",), redundancy="fast"))]


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def line(a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """The pixels of a straight line between pixel centres."""
    n = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    at = [k / n if n else 0 for k in range(n + 1)]
    return [(round(a[0] + (b[0] - a[0]) * t), round(a[1] + (b[1] - a[1]) * t)) for t in at]


def painted(polygon: list[list[float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Outline and inside (even-odd), which is how ReasonSeg's own code paints a polygon."""
    canvas = np.zeros(shape, bool)
    points = [(int(x), int(y)) for x, y in polygon]
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    y, x = np.mgrid[: shape[0], : shape[1]]
    for (x0, y0), (x1, y1) in edges:
        if y0 != y1:
            canvas ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    for a, b in edges:
        for x, y in line(a, b):
            canvas[y, x] = True
    return canvas


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_outlines_give_the_mask_back_in_both_conventions(mask: NDArray[np.bool_]):
    height, width = mask.shape
    polygons = edge_polygons(mask)
    codes = coco.frPyObjects(polygons, height, width) if polygons else []
    back = coco.decode(coco.merge(codes)) if codes else np.zeros_like(mask)
    assert np.array_equal(back, mask)
    back = np.zeros_like(mask)
    for polygon in center_polygons(mask):
        back |= painted(polygon, mask.shape)
    assert np.array_equal(back, mask)


def test_holes_of_real_sprites_survive(scenes: list[Scene]):
    for mask in scenes[0].masks:
        back = np.zeros_like(mask)
        for polygon in center_polygons(mask):
            back |= painted(polygon, mask.shape)
        assert np.array_equal(back, mask)


def test_native(scenes: list[Scene], clips: list[ClipScene], tmp_path: Path):
    counts = export.write_native([*scenes, *clips], tmp_path)
    assert counts == {"pictures": 3, "clips": 3, "instructions": 42}
    entries = load(tmp_path / "instructions.json")["scenes"]
    for entry, scene in zip(entries, scenes, strict=False):
        assert np.array_equal(np.asarray(Image.open(tmp_path / entry["picture"])), scene.image)
        numbers = np.asarray(Image.open(tmp_path / entry["masks"]))
        for said, one in zip(entry["instructions"], scene.instructions, strict=True):
            assert said["text"] == one.text
            assert np.array_equal(np.isin(numbers, [k + 1 for k in said["targets"]]), scene.target(one))
    numbers = np.asarray(Image.open(tmp_path / entries[3]["masks"] / "00002.png"))
    assert np.array_equal(numbers == 1, clips[0].masks[2, 0])


def test_refcoco(scenes: list[Scene], tmp_path: Path):
    counts = export.write_refcoco(scenes, tmp_path)
    instances = load(tmp_path / "refcoco" / "instances.json")
    with (tmp_path / "refcoco" / "refs(unc).p").open("rb") as file:
        assert file.read(2) == b"(l"
        file.seek(0)
        refs = PlainUnpickler(file, encoding="latin1").load()
    annotations = {one["id"]: one for one in instances["annotations"]}
    categories = {one["id"] for one in instances["categories"]}
    assert counts["refs"] == len(refs) == len(annotations)
    assert counts["sentences"] == sum(len(ref["sentences"]) for ref in refs) == 18
    for ref in refs:
        scene, entry = scenes[ref["image_id"] - 1], annotations[ref["ann_id"]]
        assert ref["category_id"] == entry["category_id"] and entry["category_id"] in categories
        assert ref["sent_ids"] == [one["sent_id"] for one in ref["sentences"]] and ref["split"] == "val"
        (picture,) = [one for one in instances["images"] if one["id"] == ref["image_id"]]
        assert ref["file_name"] == f"{picture['file_name'][:-4]}_{ref['ann_id']}.jpg"
        jpeg = Image.open(tmp_path / "images" / "mscoco" / "images" / "train2014" / picture["file_name"])
        assert jpeg.size == (picture["width"], picture["height"]) == (96, 96)
        mask = coco.decode(coco.merge(coco.frPyObjects(entry["segmentation"], 96, 96))).astype(bool)
        assert entry["area"] == mask.sum() and entry["bbox"] == list(coco.toBbox(coco.encode(np.asfortranarray(mask))))
        for said in ref["sentences"]:
            (one, *_) = [one for one in scene.instructions if one.text == said["raw"]]
            assert np.array_equal(mask, scene.target(one))
            assert said["tokens"] == said["sent"].split() and "?" not in said["sent"]


def test_old_pickles_hold_text_numbers_lists_and_dicts():
    value = [{"a": [1, -2, {"it's": 'both "quotes"'}], "b": "back\\slash\nline"}, []]
    assert PlainUnpickler(__import__("io").BytesIO(old_pickle(value)), encoding="latin1").load() == value


def test_reasonseg(scenes: list[Scene], tmp_path: Path):
    counts = export.write_reasonseg(scenes, tmp_path, split="train")
    assert counts["pictures"] == 18
    for number, scene in enumerate(scenes):
        for which, one in enumerate(scene.instructions):
            name = f"{number + 1:06d}_{which}"
            document = load(tmp_path / "train" / f"{name}.json")
            assert document["text"] == [one.text] and document["is_sentence"] == (one.kind == "affordance")
            assert Image.open(tmp_path / "train" / f"{name}.jpg").size == (96, 96)
            assert {shape["label"] for shape in document["shapes"]} == {"target"}
            if which == 0:
                back = np.zeros((96, 96), bool)
                for shape in document["shapes"]:
                    back |= painted(shape["points"], (96, 96))
                assert np.array_equal(back, scene.target(one))
    explained = load(tmp_path / "explanatory" / "train.json")
    assert len(explained) == counts["explanations"]
    assert all((tmp_path / "train" / one["json"]).is_file() and one["outputs"].startswith("It is") for one in explained)


def test_ref_youtube_vos(clips: list[ClipScene], tmp_path: Path):
    counts = export.write_ref_youtube_vos(clips, tmp_path)
    videos = load(tmp_path / "meta_expressions" / "train" / "meta_expressions.json")["videos"]
    meta = load(tmp_path / "train" / "meta.json")["videos"]
    assert counts["videos"] == len(videos) == 3
    for (video, entry), clip in zip(videos.items(), clips, strict=True):
        assert entry["frames"] == ["00000", "00005", "00010"]
        for time, frame in enumerate(entry["frames"]):
            picture = Image.open(tmp_path / "train" / "Annotations" / video / f"{frame}.png")
            assert picture.mode == "P" and (tmp_path / "train" / "JPEGImages" / video / f"{frame}.jpg").is_file()
            for said in entry["expressions"].values():
                (one, *_) = [one for one in clip.instructions if one.text == said["exp"]]
                assert np.array_equal(np.asarray(picture) == int(said["obj_id"]), clip.target(one)[time])
        assert [one["category"] for one in meta[video]["objects"].values()] == [item.item for item in clip.objects]
    export.write_ref_youtube_vos(clips, tmp_path, split="valid")
    hidden = load(tmp_path / "meta_expressions" / "valid" / "meta_expressions.json")["videos"]
    assert all("obj_id" not in said for entry in hidden.values() for said in entry["expressions"].values())
    assert (tmp_path / "valid" / "JPEGImages").is_dir() and not (tmp_path / "valid" / "Annotations").exists()


def test_ref_davis17(clips: list[ClipScene], tmp_path: Path):
    counts = export.write_ref_davis17(clips, tmp_path)
    names = (tmp_path / "DAVIS/ImageSets/2017/val.txt").read_text().split()
    assert (tmp_path / "DAVIS/ImageSets/2017/train.txt").read_text() == ""
    semantics = load(tmp_path / "DAVIS/davis_semantics.json")
    assert len(names) == counts["videos"] == 2  # the clip of absent things describes no object
    texts = sorted((tmp_path / "davis_text_annotations").iterdir())
    assert [path.name for path in texts] == [
        "Davis17_annot1.txt", "Davis17_annot1_full_video.txt", "Davis17_annot2.txt", "Davis17_annot2_full_video.txt",
    ]  # fmt: skip
    for path in texts:
        rows = [line.split(" ", 2) for line in path.read_text(encoding="latin-1").splitlines()]
        assert [(video, number) for video, number, _ in rows] == [
            (video, number) for video in names for number in semantics[video]
        ]
        for video, number, quoted in rows:
            clip = clips[names.index(video)]
            assert quoted[0] == quoted[-1] == '"'
            (one, *_) = [one for one in clip.instructions if one.text == quoted[1:-1]]
            picture = Image.open(tmp_path / "DAVIS/Annotations_unsupervised/480p" / video / "00000.png")
            assert np.array_equal(np.asarray(picture) == int(number), clip.target(one)[0])
            assert semantics[video][number] == clip.objects[one.targets[0]].item


def test_revos(clips: list[ClipScene], tmp_path: Path):
    counts = export.write_revos(clips, tmp_path)
    videos = load(tmp_path / "meta_expressions_valid_.json")["videos"]
    assert load(tmp_path / "meta_expressions_train_.json") == {"videos": {}}
    masks, foreground = load(tmp_path / "mask_dict.json"), load(tmp_path / "mask_dict_foreground.json")
    assert counts == {"videos": 3, "annotations": len(masks), "expressions": 24}
    kinds = set()
    for (video, entry), clip in zip(videos.items(), clips, strict=True):
        assert (entry["height"], entry["width"], entry["frames"]) == (64, 64, ["00000", "00001", "00002"])
        assert (tmp_path / "JPEGImages" / video / "00002.jpg").is_file()
        union = np.zeros((3, 64, 64), bool)
        for said, one in zip(entry["expressions"].values(), clip.instructions, strict=True):
            answer = np.zeros((3, 64, 64), bool)
            for identity in said["anno_id"]:
                for time, code in enumerate(masks[str(identity)]):
                    answer[time] |= coco.decode(code).astype(bool) if code else False
            assert np.array_equal(answer, clip.target(one)) and len(said["obj_id"]) == len(said["anno_id"])
            kinds.add((said["type_id"], one.kind == "affordance" and bool(one.targets), not one.targets))
            union |= answer
        for time in range(3):
            assert np.array_equal(coco.decode(foreground[video]["masks_rle"][time]), union[time])
            assert foreground[video]["foreground_ratio"][time] == pytest.approx(union[time].mean())
    assert kinds <= {(0, False, False), (1, True, False), (2, False, True)} and (2, False, True) in kinds


def test_the_palette_is_that_of_davis():
    colors = np.array(davis_palette()).reshape(256, 3)
    assert colors[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colors[255].tolist() == [224, 224, 192]

"""Public data sets are evaluated by their own protocols: the scores are those of the evaluators that read files."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.oracles import EVERYTHING, NOTHING, RIGHT, SURE, WRONG, Oracle, answer, save, units

from leanseg.data.registry import open_dataset
from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.evaluation.scoring import Line
from leanseg.engine.evaluation.worker import Evaluation
from leanseg.errors import DataError
from leanseg.metrics import CIoU, GIoU
from leanseg.metrics.protocols import (
    RIO,
    COCOTasks,
    RefDavis,
    Result,
    ReVOS,
    evaluate_ref_davis,
    evaluate_ref_youtube_vos,
    evaluate_revos,
    merge_objects,
)
from leanseg.run_length import decode_mask, encode_mask

SAMPLES = Path(__file__).parents[1] / "golden" / "datasets"
ROWS = (RIGHT, WRONG, EVERYTHING, NOTHING)


@dataclass
class Measured:
    evaluation: Evaluation
    lines: list[Line]

    def result(self, row: str) -> Result:
        return self.evaluation.scoring.result(self.lines, row)

    def score(self, row: str, name: str) -> float:
        return self.result(row).scores[name]


@pytest.fixture
def measure(tmp_path: Path) -> Any:
    """Return what evaluating a data set gives where the answers are right, shifted, and nothing."""

    def measured(data: str, root: Path = SAMPLES, protocol: dict[str, Any] | None = None, **options: Any) -> Measured:
        out = tmp_path / f"{len(list(tmp_path.glob('*.jsonl')))}.json"
        request = Request(
            out=out, model=str(tmp_path), data=data, root=root, data_options=options,
            protocol=protocol or {}, pruners=("random",), keep_ratios=(0.5,),
        )  # fmt: skip
        planned = plan(request)
        oracle = Oracle(planned)
        evaluation = replace(planned, make=lambda: oracle)
        return Measured(evaluation, evaluate(evaluation, request.lines))

    return measured


@pytest.mark.parametrize(
    ("data", "options", "samples"),
    [
        ("refcoco:val", {}, 6),
        ("refcoco:val", {"unit": "ref", "rasteriser": "cv2"}, 3),
        ("refcoco+:testA", {}, 2),
        ("refcocog:test", {"split_by": "umd"}, 3),
        ("reasonseg:val", {}, 2),
        ("reasonseg:val", {"ignore": "background"}, 2),
        ("instructseg:refcocog_val", {}, 8),
    ],
)
def test_pictures_are_scored_by_giou_and_ciou(measure: Any, data: str, options: dict[str, Any], samples: int) -> None:
    found = measure(data, **options)
    assert len(found.lines) == samples
    dataset = open_dataset(data, SAMPLES, **options)
    for row in ROWS:
        giou, ciou = GIoU(), CIoU()
        for index in range(len(dataset)):
            sample = dataset[index]
            for metric in (giou, ciou):
                metric.update(sample.target[0], answer(row, sample.target[0]), _first(sample.ignore))
        assert found.result(row).scores == {"giou": giou.compute(), "ciou": ciou.compute()}
    assert found.score(RIGHT, "ciou") == pytest.approx(1) and found.score(NOTHING, "ciou") == 0
    assert 0.2 < found.score(WRONG, "ciou") < 0.99


def _first(ignore: np.ndarray | None) -> np.ndarray | None:
    return None if ignore is None else ignore[0]


def test_ignored_pixels_change_the_score_of_reasonseg(measure: Any) -> None:
    strict = measure("reasonseg:val", ignore="background").score(EVERYTHING, "ciou")
    assert measure("reasonseg:val").score(EVERYTHING, "ciou") > strict


def write_masks(found: Measured, row: str, folder: Path) -> None:
    """Write what was answered as `<video>/<expression>/<frame>.png`."""
    for unit in units(found.evaluation):
        for time, frame in enumerate(unit.meta["frames"]):
            mask = answer(row, unit.truths(time)[0][0])
            save(folder / unit.meta["video"] / unit.meta["expression"] / f"{frame}.png", 255 * mask)


def test_ref_youtube_vos_scores_as_from_files(measure: Any, tmp_path: Path) -> None:
    found = measure("refyoutube:train")
    for row in ROWS:
        write_masks(found, row, tmp_path / row)
        expected = evaluate_ref_youtube_vos(SAMPLES / "Ref-YouTube-VOS", tmp_path / row)
        result = found.result(row)
        assert {name: result.scores[name] for name in expected.scores} == expected.scores
        assert list(result.samples.values()) == list(expected.samples.values()) and len(result.samples) == 5
        assert (result.scores["J&F"] == 1) == (row == RIGHT)


def test_instructsegs_clip_files_score_as_the_clips_themselves(measure: Any, tmp_path: Path) -> None:
    dataset: Any = open_dataset("refyoutube:train", SAMPLES)
    videos: dict[str, Any] = {}
    tracks = []
    for item in map(dataset.item, range(len(dataset))):
        name = item.meta["video"]
        height, width = item.frame(0).shape[:2]
        video = videos.setdefault(
            name,
            {
                "id": len(videos), "video": name, "length": item.n_frames, "height": height, "width": width,
                "file_names": [f"{name}/{frame}.jpg" for frame in item.meta["frames"]], "expressions": [],
            },
        )  # fmt: skip
        video["expressions"].append(item.instruction)
        codes = [encode_mask(item.target(time)[0]) for time in range(item.n_frames)]
        tracks.append({"video_id": video["id"], "id": len(tracks), "segmentations": codes})
    shutil.copytree(SAMPLES / "Ref-YouTube-VOS/train/JPEGImages", tmp_path / "train/JPEGImages")
    (tmp_path / "refyoutube_train.json").write_text(
        json.dumps({"videos": list(videos.values()), "annotations": tracks})
    )
    found = measure("instructseg:refyoutube_train", tmp_path)
    expected = measure("refyoutube:train")
    for row in ROWS:
        assert found.result(row).scores == expected.result(row).scores


def write_label_maps(found: Measured, row: str, folder: Path, merge: str) -> None:
    """Write what was answered as `<run>/<sequence>/<frame>.png`, merged by hand."""
    for unit in units(found.evaluation):
        for time, frame in enumerate(unit.meta["frames"]):
            soft = np.stack([SURE * answer(row, target) for target, _ in unit.truths(time)])
            merged = merge_objects(soft, merge)
            labels = np.zeros_like(merged)
            for number, item in enumerate(unit.items, start=1):
                labels[merged == number] = item.meta["object_id"]
            assert unit.kind is not None
            save(folder / unit.kind / unit.meta["video"] / f"{frame}.png", labels)


@pytest.mark.parametrize("matching", ["hungarian", "id"])
@pytest.mark.parametrize("merge", ["referformer", "overwrite"])
def test_ref_davis_is_the_mean_of_four_runs(measure: Any, tmp_path: Path, matching: str, merge: str) -> None:
    found = measure("refdavis:val", protocol={"matching": matching, "merge": merge}, layout="raw")
    assert len(found.lines) == 2 * 4 and {len(unit.items) for unit in units(found.evaluation)} == {2}
    rules = RefDavis(matching=matching)
    for row in ROWS:
        write_label_maps(found, row, tmp_path / row, merge)
        expected = evaluate_ref_davis(SAMPLES / "ref-davis_raw/DAVIS", tmp_path / row, rules, subset="val")
        result = found.result(row)
        assert result.scores == expected.scores and result.samples == expected.samples
        assert result.protocol["runs"] == ["anno_0", "anno_1", "anno_2", "anno_3"]
        assert (result.scores["J&F"] == 1) == (row == RIGHT)


def test_ref_davis_refuses_half_a_sequence_before_any_work(tmp_path: Path) -> None:
    request = Request(
        out=tmp_path / "r.json", model=str(tmp_path), data="refdavis:val", root=SAMPLES, data_options={"layout": "raw"},
        pruners=("random",), keep_ratios=(0.5,), limit=4,
    )  # fmt: skip
    assert list(plan(request).indices) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"5 runs leave some of sequence .* out, .* give --limit a multiple of 4"):
        plan(replace(request, limit=5))


@pytest.mark.parametrize(
    ("run", "protocol", "options"),
    [("single", {"passes": "single_pass"}, {"layout": "raw"}), ("anno_2", {}, {"layout": "converted", "annotator": 2})],
)
def test_ref_davis_in_one_run(
    measure: Any, tmp_path: Path, run: str, protocol: dict[str, str], options: dict[str, Any]
) -> None:
    found = measure("refdavis:val", protocol=protocol, **options)
    assert [line["kind"] for line in found.lines] == [run, run]
    write_label_maps(found, WRONG, tmp_path, "referformer")
    expected = evaluate_ref_davis(
        SAMPLES / "ref-davis_raw/DAVIS", tmp_path / run, RefDavis(passes="single_pass"), subset="val"
    )
    result = found.result(WRONG)
    assert result.scores == expected.scores and result.samples == expected.samples
    assert result.protocol["passes"] == protocol.get("passes", "four_annotators")
    if run == "single":
        assert found.lines[0]["instruction"].startswith("a red square. a red square moving to the right. the red")


@pytest.fixture
def overlapping(tmp_path: Path) -> Path:
    """ReVOS's sample with two annotations of one expression that overlap, where the public code sums to 2."""
    root = tmp_path / "ReVOS"
    shutil.copytree(SAMPLES / "ReVOS", root)
    masks = json.loads((root / "mask_dict.json").read_text())
    one, other = masks["2"], masks["3"]
    for time, (first, second) in enumerate(zip(one, other, strict=True)):
        if first is not None and second is not None:
            other[time] = encode_mask(decode_mask(first) | decode_mask(second))
    (root / "mask_dict.json").write_text(json.dumps(masks))
    return root


@pytest.mark.parametrize("compat", [False, True])
def test_revos_scores_as_from_files(measure: Any, tmp_path: Path, overlapping: Path, compat: bool) -> None:
    found = measure("revos:valid", overlapping, {"reference_compat": compat})
    assert {line["kind"] for line in found.lines} == {"referring", "reasoning", "no_object"}
    for row in ROWS:
        write_masks(found, row, tmp_path / row)
        expected = evaluate_revos(overlapping, tmp_path / row, ReVOS(reference_compat=compat))
        result = found.result(row)
        np.testing.assert_equal(result.scores, expected.scores)
        assert result.samples == expected.samples and len(result.samples) == 8
        if row == RIGHT:
            assert result.scores["J&F"] == 1 and (result.scores["R"] == 1) == (not compat)


@pytest.mark.parametrize("kind", ["referring", "reasoning", "no_object"])
def test_revos_of_one_kind_has_the_scores_of_that_kind(measure: Any, kind: str) -> None:
    result = measure("revos:valid", kind=kind).result(WRONG)
    assert result.protocol["overall"] == kind
    assert {name: result.scores[name] for name in ("J&F", "R")} == {
        name: result.scores[f"{kind}/{name}"] for name in ("J&F", "R")
    }
    assert 0 < result.scores["J&F"] <= 1


@pytest.mark.parametrize("best", [False, True])
def test_rio_counts_the_union_and_perhaps_the_best_object(measure: Any, best: bool) -> None:
    found = measure("rio:common", protocol={"best_instance": best})
    dataset: Any = open_dataset("rio:common", SAMPLES)
    for row in ROWS:
        metric = RIO(best_instance=best)
        for index in range(len(dataset)):
            union = dataset[index].target[0]
            metric.update(dataset[index].id, dataset.instances(index), answer(row, union))
        assert found.result(row).scores == metric.compute().scores
    assert ("best_instance" in found.result(RIGHT).scores) == best


@pytest.mark.parametrize("best", [False, True])
def test_coco_tasks_is_a_plain_mean_over_the_tasks_that_are_there(measure: Any, tmp_path: Path, best: bool) -> None:
    shutil.copytree(SAMPLES / "COCO2014", tmp_path / "COCO2014")
    shutil.copytree(SAMPLES / "coco-tasks", tmp_path / "coco-tasks")
    files = [tmp_path / "coco-tasks/annotations" / f"task_{task}_test.json" for task in range(1, 15)]
    for number, file in enumerate(files, start=1):
        if not file.exists():
            shutil.copy(SAMPLES / f"coco-tasks/annotations/task_{1 if number % 2 else 8}_test.json", file)
    whole, one = (
        measure(data, tmp_path, {"best_instance": best}) for data in ("coco_tasks:test", "coco_tasks:task_1_test")
    )
    dataset: Any = whole.evaluation.dataset
    for row in ROWS:
        metric = COCOTasks(best_instance=best)
        for unit in units(whole.evaluation):
            target, objects = unit.truths(0)[0][0], dataset.instances(unit.index)
            assert np.array_equal(objects.any(axis=0), target) and len(objects) == unit.meta["n_preferred"]
            metric.update(unit.meta["task_id"], str(unit.meta["image_id"]), objects, answer(row, target))
        assert whole.result(row).scores == metric.compute().scores
        assert one.score(row, "giou") == whole.result(row).samples["1"]["giou"]
    assert ("best_instance" in whole.result(RIGHT).scores) == best

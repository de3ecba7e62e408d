import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.golden_cases import GOLDEN

from leanseg.errors import DataError, InputError
from leanseg.metrics import boundary_f, jaccard
from leanseg.metrics.protocols import ReVOS, evaluate_revos, write_revos_csv
from leanseg.run_length import encode_mask


def revos_cases():
    """One parameter per tree of predictions of every `metrics/revos*/expected.json`."""
    found = []
    for path in sorted((GOLDEN / "metrics").glob("revos*/expected.json")):
        found += [
            pytest.param(path.parent, name, id=f"{path.parent.name}/{name}")
            for name in json.loads(path.read_text())["sets"]
        ]
    absent = pytest.mark.skip(reason=f"no revos*/expected.json below {GOLDEN}/metrics")
    return found or [pytest.param(None, None, marks=absent, id="revos_mini/absent")]


def split_of(folder):
    (meta,) = folder.glob("meta_expressions_*_.json")
    return meta.name.removeprefix("meta_expressions_").removesuffix("_.json")


@pytest.mark.golden
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("folder", "name"), revos_cases())
def test_parity_with_the_reference_on_request(folder, name, processes, tmp_path):
    expected = json.loads((folder / "expected.json").read_text())["sets"][name]
    metric, split = ReVOS(reference_compat=True), split_of(folder)
    found = evaluate_revos(folder, folder / name, metric, split=split, processes=processes)
    for kind, values in expected["results"].items():
        prefix = {"referring": "referring/", "reason": "reasoning/", "overall": ""}[kind]
        for measure, value in values.items():
            ours = found.scores[prefix + ("J&F" if measure == "JF" else measure)]
            assert 100 * ours == pytest.approx(value, abs=1e-9), (kind, measure)
    # Before they are rounded to hundredths of a percent.
    fine = evaluate_revos(folder, folder / name, ReVOS(reference_compat=True, round_percent=14), split=split)
    ids = {id.replace("/", "_"): id for id in fine.samples}
    for id, values in expected.get("per_expression_J_F_A_R", {}).items():
        assert [fine.samples[ids[id]][measure] for measure in "JFAR"] == pytest.approx(values, abs=1e-12)
    texts = {
        f"{video}/{key}": said["exp"]
        for video, entry in json.loads((folder / f"meta_expressions_{split}_.json").read_text())["videos"].items()
        for key, said in entry["expressions"].items()
    }
    write_revos_csv(found, tmp_path / "out.csv", texts=texts)
    with (tmp_path / "out.csv").open() as ours, (folder / f"expected_{name}.csv").open() as theirs:
        rows, wanted = ({row["videxp"]: row for row in csv.DictReader(file)} for file in (ours, theirs))
    assert rows == wanted


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "name"), revos_cases())
def test_the_default_does_not_depend_on_how_masks_are_saved(folder, name, tmp_path):
    """Whether inside is 1 or 255, A and R are the same; J and F are the reference's."""
    split, zero = split_of(folder), ReVOS(missing="zero")
    shutil.copytree(folder / name, tmp_path / "other")
    for path in (tmp_path / "other").rglob("*.png"):
        with Image.open(path) as picture:
            mask = np.array(picture) > 0
        Image.fromarray(mask * np.uint8(77)).save(path)
    found, other = (evaluate_revos(folder, tree, zero, split=split) for tree in (folder / name, tmp_path / "other"))
    assert found.to_json() == other.to_json()
    compat = evaluate_revos(folder, folder / name, ReVOS(reference_compat=True), split=split)
    for measure in ("J", "F"):
        assert found.scores[measure] == pytest.approx(compat.scores[measure], abs=1e-4)


def clip(seed):
    return np.random.default_rng(seed).integers(0, 2, (4, 20, 30)).astype(np.uint8)


def measured(items, **options):
    metric = ReVOS(**options)
    for n, (kind, gt, pred) in enumerate(items):
        metric.update("v", str(n), kind, gt, pred, clip(9))
    return metric


def test_the_measures_are_their_definitions():
    gt, pred, foreground = clip(0), clip(1), clip(9)
    row = measured([("referring", gt, pred)]).compute().samples["v/0"]
    assert row["J"] == pytest.approx(jaccard(gt, pred).mean()) and row["F"] == pytest.approx(
        boundary_f(gt, pred).mean()
    )
    assert row["A"] == pytest.approx((gt == pred).mean())
    false = ((pred == 1) & (gt == 0)).sum(axis=(1, 2)) / foreground.sum(axis=(1, 2))
    assert row["R"] == pytest.approx(np.maximum(0, 1 - false).mean())
    assert row["J&F"] == (row["J"] + row["F"]) / 2


def test_overlapping_objects_and_saved_values_do_not_matter_unless_asked_for():
    gt, pred = clip(0), clip(1)
    plain = measured([("referring", gt, pred)]).compute().to_json()["samples"]
    assert measured([("referring", gt * 2, pred * 255)]).compute().to_json()["samples"] == plain
    raw = measured([("referring", gt * 2, pred * 255)], reference_compat=True).compute().samples["v/0"]
    assert raw["R"] == 0.0 and raw["A"] < plain["v/0"]["A"] and raw["J"] == pytest.approx(plain["v/0"]["J"], abs=5e-5)


def test_the_overall_is_the_mean_of_two_kinds_and_nothing_else():
    gt, empty = clip(0), clip(0) * 0
    items = [("referring", gt, gt)] * 3 + [("reasoning", gt, empty), ("no_object", empty, gt)]
    scores = measured(items).compute().scores
    assert (scores["J"], scores["referring/J"], scores["reasoning/J"]) == (0.5, 1.0, 0.0)
    assert scores["no_object/J"] == 0.0 and 0.0 <= scores["no_object/R"] < 1.0
    lonely = measured(items[:1]).compute().to_json()["scores"]
    assert lonely["referring/J"] == 1.0 and lonely["reasoning/J"] is None and lonely["J&F"] is None


def test_expressions_may_be_split_and_merged_in_any_order():
    items = [("referring", clip(n), clip(n + 1)) for n in range(3)] + [("reasoning", clip(5), clip(6))]
    whole = measured(items)
    parts = [ReVOS(), ReVOS()]
    for n, (kind, gt, pred) in reversed(list(enumerate(items))):
        parts[n % 2].update("v", str(n), kind, gt, pred, clip(9))
    restored = ReVOS.from_state(json.loads(json.dumps(parts[0].state)))
    restored.merge(parts[1])
    assert restored.compute().to_json() == whole.compute().to_json()
    with pytest.raises(InputError, match="'v/0' was measured before"):
        restored.update("v", "0", "reasoning", *items[0][1:], clip(9))


def test_the_rules_stand_in_the_result():
    for compat, rules in ((False, ("binary", None, "error")), (True, ("raw", 2, "zero"))):
        protocol = measured([("referring", clip(0), clip(1))], reference_compat=compat).compute().protocol
        assert tuple(protocol[name] for name in ("values", "round_percent", "missing")) == rules
        assert protocol["reference_compat"] is compat and protocol["overall"].startswith("unweighted mean")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReVOS(values="x"), "unknown values 'x'"),
        (lambda: ReVOS(missing="x"), "unknown missing 'x'"),
        (lambda: measured([("other", clip(0), clip(1))]), "unknown kind 'other'"),
        (lambda: measured([("referring", clip(0), clip(1)[:2])]), r"gt has shape \(4, 20, 30\), pred \(2, 20, 30\)"),
        (lambda: measured([("referring", clip(0), clip(1) / 2)]), "pred is float64"),
        (lambda: measured([("referring", clip(0) * 300.0 // 1, clip(1))]), "gt is float64"),
        (lambda: ReVOS().counts(clip(0).astype(int) * 300, clip(1), clip(2)), "gt holds numbers below 0 or above 255"),
        (lambda: ReVOS().update_missing("v", "0", "referring"), "expression v/0 has no masks; write them, or score 0"),
        (lambda: ReVOS().compute(), "ReVOS has seen no sample"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.fixture
def tree(tmp_path):
    root, results = tmp_path / "ReVOS", tmp_path / "results"
    root.mkdir()
    said = {str(n): {"exp": "x", "obj_id": [0], "anno_id": [n], "type_id": n} for n in range(2)}
    frames = ["00000", "00001", "00002", "00003"]
    meta = {"videos": {"set/a": {"expressions": said, "frames": frames, "height": 20, "width": 30, "vid_id": 0}}}
    codes = {str(n): [encode_mask(mask.astype(bool)) for mask in clip(n)] for n in range(2)}
    codes["1"][2] = None
    behind = {"set/a": {"masks_rle": [encode_mask(mask.astype(bool)) for mask in clip(9)]}}
    files = {"meta_expressions_valid_": meta, "mask_dict": codes, "mask_dict_foreground": behind}
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    for n in range(2):
        (results / f"set/a/{n}").mkdir(parents=True)
        for frame, mask in zip(frames, clip(n), strict=True):
            Image.fromarray(mask * np.uint8(255)).save(results / f"set/a/{n}/{frame}.png")
    return root, results


def edited(root, name, change):
    path = root / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_object_that_is_out_of_sight_is_an_empty_mask(tree):
    rows = evaluate_revos(*tree).samples
    assert rows["set/a/0"]["J"] == 1.0 and rows["set/a/1"]["J"] == 0.75


def test_missing_frames_are_one_error_or_a_zero(tree):
    root, results = tree
    for name in ("0/00001", "1/00003"):
        (results / f"set/a/{name}.png").unlink()
    with pytest.raises(DataError, match=r"2 predicted masks missing: .*0/00001.png, .*1/00003.png"):
        evaluate_revos(root, results)
    rows = evaluate_revos(root, results, ReVOS(missing="zero")).samples
    assert all(row["J"] == row["R"] == 0.0 for row in rows.values())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_mask_of_another_size_is_an_error_or_a_zero(tree, processes):
    root, results = tree
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(results / "set/a/0/00002.png")
    with pytest.raises(DataError, match=r"00002.png is 5 x 5 pixels and the ground truth 20 x 30"):
        evaluate_revos(root, results, processes=processes)
    assert evaluate_revos(root, results, ReVOS(missing="zero")).samples["set/a/0"]["J"] == 0.0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mask_dict", lambda c: c.pop("1"), "annotations 1 of video set/a cannot be found"),
        ("mask_dict", lambda c: c["0"].pop(), "video set/a has 4 frames and masks of another number"),
        ("mask_dict", lambda c: c["0"].__setitem__(0, {"size": [4, 4], "counts": "zz"}), "run lengths of annotation 0"),
        ("mask_dict_foreground", lambda c: c.pop("set/a"), "the foreground of video set/a cannot be found"),
        (
            "meta_expressions_valid_",
            lambda c: c["videos"]["set/a"]["expressions"]["0"].__setitem__("type_id", 7),
            "'type_id' of an expression of video set/a is 7; expected 0, 1 or 2",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tree, name, change, message):
    root, results = tree
    edited(root, name, change)
    with pytest.raises(DataError, match=message):
        evaluate_revos(root, results)


def test_absent_or_broken_files_are_refused(tree):
    root, results = tree
    (root / "mask_dict.json").write_text("{")
    with pytest.raises(DataError, match=r"mask_dict.json cannot be read as JSON"):
        evaluate_revos(root, results)
    (root / "mask_dict.json").unlink()
    with pytest.raises(DataError, match=r"1 files of ReVOS missing: .*mask_dict.json"):
        evaluate_revos(root, results)

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tests.golden_cases import GOLDEN

from leanseg.errors import DataError, InputError
from leanseg.metrics import boundary_f, jaccard
from leanseg.metrics.protocols import Davis, evaluate_davis, write_davis_csv


def davis_cases():
    """One parameter per task of every `metrics/davis*/expected.json`."""
    found = []
    for path in sorted((GOLDEN / "metrics").glob("davis*/expected.json")):
        tasks = json.loads(path.read_text())["results"]
        found += [pytest.param(path.parent, task, id=f"{path.parent.name}/{task}") for task in tasks]
    absent = pytest.mark.skip(reason=f"no davis*/expected.json below {GOLDEN}/metrics")
    return found or [pytest.param(None, None, marks=absent, id="davis_mini/absent")]


def near(one, other):
    """Whether two cells of a table agree to their last digit; headers and names must be equal."""
    return one == other or abs(float(one) - float(other)) < 1.0001e-3


@pytest.mark.golden
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("folder", "task"), davis_cases())
def test_parity_with_the_reference_on_a_tree(folder, task, processes, tmp_path):
    expected = json.loads((folder / "expected.json").read_text())["results"][task]
    results = folder / f"results_{task.partition('-')[0].removesuffix('ervised')}"
    (subset,) = (path.stem for path in (folder / "DAVIS/ImageSets/2017").glob("*.txt"))
    found = evaluate_davis(folder / "DAVIS", results, Davis(task=task), subset=subset, processes=processes)
    for name, value in expected["global"].items():
        assert found.scores[name.removesuffix("-Mean")] == pytest.approx(value, abs=1e-12), name
    for measure in "JF":
        rows = expected[measure]
        assert list(found.samples) == list(rows["M_per_object"])
        for key, name in (("M", measure), ("R", f"{measure}-Recall"), ("D", f"{measure}-Decay")):
            assert [row[name] for row in found.samples.values()] == pytest.approx(rows[key], abs=1e-12)
    write_davis_csv(found, tmp_path, subset=subset)
    for written in tmp_path.iterdir():
        ours, theirs = (
            [line.split(",") for line in path.read_text().splitlines()]
            for path in (written, folder / f"expected_{results.name}_{written.name}")
        )
        # A value on the edge between two roundings (0.4225) may fall to either side: our sums are rounded once.
        for one, other in zip(ours, theirs, strict=True):
            assert len(one) == len(other) and all(map(near, one, other))


def squares(n_frames=5, shift=0, labels=(1, 2, 3)):
    """Label maps of squares that move to the right."""
    maps = np.zeros((n_frames, 40, 60), np.uint8)
    for t in range(n_frames):
        for n, label in enumerate(labels):
            maps[t, 4 + 12 * n : 12 + 12 * n, 5 + 4 * t + shift : 15 + 4 * t + shift] = label
    return maps


def scored(gt, pred, **options):
    metric = Davis(**options)
    metric.update("clip", gt, pred)
    return metric.compute()


def test_a_swap_of_labels_costs_nothing_unsupervised_and_everything_by_id():
    gt, pred = squares(), squares(labels=(3, 1, 2))
    assert scored(gt, pred).scores["J&F"] == 1.0
    assert scored(gt, pred, matching="id").scores["J"] == 0.0
    assert scored(gt, pred, task="semi-supervised").scores["J"] == 0.0
    rows = scored(gt, pred).samples
    # Rows come in the order of the proposals.
    assert [(row["proposal"], row["object"]) for row in rows.values()] == [(1, 2), (2, 3), (3, 1)]


def test_the_values_are_those_of_each_pair():
    gt, pred = squares(), squares(shift=2)
    rows = scored(gt, pred, frames="inner", matching="id").samples
    for n in (1, 2, 3):
        assert rows[f"clip_{n}"]["J"] == pytest.approx(jaccard(gt[1:-1] == n, pred[1:-1] == n).mean(), abs=1e-15)
        assert rows[f"clip_{n}"]["F"] == pytest.approx(boundary_f(gt[1:-1] == n, pred[1:-1] == n).mean(), abs=1e-15)


def test_first_and_last_frame_are_left_out_only_where_that_is_the_rule():
    gt, pred = squares(), squares()
    pred[[0, -1]] = 0
    assert scored(gt, pred, task="semi-supervised").scores["J"] == 1.0
    assert scored(gt, pred).scores["J"] == pytest.approx(0.6)


def test_void_is_nothing_or_background():
    gt, pred = squares(), squares()
    gt[:, 30:, 40:] = 255
    pred[:, 30:, 40:] = 1
    assert scored(gt, pred).scores["J"] == 1.0
    assert scored(gt, pred, void="background").scores["J"] < 1.0
    assert scored(gt, pred, task="semi-supervised").scores["J"] < 1.0


def test_an_object_that_enters_later_is_dropped_or_counted():
    gt = squares()
    gt[0][gt[0] == 3] = 0
    assert len(scored(gt, gt).samples) == 2
    assert len(scored(gt, gt, objects="all_frames").samples) == 3


def test_missing_proposals_are_empty_and_further_ones_are_allowed():
    gt = squares()
    few = np.where(gt == 1, 1, 0)
    assert scored(gt, few).scores["J"] == pytest.approx(1 / 3)
    many = squares()
    many[:, :3] = 7
    assert scored(gt, many).scores["J"] == 1.0


def test_the_rules_stand_in_the_result():
    protocol = scored(squares(), squares(), task="semi-supervised", objects="all_frames").to_json()["protocol"]
    assert protocol == {
        "task": "semi-supervised", "matching": "id", "frames": "inner", "void": "background", "objects": "all_frames",
        "max_proposals": 20, "tolerance": 0.008,
    }  # fmt: skip


def test_sequences_may_be_split_and_merged_in_any_order():
    clips = {f"clip_{n}": (squares(), squares(shift=n)) for n in range(4)}
    whole, parts = Davis(), [Davis(), Davis()]
    for n, (name, pair) in enumerate(clips.items()):
        whole.update(name, *pair)
        parts[n % 2].update(name, *pair)
    merged = Davis.from_state(json.loads(json.dumps(parts[1].state)))
    merged.merge(parts[0])
    merged.merge(parts[1])
    assert merged.compute().to_json() == whole.compute().to_json()
    with pytest.raises(InputError, match="'clip_0_1' was measured before"):
        merged.update("clip_0", squares(), squares(shift=5))
    with pytest.raises(InputError, match="cannot merge a Davis with options"):
        merged.merge(Davis(matching="id"))


@pytest.mark.parametrize(
    ("options", "gt", "pred", "message"),
    [
        ({}, squares(), squares(4), r"gt of 'clip' has shape \(5, 40, 60\) and pred \(4, 40, 60\)"),
        ({}, squares()[0], squares()[0], r"gt of 'clip' is uint8 \(40, 60\); expected label maps \(T, H, W\)"),
        ({}, squares()[:0], squares()[:0], "with at least one frame"),
        ({}, squares() / 1.0, squares(), "gt of 'clip' is float64"),
        ({}, squares(), squares().astype(int) - 1, "pred of 'clip' holds labels below 0 or above 255"),
        ({}, squares() * 0, squares(), "'clip' has no object in its first frame"),
        ({}, squares(), squares() * 8, "has a label 24; at most 20 proposals are allowed"),
        ({"matching": "id"}, squares(), squares() + np.uint8(1), "has a label 4 and gt 3 objects"),
        ({"frames": "inner"}, squares(2), squares(2), "'clip' has 2 frames; frames='inner' needs at least 3"),
    ],
)
def test_label_maps_that_cannot_be_compared_are_refused(options, gt, pred, message):
    with pytest.raises(InputError, match=message):
        scored(gt, pred, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "semisupervised"}, "unknown task 'semisupervised'; did you mean 'semi-supervised'"),
        ({"matching": "greedy"}, "unknown matching 'greedy'"),
        ({"void": "x"}, "unknown void 'x'"),
    ],
)
def test_unknown_rules_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Davis(**options)


def save(folder, maps):
    folder.mkdir(parents=True, exist_ok=True)
    for t, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{t:05d}.png")


@pytest.fixture
def tree(tmp_path):
    for name in ("cat", "dog"):
        save(tmp_path / "DAVIS/Annotations_unsupervised/480p" / name, squares())
        save(tmp_path / "results" / name, squares(shift=1))
    (tmp_path / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("dog\ncat\n")
    return tmp_path / "DAVIS", tmp_path / "results"


def test_a_tree_is_scored_in_the_order_of_its_list(tree):
    found = evaluate_davis(*tree)
    assert [id.partition("_")[0] for id in found.samples] == ["dog"] * 3 + ["cat"] * 3
    assert list(evaluate_davis(*tree, subset=["cat"]).samples) == ["cat_1", "cat_2", "cat_3"]


def test_the_tables_have_the_columns_of_the_reference(tree, tmp_path):
    found = evaluate_davis(*tree)
    write_davis_csv(found, tmp_path / "tables", subset="mine", digits=5)
    over = (tmp_path / "tables/global_results-mine.csv").read_text().splitlines()
    assert over[0] == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert over[1].split(",")[:2] == [f"{found.scores[name]:.5f}" for name in ("J&F", "J")]
    rows = (tmp_path / "tables/per-sequence_results-mine.csv").read_text().splitlines()
    assert rows[0] == "Sequence,J-Mean,F-Mean" and len(rows) == 7
    assert rows[1] == f"dog_1,{found.samples['dog_1']['J']:.5f},{found.samples['dog_1']['F']:.5f}"


def test_the_metric_that_gives_the_rules_is_left_as_it_was(tree):
    metric = Davis(matching="id")
    assert evaluate_davis(*tree, metric).protocol["matching"] == "id" and metric.state["samples"] == {}


def test_one_error_names_every_missing_frame(tree):
    root, results = tree
    for name in ("cat/00001", "dog/00003"):
        (results / f"{name}.png").unlink()
    (root / "Annotations_unsupervised/480p/cat/00004.png").unlink()
    (root / "JPEGImages/480p/cat").mkdir(parents=True)
    for t in range(5):
        (root / f"JPEGImages/480p/cat/{t:05d}.jpg").touch()
    with pytest.raises(DataError, match=r"3 label maps missing: .*cat/00004.png.*cat/00001.png.*dog/00003.png"):
        evaluate_davis(root, results)


def test_files_that_cannot_be_used_are_refused(tree):
    root, results = tree
    with pytest.raises(DataError, match="1 list of sequences missing"):
        evaluate_davis(root, results, subset="test")
    with pytest.raises(DataError, match=r"2 folders of annotations missing: .*Annotations/480p/cat"):
        evaluate_davis(root, results, Davis(task="semi-supervised"))
    with pytest.raises(DataError, match=r"\['cat', 'cat'\] names no sequence, or one twice"):
        evaluate_davis(root, results, subset=["cat", "cat"])
    (root / "Annotations_unsupervised/480p/empty").mkdir()
    with pytest.raises(DataError, match=r"no annotation in .*empty; get the data set again"):
        evaluate_davis(root, results, subset=["empty"])
    with pytest.raises(InputError, match="processes is 0; expected 1 to"):
        evaluate_davis(root, results, processes=0)
    save(results / "cat", squares()[:1, :20])
    with pytest.raises(DataError, match=r"cat/00001.png is 40 x 60 pixels and .*00000.png is 20 x 60"):
        evaluate_davis(root, results)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(results / "cat/00000.png")
    with pytest.raises(DataError, match="is a picture of mode RGB; expected 8-bit, indexed or grey"):
        evaluate_davis(root, results)
    (results / "cat/00000.png").write_bytes(b"no picture")
    for processes in (1, 2):
        with pytest.raises(DataError, match="cannot be read as a picture"):
            evaluate_davis(root, results, processes=processes)


def test_scoring_needs_no_torch():
    code = "import sys; from leanseg.metrics import protocols as p; [getattr(p, n) for n in p.__all__]; "
    done = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0

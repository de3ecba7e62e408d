import json

import numpy as np
import pytest
from PIL import Image

from leanseg.errors import DataError, InputError
from leanseg.metrics.protocols import Davis, RefDavis, evaluate_davis, evaluate_ref_davis, merge_objects, text_sets
from leanseg.metrics.protocols.ref_davis import ANNOTATORS


def maps(shift=0, labels=(1, 2)):
    clip = np.zeros((4, 30, 40), np.uint8)
    for t in range(4):
        for n, label in enumerate(labels):
            clip[t, 3 + 14 * n : 12 + 14 * n, 5 + 3 * t + shift : 15 + 3 * t + shift] = label
    return clip


def measured(shifts=(0, 1, 2, 3), **options):
    metric = RefDavis(**options)
    for run, shift in zip(metric.runs, shifts, strict=False):
        metric.update(run, "dogs", maps(), maps(shift))
    return metric


def test_the_score_is_the_mean_over_four_annotators():
    result = measured().compute()
    alone = []
    for shift in range(4):
        metric = Davis()
        metric.update("dogs", maps(), maps(shift))
        alone.append(metric.compute().scores)
    for name in ("J&F", "J", "F", "J-Recall", "F-Decay"):
        assert result.scores[name] == pytest.approx(np.mean([scores[name] for scores in alone]), abs=1e-15)
    assert [result.samples[run] for run in ANNOTATORS] == alone
    assert result.samples["anno_2/dogs_1"]["J"] < 1.0 == result.samples["anno_0/dogs_1"]["J"]
    assert result.to_json()["protocol"] == {
        "passes": "four_annotators", "matching": "hungarian", "frames": "all", "void": "ignore",
        "objects": "first_frame", "max_proposals": 20, "tolerance": 0.008,
    }  # fmt: skip


def test_a_single_pass_says_that_it_is_one():
    result = measured(passes="single_pass").compute()
    assert result.protocol["passes"] == "single_pass" and result.scores["J&F"] == 1.0
    assert set(result.samples) == {"single", "single/dogs_1", "single/dogs_2"}


def test_mixed_up_descriptions_cost_only_where_ids_are_strict():
    for matching, expected in (("hungarian", 1.0), ("id", 0.0)):
        metric = RefDavis(passes="single_pass", matching=matching)
        metric.update("single", "dogs", maps(), maps(labels=(2, 1)))
        assert metric.compute().scores["J"] == expected


def test_runs_may_be_split_and_merged_in_any_order():
    whole = measured()
    parts = [RefDavis(), RefDavis()]
    for n in (3, 0, 2, 1):
        parts[n % 2].update(f"anno_{n}", "dogs", maps(), maps(n))
    restored = RefDavis.from_state(json.loads(json.dumps(parts[0].state)))
    restored.merge(parts[1])
    assert restored.compute().to_json() == whole.compute().to_json()


def test_incomplete_runs_are_refused():
    metric = measured()
    metric.update("anno_1", "cats", maps(), maps())
    with pytest.raises(InputError, match=r"not measured: anno_0/cats_1, anno_0/cats_2, anno_2/cats_1, .*same objects"):
        metric.compute()
    with pytest.raises(InputError, match="RefDavis has seen no sample"):
        RefDavis().compute()


def test_unknown_runs_and_passes_are_refused():
    with pytest.raises(InputError, match="unknown run 'anno_4'; did you mean"):
        RefDavis().update("anno_4", "dogs", maps(), maps())
    with pytest.raises(InputError, match="unknown passes 'five'"):
        RefDavis(passes="five")
    with pytest.raises(InputError, match="unknown matching 'x'"):
        RefDavis(matching="x")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_tree_of_four_runs_is_scored(tmp_path, processes):
    def save(folder, clip):
        folder.mkdir(parents=True)
        for t, labels in enumerate(clip):
            Image.fromarray(labels).save(folder / f"{t:05d}.png")

    save(tmp_path / "DAVIS/Annotations_unsupervised/480p/dogs", maps())
    for n, run in enumerate(ANNOTATORS):
        save(tmp_path / run / "dogs", maps(n))
    found = evaluate_ref_davis(tmp_path / "DAVIS", tmp_path, subset=["dogs"], processes=processes)
    assert found.to_json() == measured().compute().to_json()
    single = RefDavis(passes="single_pass")
    once = evaluate_ref_davis(tmp_path / "DAVIS", tmp_path / "anno_3", single, subset=["dogs"], processes=processes)
    assert once.scores == evaluate_davis(tmp_path / "DAVIS", tmp_path / "anno_3", subset=["dogs"]).scores
    (tmp_path / "anno_2/dogs/00001.png").unlink()
    with pytest.raises(DataError, match=r"1 label maps missing: .*anno_2/dogs/00001.png"):
        evaluate_ref_davis(tmp_path / "DAVIS", tmp_path, subset=["dogs"])


def test_objects_merge_by_three_rules():
    p = np.array([[[0.4, 0.9, 0.5, 0.05, 0.6]], [[0.45, 0.8, 0.5, 0.05, 0.6]]])
    # Below 0.5 nothing counts, and ties go to the lower label.
    assert merge_objects(p, "referformer").tolist() == [[0, 1, 1, 0, 1]]
    # The background is (1 - p1)(1 - p2): 0.33 and 0.25 lose to less than 0.5 and to 0.5.
    assert merge_objects(p, "instructseg").tolist() == [[2, 1, 1, 0, 1]]
    assert merge_objects(p, "overwrite").tolist() == [[0, 2, 0, 0, 2]]
    assert merge_objects(np.zeros((1, 2, 3, 4))).shape == (2, 3, 4) and merge_objects(p).dtype == np.uint8


@pytest.mark.parametrize(
    ("maps", "rule", "message"),
    [
        (np.zeros((2, 2)), "referformer", r"probabilities is float64 \(2, 2\); expected \(N, ..., H, W\)"),
        (np.zeros((0, 2, 2)), "referformer", "N = 1 to 254 objects"),
        (np.full((1, 2, 2), -3.0), "referformer", r"values outside 0..1; apply the sigmoid first"),
        (np.full((1, 2, 2), np.nan), "referformer", r"values outside 0..1"),
        (np.zeros((1, 2, 2)), "softmax", "unknown rule 'softmax'"),
    ],
)
def test_what_cannot_be_merged_is_refused(maps, rule, message):
    with pytest.raises(InputError, match=message):
        merge_objects(maps, rule)


def test_expressions_fall_into_text_sets():
    names = [str(n) for n in range(12)]
    assert text_sets(names[::-1]) == [["0", "4", "8"], ["1", "5", "9"], ["2", "6", "10"], ["3", "7", "11"]]
    for wrong in ([], names[:6], ["1", "2", "3", "4"]):
        with pytest.raises(InputError, match="expected 0 to 4 N - 1"):
            text_sets(wrong)

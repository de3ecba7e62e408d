"""Mode "paper": the closed forms of the supplement's section A.2."""

from __future__ import annotations

import json

import pytest
from tests.golden_cases import cases

from leanseg import costs


def _name(label: str) -> str:
    return label.lower().replace("-", "")


def _cost_of(row):
    return costs.instructseg(
        _name(row["dataset"]),
        row["V"],
        seq_reading=row["seq_reading"],
        teff=row["teff"],
        vision_times_frames=row["vision_times_F"],
        temporal_on_images=row["temporal_on_images"],
    )


@pytest.mark.golden
@pytest.mark.parametrize("path", cases("evtp", "tflops*.json"))
def test_every_row_of_every_reading_is_reproduced(path):
    rows = json.loads(path.read_text())
    assert rows
    wrong = []
    for row in rows:
        cost = _cost_of(row)
        counts = dict(cost.counts)
        expected = {name: row[name] for name in counts}
        exact = counts == pytest.approx(expected, rel=1e-12, abs=0)
        if not exact or cost.total * 1e12 != pytest.approx(row["total"], rel=1e-12) or cost.sequence_length != row["S"]:
            wrong.append(row)
    assert not wrong


def test_the_default_is_a_fifth_of_the_tokens_of_refcoco():
    cost = costs.instructseg()
    assert (cost.dataset, cost.visual_tokens, cost.mode, cost.frames) == ("refcoco", 146, "paper", 1)
    assert cost == costs.instructseg("refcoco", keep_ratio=0.2)
    assert cost.text_tokens == 15
    assert cost.sequence_length == 15 + 100 + 146
    assert list(cost.parts) == ["lm", "vision", "prune", "mask", "temporal", "vmtf"]
    assert cost.total == pytest.approx(sum(cost.parts.values()))
    assert cost.flops == 2 * cost.total


@pytest.mark.parametrize(("ratio", "kept"), [(1, 729), (0.2, 146), (0.1, 73), (0.05, 36)])
def test_keep_ratios_give_the_papers_budgets(ratio, kept):
    assert costs.instructseg("refdavis", keep_ratio=ratio).visual_tokens == kept


@pytest.mark.parametrize("dataset", ["refcoco", "revos"])
def test_fewer_tokens_never_cost_more(dataset):
    totals = [costs.instructseg(dataset, kept).total for kept in range(1, 730)]
    assert totals == sorted(totals)


def _prune(**readings):
    return costs.instructseg("refyoutube", 146, **readings).parts["prune"] * 1e12


def test_clips_are_pruned_frame_by_frame_jointly_or_once():
    width, tokens, kept, frames = 2560, 729, 146, 4
    once = 2 * tokens * width + tokens * kept * width / 10 + kept * width
    assert _prune() == _prune(prune_reading="per_frame") == pytest.approx(frames * once)
    assert _prune(prune_reading="once") == _prune(seq_reading="V") == pytest.approx(once)
    joint = 2 * tokens * frames * width + tokens * frames * kept * frames * width / 10 + kept * frames * width
    assert _prune(prune_reading="joint") == pytest.approx(joint)


def test_pruning_can_be_free_where_nothing_is_pruned():
    assert costs.instructseg("refcoco", 729, prune_at_full=False).parts["prune"] == 0
    assert costs.instructseg("refcoco", 729).parts["prune"] > 0
    assert costs.instructseg("refcoco", 728, prune_at_full=False).parts["prune"] > 0


def test_mask_decoder_and_text_fusion_can_read_the_tokens_of_all_frames():
    one, all_frames = (costs.instructseg("revos", 36, mask_reading=reading).parts for reading in ("V", "VF"))
    same = costs.instructseg("revos", 144).parts
    assert all_frames["mask"] == same["mask"] > one["mask"]
    assert all_frames["vmtf"] == same["vmtf"] > one["vmtf"]


def test_images_are_the_same_under_readings_about_clips():
    plain = costs.instructseg("reasonseg", 146).parts
    for readings in ({"seq_reading": "V"}, {"vision_times_frames": False}, {"mask_reading": "VF"}):
        assert costs.instructseg("reasonseg", 146, **readings).parts == plain


def test_json_holds_every_figure_with_its_readings():
    document = costs.instructseg("mmconv", 73, teff="S").to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["readings"]["teff"] == "S"
    assert document["flops"] == 2 * document["total"]

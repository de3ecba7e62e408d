"""The comparisons of stages: rows that fit together, controls, costs and overlaps that are what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine.vltp_training import learner, pictures, stage

from leanseg.costs import sam
from leanseg.engine.train.vltp.pool import make_pool
from leanseg.engine.vltp_rows.measure import UNPRUNED, guidance_of, measure, summarised
from leanseg.engine.vltp_rows.rows import BASE, HALF, ROWS, TUNINGS, Row
from leanseg.engine.vltp_rows.tables import KIND, TITLES, rows_table
from leanseg.errors import InputError
from leanseg.models.vltp.encoders import ENCODERS

HALVES = ((1, 0.5), (3, 0.5))


def test_every_row_has_a_model_a_table_and_a_name_of_its_own() -> None:
    known = {BASE, HALF} | {each.name for each in TUNINGS}
    assert {row.model for row in ROWS} == known and {row.table for row in ROWS} == set(TITLES)
    assert len({row.name for row in ROWS}) == len(ROWS) and ROWS[0].name == UNPRUNED
    assert all(each.method in ENCODERS for each in TUNINGS)


def test_rows_measure_what_the_model_answers_and_what_it_costs() -> None:
    model = learner(stage("prune")).model.eval()
    pool = make_pool(model, pictures(3, texts=1))
    row = Row(table="rates", label="half", model=HALF, stages=HALVES)
    measured = measure(model, pool, row)
    for picture, (shared, both) in zip(pool.pictures, measured["overlaps"], strict=True):
        mask = model.segment(picture.image, picture.texts[0], stages=HALVES).masks[0]
        assert abs(int((mask & picture.targets[0]).sum()) - shared) <= 3
        assert abs(int((mask | picture.targets[0]).sum()) - both) <= 3
    whole = measure(model, pool, replace(row, label="none", stages=()))
    assert whole["gmac"] == pytest.approx(1e3 * sam(model.config.sam, stages={}, mode="exact").total, rel=0.2)
    assert measured["gmac"] != whole["gmac"]


@pytest.mark.parametrize("changes", [{"pruner": "evtp"}, {"reactivate": False}, {"guidance": "shuffled at stages"}])
def test_choices_of_a_row_change_its_answers(changes: dict[str, object]) -> None:
    model = learner(stage("prune")).model.eval()
    pool = make_pool(model, pictures(4, texts=1))
    row = Row(table="rates", label="half", model=HALF, stages=((1, 0.3), (3, 0.3)))
    own, other = measure(model, pool, row), measure(model, pool, replace(row, **changes))  # type: ignore[arg-type]
    assert own["overlaps"] != other["overlaps"]


def test_controls_say_whose_guidance_is_told_to_whom() -> None:
    own = torch.arange(3.0)[:, None]
    assert all(torch.equal(each, own) for each in guidance_of(own, "own"))
    assert all(not each.any() for each in guidance_of(own, "zero"))
    assert all(torch.equal(each, own.roll(1, 0)) for each in guidance_of(own, "shuffled"))
    with pytest.raises(InputError, match="shuffled"):
        guidance_of(own, "shuffle")


def test_summaries_are_paired_and_tables_show_them() -> None:
    common = {"label": "no pruning", "table": "training", "gmac": 2.0}
    overlaps = [(5, 10), (9, 10), (0, 0)]
    rows = summarised([
        {**common, "name": UNPRUNED, "overlaps": overlaps},
        {**common, "name": "x", "label": "worse", "overlaps": [(shared // 2, both) for shared, both in overlaps]},
    ])  # fmt: skip
    assert rows[0]["giou"] == pytest.approx(np.mean([0.5, 0.9, 1.0]), abs=1e-4) and rows[0]["loss"] == 0
    assert rows[1]["loss"] == pytest.approx(np.mean([0.3, 0.5, 0.0]), abs=1e-4)
    assert rows[0]["ciou"] == 0.7
    table = rows_table("training")({"kind": KIND, "rows": rows})
    assert "| worse | 2.00 | 0.533 (" in table and len(table.splitlines()) == 4

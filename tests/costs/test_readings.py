"""What a wrong request for a cost is told."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from leanseg import costs
from leanseg.errors import BudgetError, InputError, LeansegError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dataset": "refcocoo"}, r"unknown data set 'refcocoo'; did you mean 'refcoco'"),
        ({"mode": "papper"}, r"unknown mode 'papper'; did you mean 'paper'"),
        ({"seq_readin": "V"}, r"unknown reading 'seq_readin'; did you mean 'seq_reading'"),
        ({"cached": True}, r"unknown reading 'cached'"),
        ({"mode": "exact", "teff": "T"}, r"unknown reading 'teff'"),
        ({"seq_reading": "FV"}, r"unknown seq_reading 'FV'"),
        ({"teff": 7}, r"teff is 7; expected text such as 'T'"),
        ({"prune_reading": "each"}, r"unknown prune_reading 'each'"),
        ({"mask_reading": "S"}, r"unknown mask_reading 'S'"),
        ({"vision_times_frames": 1}, r"vision_times_frames is 1; expected True or False"),
        ({"mode": "exact", "cached": "no"}, r"cached is 'no'; expected True or False"),
        ({"mode": "exact", "site": "inside"}, r"unknown site 'inside'"),
        ({"mode": "exact", "selection": "kcentre"}, r"unknown selection 'kcentre'"),
        ({"mode": "exact", "text_tokens": -1}, r"text_tokens is -1; expected 0 to 100000"),
        ({"mode": "exact", "template_tokens": 1.5}, r"template_tokens is 1.5; expected a whole number"),
        ({"mode": "exact", "instructions": 0}, r"instructions is 0; expected 1 to"),
        ({"mode": "exact", "instructions": None}, r"instructions is None; expected a whole number"),
        ({"mode": "exact", "instructions": True}, r"instructions is True"),
        ({"mode": "exact", "instructions": 2, "cached": False}, r"instructions=2 with cached=False"),
        ({"mode": "exact", "sizes": "nano"}, r"sizes is str .*expected an InstructSegConfig"),
    ],
)
def test_a_wrong_name_or_option_is_named(arguments, said):
    with pytest.raises(InputError, match=said):
        costs.instructseg(**arguments)


@pytest.mark.parametrize("kept", [0, 730, -3, True])
def test_budgets_lie_between_one_and_all_tokens(kept):
    with pytest.raises(BudgetError, match="expected a whole number of 1 to 729 per frame"):
        costs.instructseg("refcoco", kept)


def test_a_count_and_a_ratio_contradict_each_other():
    with pytest.raises(BudgetError, match=r"visual_tokens=146 and keep_ratio=0\.2 are both given"):
        costs.instructseg("refcoco", 146, keep_ratio=0.2)


def test_a_ratio_is_checked_like_everywhere():
    with pytest.raises(BudgetError, match=r"for 20 % write 0\.2"):
        costs.instructseg("refcoco", keep_ratio=20)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"layers": 0}, "size layers is 0; expected a positive number such as 32"),
        ({"swin_mlp_ratio": float("nan")}, "size swin_mlp_ratio is nan"),
        ({"swin_depths": (2, 2)}, r"size swin_depths is \(2, 2\); expected four numbers"),
        ({"swin_depths": (2, 2, 0, 2)}, "size swin_depths is"),
    ],
)
def test_impossible_sizes_are_refused(sizes, said):
    with pytest.raises(InputError, match=said):
        costs.Sizes(**sizes)


def test_costs_are_values():
    cost = costs.instructseg("revos", 36)
    assert pickle.loads(pickle.dumps(cost)) == cost
    assert hash(cost) == hash(costs.instructseg("revos", 36))
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.mode = "exact"
    assert issubclass(InputError, LeansegError)

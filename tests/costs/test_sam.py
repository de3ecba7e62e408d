"""SAM with stages: mode "paper" against the paper's tables, mode "exact" against what torch counts on real blocks."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from leanseg import costs
from leanseg.core import Grid
from leanseg.costs import SamSizes, sam_exact
from leanseg.costs.sam_published import PUBLISHED
from leanseg.errors import BudgetError, InputError
from leanseg.models.sam import config
from leanseg.models.sam.image_encoder import ImageEncoder
from leanseg.models.sam.mask_decoder import MaskDecoder
from leanseg.models.sam.prompt_encoder import PromptEncoder
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder
from leanseg.pruners import MaxNorm
from leanseg.pruners.staged.vltp import LearnedPruner

ROWS = {f"table {row.table} {row.size} {row.stages} {row.printed}": row for row in PUBLISHED}


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.follows_rule])
def test_the_papers_rule_gives_its_tables(name: str):
    row = ROWS[name]
    # Table 8 prints other figures for the same stages on other data sets, so that no closed form gives them all.
    assert row.by_rule == pytest.approx(row.printed, rel=0.012 if row.remark else 0.0061)


def test_eight_printed_rows_fit_to_the_last_digits():
    close = [row for row in PUBLISHED if row.stages and row.follows_rule and abs(row.by_rule / row.printed - 1) < 5e-4]
    assert len(close) == 8


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.follows_rule])
def test_rows_that_the_rule_does_not_give(name: str):
    row = ROWS[name]
    assert abs(row.by_rule / row.printed - 1) > 0.025
    # What would have been printed for other rates: {40, 60} % dropped, and {40, 50, 60} %.
    assert costs.sam("h", {8: 0.6, 16: 0.4}).total * 1e3 == pytest.approx(1783, rel=0.002)
    assert costs.sam("h", {8: 0.6, 16: 0.5, 24: 0.4}).total * 1e3 == pytest.approx(1853, rel=0.004)


@pytest.mark.parametrize(("printed", "share"), [(2232, 0.75), (1935, 0.65)], ids=["CTS", "SViT"])
def test_other_methods_of_table_7_are_a_share_of_all_blocks(printed: int, share: float):
    assert costs.sam("h", {0: share}).total * 1e3 == pytest.approx(printed, rel=5e-4)


def test_ratios_are_of_all_tokens_and_calls_are_extra():
    cost = costs.sam("h", {16: 0.5, 24: 0.5}, count_calls=True)
    assert cost.parts == pytest.approx({"encoder": 2.232, "prune": 0.012})
    assert (cost.total, cost.flops) == pytest.approx((2.244, 4.488))
    assert costs.sam() == costs.sam("h", {24: 0.2, 16: 0.2}, "paper")
    assert costs.sam("b", mode="exact").stages == ((6, 0.2), (9, 0.2))


def test_json_is_plain():
    document = costs.sam("l", {12: 0.5}, "exact", policy="stale_kv").to_json()
    assert document["stages"] == [{"after_block": 12, "keep_ratio": 0.5}]
    assert document["flops"] == 2 * document["total"]
    assert document["readings"] == {"policy": "stale_kv", "instructions": 1}
    assert list(document["parts"]) == ["patch", "window_blocks", "global_blocks", "rel_pos", "prune", "neck"]


def _counted(run: Any) -> tuple[float, Any]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 2, result


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_sizes_are_the_models(size: str):
    named = config.SamConfig.named(size)
    assert all(getattr(costs.SamSizes.of(size), each.name) == getattr(named, each.name) for each in fields(SamSizes))
    assert costs.sam(named, {}, "exact").counts == costs.sam(size, {}, "exact").counts


@pytest.mark.parametrize(("size", "total"), [("b", 486.038667264), ("l", 1492.840153088), ("h", 2980.541415424)])
def test_the_released_encoders_as_torch_counts_them(size: str, total: float):
    with torch.device("meta"):
        encoder = ImageEncoder(config.SamConfig.named(size))
        count, _ = _counted(lambda: encoder(torch.zeros(1, 3, 1024, 1024)))
    assert count == costs.sam(size, {}, "exact").total * 1e12 == pytest.approx(total * 1e9, rel=1e-15)


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_the_prune_decoder_as_torch_counts_it(size: str):
    sizes = config.SamConfig.named(size)
    with torch.device("meta"):
        decoder = PruneDecoder(sizes)
        given = (torch.zeros(1, 64, 64, sizes.width), torch.zeros(1, 256, 64, 64), torch.zeros(1, 1, 256))
        count, _ = _counted(lambda: decoder(*given, torch.zeros(1, 256, 64, 64)))
    assert count == sam_exact.prune_decoder(SamSizes.of(size))


@pytest.mark.parametrize("size", ["b", "l", "h", tiny_config()], ids=["b", "l", "h", "tiny"])
def test_the_mask_decoder_as_torch_counts_it(size: Any):
    sizes = config.SamConfig.named(size) if isinstance(size, str) else size
    side, dim = sizes.grid.height, sizes.dim
    with torch.device("meta"):
        decoder = MaskDecoder(sizes)
        image, place, sparse = torch.zeros(1, dim, side, side), torch.zeros(1, dim, side, side), torch.zeros(1, 1, dim)
        count, _ = _counted(lambda: decoder(image, place, sparse, image))
    assert count == sam_exact.mask_decoder(SamSizes.of(size))


@pytest.mark.parametrize("policy", sam_exact.POLICIES)
@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("stages", [{1: 0.4}, {1: 0.3, 3: 0.6}, {0: 0.05, 2: 1.0, 3: 0.2}])
def test_a_staged_encoder_as_torch_counts_it(stages: dict[int, float], window: int, policy: str):
    sam = tiny_sam(window=window)
    encoder = StagedEncoder.of(
        sam.image_encoder, [Stage(place, MaxNorm(keep_ratio=ratio)) for place, ratio in stages.items()], policy=policy
    )
    count, made = _counted(lambda: encoder(pixels(sam)))
    kept = [selection.indices[0].tolist() for selection in made.selections]
    parts = costs.sam(sam.config, stages, "exact", policy=policy, kept=kept).counts
    assert count == sum(value for name, value in parts if name != "prune")


def test_a_whole_pass_with_the_prune_decoder_and_several_instructions():
    sam = tiny_sam().requires_grad_(False)
    prompts = PromptEncoder(sam.config).requires_grad_(False)
    scorer = PruneScorer(PruneDecoder(sam.config), prompts).requires_grad_(False)
    pruner = LearnedPruner(keep_ratio=0.4, scorer=scorer)
    encoder = StagedEncoder.of(sam.image_encoder, [Stage(2, pruner)])
    positions, _ = _counted(lambda: prompts.image_pe(Grid(7, 7)))
    count, made = _counted(lambda: encoder(pixels(sam), torch.randn(3, 16)))
    each = [
        costs.sam(sam.config, {2: 0.4}, "exact", kept=[row.tolist()], instructions=3).total
        for row in made.selections[0].indices
    ]
    assert count - positions == pytest.approx(sum(each) * 1e12, rel=1e-12)


@pytest.mark.parametrize("window", [2, 3, 4])
@pytest.mark.parametrize("kept", [1, 2, 5])
def test_expected_windows_are_the_mean_over_all_choices(kept: int, window: int):
    from itertools import combinations

    side = 3
    every = [sam_exact.counted(side, window, chosen) for chosen in combinations(range(side**2), kept)]
    expected = sam_exact.uniform(side, window, kept)
    for each in fields(expected):
        mean = sum(getattr(one, each.name) for one in every) / len(every)
        assert getattr(expected, each.name) == pytest.approx(mean), each.name
    assert len(every) == math.comb(9, kept)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"mode": "real"}, InputError, "unknown mode 'real'"),
        ({"size": "huge"}, InputError, "unknown SAM size 'huge'"),
        ({"size": 3}, InputError, "size is int"),
        ({"size": "b"}, InputError, 'no figure for SAM of size b; expected h or l; ask for mode="exact"'),
        ({"stages": {32: 0.2}}, BudgetError, "after block 32; expected a whole number in 0..31"),
        ({"stages": {True: 0.2}}, BudgetError, "after block True"),
        ({"stages": {16: 80}}, BudgetError, "fraction of tokens to KEEP; for 80 % write 0.8"),
        ({"policy": "zero_kv"}, InputError, "policy belongs to mode exact"),
        ({"mode": "exact", "count_calls": True}, InputError, "count_calls belongs to mode paper"),
        ({"mode": "exact", "policy": "none"}, InputError, "unknown policy 'none'"),
        ({"mode": "exact", "instructions": 0}, InputError, "instructions is 0"),
        ({"mode": "exact", "stages": {16: 0.2}, "kept": [[5, 5]]}, BudgetError, "kept holds .1. different tokens"),
    ],
)
def test_what_cannot_be_counted_is_refused(given: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        costs.sam(**given)


def test_a_custom_size_is_called_so():
    assert costs.sam(tiny_config(), {2: 0.5}, "exact").size == "custom"

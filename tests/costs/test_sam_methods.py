"""SAM under each encoder method: the count against what torch counts while the method runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.baseline_cases import OPTIONS, STAGES, sams, weights
from tests.models.sam_fixtures import pixels, tiny_sam
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from leanseg import costs
from leanseg.costs import sam_methods
from leanseg.errors import BudgetError, InputError
from leanseg.models.sam.config import SamConfig
from leanseg.models.vltp.baselines.cts import CTSPolicy
from leanseg.models.vltp.baselines.dtop_head import TokenHead
from leanseg.models.vltp.baselines.svit import Gate
from leanseg.models.vltp.encoders import ENCODERS, pruned_encoder

SAMS = dict(sams())
# k-center computes as few distances as will do, by one engine or another; what it chose is run as any choice is.
SEEN = [method for method in ENCODERS if method not in ("evtp", "kcenter")]


def _counted(run: Any) -> tuple[float, Any]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 2, result


@pytest.mark.parametrize("name", SAMS)
@pytest.mark.parametrize("method", SEEN)
def test_every_method_as_torch_counts_it(method: str, name: str):
    sam, stages = SAMS[name].requires_grad_(False), STAGES.get(method, {1: 0.4, 2: 0.7})
    own = weights(method, sam, stages)
    if own is not None:
        own.requires_grad_(False)
    made = pruned_encoder(method, sam, stages, own, **OPTIONS.get(method, {}))
    guidance = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    count, output = _counted(lambda: made(3 * pixels(sam), guidance))
    kept = [mask[0].nonzero()[:, 0].tolist() for mask in output.kept]
    cost = costs.sam_method(sam.config, method, kept, list(stages))
    if method == "vltp":  # positions, which depend on nothing and are made twice here
        count -= 2 * _counted(lambda: sam.prompt_encoder.image_pe(sam.config.grid))[0]
    assert count == sum(value for _, value in cost.counts)
    assert cost.shares == tuple(len(tokens) / sam.config.grid.n_tokens for tokens in kept)


def test_every_encoder_method_can_be_counted():
    assert set(sam_methods.OWN_WORK) == set(ENCODERS)


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_networks_of_the_released_sizes_as_torch_counts_them(size: str):
    config, whole = SamConfig.named(size), [4096] * SamConfig.named(size).depth
    with torch.device("meta"):
        policy, _ = _counted(lambda: CTSPolicy(config)(torch.zeros(1, 3, 1024, 1024)))
        tokens, gate = torch.zeros(1, 64, 64, config.width), Gate(config.width)
        gated, _ = _counted(lambda: gate(tokens))
    head = TokenHead(config.width).requires_grad_(False)
    read, _ = _counted(lambda: head(torch.zeros(1, 100, config.width), torch.ones(1, 100, dtype=torch.bool)))

    def own(method: str, kept: Any, stages: list[int]) -> float:
        return dict(costs.sam_method(size, method, kept, stages).counts)["prune"]

    assert own("cts", whole, [0]) == policy
    assert own("svit", whole, [config.depth - 2]) == 2 * gated
    assert own("dtop", [100] * config.depth, [4]) == read
    assert own("dtop", [100] * config.depth, [0]) > 30 * read  # nobody has left yet


def test_stages_cost_what_the_staged_count_says():
    for policy in sam_methods.POLICIES:
        one = costs.sam("h", {16: 0.2, 24: 0.2}, "exact", policy=policy)
        other = costs.sam_method("h", "vltp", [4096] * 16 + [820] * 16, [24, 16], policy=policy)
        assert other.counts == one.counts


def test_the_papers_shares_at_vit_h():
    """Table 7's figures for CTS and SViT are a share of all blocks; exactly counted they are lower."""
    sharing = costs.sam_method("h", "cts", [3073] * 32, [0])
    assert sharing.total * 1e3 < 2232
    assert sharing.shares == (3073 / 4096,) * 32
    gated = [4096] * 8 + [2867] * 8 + [2007] * 8 + [1405] * 8
    assert costs.sam_method("h", "svit", gated, [8]).total * 1e3 < 1935


def test_json_is_plain():
    document = costs.sam_method(tiny_sam().config, "svit", [49, 20, [1, 2], 0], [1]).to_json()
    assert document["size"] == "custom"
    assert document["shares"] == [1.0, 20 / 49, 2 / 49, 0.0]
    assert document["flops"] == 2 * document["total"]
    assert list(document["parts"]) == ["patch", "window_blocks", "global_blocks", "rel_pos", "prune", "neck"]


def test_nothing_costs_where_nothing_is_done():
    whole = [49] * 4
    config = tiny_sam().config
    assert costs.sam_method(config, "random", whole, [1]).parts["prune"] == 0
    assert costs.sam_method(config, "evtp", whole, [1]).parts["prune"] == 0
    assert costs.sam_method(config, "evtp", [49, 10, 10, 10], [1]).counts[4] == ("prune", 49 * 10 * 26)
    assert costs.sam_method(config, "svit", whole).parts["prune"] == 0
    assert costs.sam_method(config, "random", whole).total == pytest.approx(costs.sam(config, {}, "exact").total)
    assert weights("random", tiny_sam()) is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"method": "cst"}, InputError, "unknown encoder method 'cst'; did you mean 'cts'"),
        ({"policy": "none"}, InputError, "unknown policy 'none'"),
        ({"kept": [49] * 3}, BudgetError, "for 3 blocks; expected 4 entries"),
        ({"kept": [49, 49, 49, 50]}, BudgetError, "a number up to 49"),
        ({"kept": [49, 49, 49, [3, 3]]}, BudgetError, "kept holds .49, 49, 49, 1. different tokens"),
        ({"kept": [49, 49, 49, [49]]}, BudgetError, "different tokens in 0..48"),
        ({"stages": [4]}, BudgetError, r"stages lie after blocks \[4\]; expected numbers in 0..3"),
    ],
)
def test_what_cannot_be_counted_is_refused(given: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        costs.sam_method(tiny_sam().config, **{"method": "random", "kept": [49] * 4, **given})

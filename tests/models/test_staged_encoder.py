"""The staged encoder: equal to a slow masked one, SAM itself where nothing is dropped, and really less work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam
from tests.models.staged_reference import masked_encoder
from torch import Tensor

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.errors import InputError, SpecError, TokensError
from leanseg.models.sam.image_encoder import Block
from leanseg.models.vltp import active
from leanseg.models.vltp.active import POLICIES, WindowLayout
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder
from leanseg.pruners import EVTP, MaxNorm, Random, ScorePruner, ToMe, Uniform
from leanseg.pruners.base import Pruner
from leanseg.pruners.staged.vltp import LearnedPruner


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@dataclass(frozen=True, kw_only=True)
class These(Pruner):
    """Keep the tokens of given numbers, one list per row."""

    indices: tuple[tuple[int, ...], ...] = ()

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        return Selection(torch.tensor(self.indices), tokens.n_tokens)


@dataclass(frozen=True, kw_only=True)
class Wanted(ScorePruner):
    """Score each token by guidance, which holds one number per token."""

    cues: ClassVar[tuple[str, ...]] = ("guidance",)

    def score(self, tokens: VisualTokens) -> Tensor:
        return tokens.guidance


def _blocks(grid: Grid, window: int = 3, depth: int = 4, seed: int = 0) -> list[Block]:
    """Return blocks of 12 channels in 2 heads, every second one over the whole map."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(depth):
        own = 0 if index % 2 else window
        block = Block(width=12, heads=2, hidden=20, window=own, side=max(grid.height, grid.width)).eval()
        for name, tensor in block.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.copy_(centre + 0.25 * torch.randn(tensor.shape, generator=generator))
        made.append(block)
    return made


def _tokens(grid: Grid, batch: int = 2, seed: int = 3) -> Tensor:
    return torch.randn((batch, grid.height, grid.width, 12), generator=torch.Generator().manual_seed(seed))


def _masks(selections: tuple[Selection, ...], places: list[int], grid: Grid) -> dict[int, Tensor]:
    pairs = zip(places, selections, strict=True)
    return {place: selection.mask().unflatten(1, (grid.height, grid.width)) for place, selection in pairs}


def _map(output: Any) -> Tensor:
    return output.embeddings.permute(0, 2, 3, 1)


GRIDS = [Grid(6, 6), Grid(7, 7), Grid(7, 5), Grid(4, 9), Grid(1, 5), Grid(2, 2)]


@pytest.mark.parametrize("by_count", [True, False], ids=["by count", "padded"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.height}x{grid.width}")
def test_equal_to_the_slow_masked_encoder(grid: Grid, policy: str, by_count: bool, monkeypatch: pytest.MonkeyPatch):
    real = WindowLayout.of
    monkeypatch.setattr(WindowLayout, "of", lambda *args, **kw: real(*args, **{**kw, "by_count": by_count}))
    blocks, tokens = _blocks(grid), _tokens(grid)
    stages = [Stage(1, Random(keep_ratio=0.55)), Stage(3, Random(keep_ratio=0.3, seed=5))]
    made = StagedEncoder(blocks, stages, policy=policy)(tokens)
    expected = masked_encoder(blocks, tokens, _masks(made.selections, [1, 3], grid), policy)
    torch.testing.assert_close(_map(made), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "indices",
    [((0,), (48,)), ((6, 13, 42, 48), (0, 1, 2, 3)), ((48, 47, 41, 40)[::-1], (3, 10, 20, 30))],
    ids=["one token", "edge columns", "the last corner"],
)
def test_tokens_at_the_edge_whose_windows_are_filled_up(indices: tuple[tuple[int, ...], ...], policy: str):
    grid = Grid(7, 7)
    blocks, tokens = _blocks(grid, depth=3), _tokens(grid)
    stage = Stage(0, These(keep_ratio=len(indices[0]) / 49, indices=indices))
    made = StagedEncoder(blocks, [stage], policy=policy)(tokens)
    expected = masked_encoder(blocks, tokens, _masks(made.selections, [0], grid), policy)
    torch.testing.assert_close(_map(made), expected, atol=1e-5, rtol=1e-5)


def test_windows_larger_than_the_map():
    grid = Grid(4, 3)
    blocks, tokens = _blocks(grid, window=8), _tokens(grid)
    made = StagedEncoder(blocks, [Stage(0, Random(keep_ratio=0.5))])(tokens)
    expected = masked_encoder(blocks, tokens, _masks(made.selections, [0], grid), "drop")
    torch.testing.assert_close(_map(made), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_dropped_is_sam_bit_for_bit(policy: str):
    sam = tiny_sam()
    picture = pixels(sam, batch=2)
    expected = sam.image_encoder(picture)
    for stages in (
        [],
        [Stage(2, Random(keep_ratio=1.0))],
        [Stage(1, Random(keep_ratio=1)), Stage(3, EVTP(keep_ratio=1))],
    ):
        made = StagedEncoder.of(sam.image_encoder, stages, policy=policy)(picture)
        assert torch.equal(made.embeddings, expected)
        assert all(selection.k == 49 for selection in made.selections)


def test_a_stage_may_follow_one_that_keeps_everything():
    grid = Grid(7, 5)
    blocks, tokens = _blocks(grid), _tokens(grid)
    stages = [Stage(1, Random(keep_ratio=0.4)), Stage(2, Random(keep_ratio=1.0)), Stage(3, Random(keep_ratio=0.7))]
    made = StagedEncoder(blocks, stages[::-1])(tokens)
    assert [selection.k for selection in made.selections] == [14, 35, 25]
    expected = masked_encoder(blocks, tokens, _masks(made.selections, [1, 2, 3], grid), "drop")
    torch.testing.assert_close(_map(made), expected, atol=1e-5, rtol=1e-5)


def test_ratios_are_of_all_tokens_and_what_is_dropped_is_counted():
    grid = Grid(8, 8)
    stages = [Stage(1, Random(keep_ratio=0.5)), Stage(2, Random(keep_ratio=0.3))]
    made = StagedEncoder(_blocks(grid), stages)(_tokens(grid))
    assert [selection.k for selection in made.selections] == [32, 20]


def test_frozen_tokens_come_back_and_are_left_untouched_until_then():
    grid = Grid(3, 4)
    blocks, tokens = _blocks(grid, depth=3), _tokens(grid, batch=1)
    first, second = (tuple(range(6)),), (tuple(range(6, 12)),)
    half = [Stage(0, These(keep_ratio=0.5, indices=first)), Stage(2, These(keep_ratio=0.5, indices=second))]
    early = StagedEncoder(blocks[:2], half[:1])(tokens)
    assert torch.equal(_map(early).flatten(1, 2)[:, 6:], tokens.flatten(1, 2)[:, 6:])
    assert not torch.isclose(_map(early).flatten(1, 2)[:, :6], tokens.flatten(1, 2)[:, :6]).any(dim=2).all()
    whole = StagedEncoder(blocks, half)(tokens)
    assert torch.equal(_map(whole).flatten(1, 2)[:, :6], _map(early).flatten(1, 2)[:, :6])
    assert not torch.equal(_map(whole).flatten(1, 2)[:, 6:], tokens.flatten(1, 2)[:, 6:])


def test_without_reactivation_a_later_stage_chooses_among_what_is_left():
    grid = Grid(3, 4)
    scores = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
    stages = [Stage(1, These(keep_ratio=0.5, indices=(tuple(range(6)),))), Stage(2, Wanted(keep_ratio=0.25))]
    blocks, tokens = _blocks(grid), _tokens(grid, batch=1)
    back = StagedEncoder(blocks, stages)(tokens, scores)
    assert back.selections[1].indices.tolist() == [[9, 10, 11]]
    gone = StagedEncoder(blocks, stages, reactivate=False)(tokens, scores)
    assert gone.selections[1].indices.tolist() == [[3, 4, 5]]
    larger = [stages[0], Stage(2, Wanted(keep_ratio=0.75))]
    assert StagedEncoder(blocks, larger, reactivate=False)(tokens, scores).selections[1].k == 6
    with pytest.raises(SpecError, match=r"random\(keep_ratio=0.5\) does not score tokens one by one"):
        StagedEncoder(blocks, [stages[0], Stage(2, Random(keep_ratio=0.5))], reactivate=False)


def test_a_row_of_a_batch_is_what_the_picture_gives_alone():
    grid = Grid(7, 7)
    blocks, tokens = _blocks(grid), _tokens(grid, batch=3)
    encoder = StagedEncoder(blocks, [Stage(1, MaxNorm(keep_ratio=0.4)), Stage(2, EVTP(keep_ratio=0.2))])
    together = encoder(tokens)
    for row in range(3):
        alone = encoder(tokens[row : row + 1])
        torch.testing.assert_close(together.embeddings[row : row + 1], alone.embeddings, atol=1e-5, rtol=1e-5)
        for both, one in zip(together.selections, alone.selections, strict=True):
            assert torch.equal(both.indices[row : row + 1], one.indices)


def test_the_shared_part_runs_once_for_all_instructions():
    sam = tiny_sam()
    encoder = StagedEncoder.of(sam.image_encoder, [Stage(2, Wanted(keep_ratio=0.5))])
    runs: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, index=index: runs.append(index))
        for index, block in enumerate(sam.image_encoder.blocks)
    ]
    state = encoder.prefix(pixels(sam))
    kept = state.tokens.clone()
    guidance = torch.randn(3, 49)
    one_by_one = [encoder.rest(state, guidance[row : row + 1]) for row in range(3)]
    assert runs == [0, 1]
    assert torch.equal(state.tokens, kept)
    together = encoder.rest(state, guidance)
    torch.testing.assert_close(
        together.embeddings, torch.cat([each.embeddings for each in one_by_one]), atol=1e-5, rtol=1e-5
    )
    for hook in hooks:
        hook.remove()


def test_several_instructions_of_several_pictures():
    grid = Grid(3, 4)
    blocks, tokens = _blocks(grid), _tokens(grid, batch=2)
    encoder = StagedEncoder(blocks, [Stage(1, Wanted(keep_ratio=0.25))])
    guidance, owner = torch.eye(12)[[11, 2, 7]] * 5 - torch.arange(12) / 100, torch.tensor([1, 0, 1])
    apart = encoder(tokens, guidance, owner=owner)
    assert apart.selections[0].indices.tolist() == [[0, 1, 11], [0, 1, 2], [0, 1, 7]]
    alone = encoder(tokens[:1], guidance[1:2])
    torch.testing.assert_close(apart.embeddings[1:2], alone.embeddings, atol=1e-5, rtol=1e-5)
    united = encoder(tokens, guidance, owner=owner, several="union")
    assert united.selections[0].indices.tolist() == [[0, 1, 2], [0, 7, 11]]
    assert united.embeddings.shape[0] == 2
    assert united.logits[0].shape == (3, 12)
    with pytest.raises(SpecError, match="does not score tokens, so that choices cannot be united"):
        StagedEncoder(blocks, [Stage(1, Random(keep_ratio=0.5))])(tokens, guidance, owner=owner, several="union")


@pytest.mark.parametrize("several", ["per_prompt", "union"])
def test_no_instruction_is_no_embedding(several: str):
    sam = tiny_sam()
    encoder = StagedEncoder.of(sam.image_encoder, [Stage(2, Wanted(keep_ratio=0.5))])
    made = encoder(pixels(sam, batch=2), torch.zeros(0, 49), several=several)
    assert made.embeddings.shape == (0, 16, 7, 7)
    assert (made.selections, made.logits) == ((), ())
    masks, _ = sam.masks(made.embeddings, torch.zeros(0, 1, 16))
    assert masks.shape == (0, 1, 28, 28)


def test_methods_that_need_no_guidance_run_without_it_and_others_say_so():
    grid = Grid(3, 4)
    made = StagedEncoder(_blocks(grid), [Stage(1, MaxNorm(keep_ratio=0.5))])(_tokens(grid))
    assert made.selections[0].k == 6
    with pytest.raises(TokensError, match="needs guidance, and the tokens carry no cue"):
        StagedEncoder(_blocks(grid), [Stage(1, Wanted(keep_ratio=0.5))])(_tokens(grid))


def test_frozen_work_is_skipped():
    """Linear layers see kept tokens only, and windows without one are not visited."""
    grid = Grid(9, 9)
    blocks, tokens = _blocks(grid, depth=1), _tokens(grid, batch=1)
    corner = tuple(9 * y + x for y in range(3) for x in range(3))
    rows: list[int] = []
    for layer in (blocks[0].attn.qkv, blocks[0].attn.proj, blocks[0].mlp.lin1, blocks[0].mlp.lin2):
        layer.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[:-1].numel()))
    layouts: list[WindowLayout] = []
    real = active.run_block
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "leanseg.models.vltp.staged_encoder.run_block",
            lambda block, kept, layout, frozen: (layouts.append(layout), real(block, kept, layout, frozen))[1],
        )
        StagedEncoder(blocks, [Stage(0, These(keep_ratio=9 / 81, indices=(corner,)))])(tokens)
    assert rows == [9, 9, 9, 9]
    assert [(group.queries.shape, group.keys.shape) for group in layouts[0].groups] == [((1, 9), (1, 9))]


def test_half_precision_runs():
    grid = Grid(7, 7)
    blocks = [block.bfloat16() for block in _blocks(grid)]
    for policy in POLICIES:
        made = StagedEncoder(blocks, [Stage(1, Uniform(keep_ratio=0.4))], policy=policy)(_tokens(grid).bfloat16())
        assert made.embeddings.dtype == torch.bfloat16
        assert bool(made.embeddings.isfinite().all())


def _learned(keep_ratio: float = 0.5) -> tuple[Any, LearnedPruner]:
    sam = tiny_sam()
    torch.manual_seed(0)
    return sam, LearnedPruner(keep_ratio=keep_ratio, scorer=PruneScorer(PruneDecoder(sam.config), sam.prompt_encoder))


@torch.enable_grad()
def test_gradients_reach_the_prune_decoder_and_not_the_encoder():
    sam, pruner = _learned()
    sam.requires_grad_(False)
    encoder = StagedEncoder.of(sam.image_encoder, [Stage(1, pruner), Stage(3, pruner)])
    made = encoder(pixels(sam, batch=2), torch.randn(2, 16))
    assert not made.embeddings.requires_grad
    sum(logits.sum() for logits in made.logits).backward()
    assert all(parameter.grad is not None for parameter in pruner.scorer.decoder.input_neck.parameters())
    assert all(parameter.grad is None for parameter in sam.parameters())


def test_one_scorer_serves_all_stages_and_owns_only_its_decoder():
    _, pruner = _learned()
    assert {name.partition(".")[0] for name in pruner.scorer.state_dict()} == {"decoder"}
    tokens = VisualTokens(features=torch.randn(2, 49, 24), grid=Grid(7, 7), guidance=torch.randn(2, 16))
    assert pruner(tokens).k == 25
    assert torch.equal(pruner(tokens).indices, pruner.at(tokens, 25).indices)
    assert pruner.spec() == "vltp(keep_ratio=0.5)"
    with pytest.raises(TokensError, match="guidance is 8 wide; expected 16"):
        pruner(VisualTokens(features=torch.randn(1, 49, 24), grid=Grid(7, 7), guidance=torch.randn(1, 8)))
    with pytest.raises(TokensError, match="needs guidance"):
        pruner(VisualTokens(features=torch.randn(1, 49, 24), grid=Grid(7, 7)))
    with pytest.raises(SpecError, match="scorer is 3; expected a module"):
        LearnedPruner(keep_ratio=0.5, scorer=3)


def test_a_prune_decoder_can_start_from_sams_mask_decoder():
    sam, pruner = _learned()
    decoder = pruner.scorer.decoder
    decoder.init_from_mask_decoder(sam.mask_decoder)
    for name, tensor in sam.mask_decoder.transformer.state_dict().items():
        assert torch.equal(decoder.transformer.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="transformer has other sizes"):
        PruneDecoder(tiny_config(decoder_hidden=8)).init_from_mask_decoder(sam.mask_decoder)


def test_the_released_prune_decoder_has_its_number_of_parameters():
    from leanseg.models.sam.config import SIZES

    with torch.device("meta"):
        counts = {size: sum(each.numel() for each in PruneDecoder(SIZES[size]).parameters()) for size in SIZES}
    assert counts == {"b": 4_078_976, "l": 4_144_512, "h": 4_210_048}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(-1, Uniform(keep_ratio=0.5)), "after_block is -1; expected a whole number of blocks"),
        (lambda: Stage(True, Uniform(keep_ratio=0.5)), "after_block is True"),
        (lambda: Stage(1, "evtp"), "the stage after block 1 has no pruner but 'evtp'"),
        (lambda: Stage(1, ToMe(keep_ratio=0.5)), "merges tokens, and a stage freezes them"),
        (lambda: _staged(4), r"stages lie after blocks \[4\]; expected different ones in 0..3"),
        (lambda: _staged(1, 1), r"stages lie after blocks \[1, 1\]"),
        (lambda: _staged(1, policy="keep"), "unknown policy 'keep'"),
    ],
)
def test_stages_that_cannot_be_are_refused(make: Any, message: str):
    with pytest.raises(SpecError, match=message):
        make()


def _staged(*places: int, **options: Any) -> StagedEncoder:
    return StagedEncoder(_blocks(Grid(3, 3)), [Stage(place, Uniform(keep_ratio=0.5)) for place in places], **options)


def test_embeddings_that_belong_to_no_picture_are_refused():
    encoder = _staged(1)
    state = encoder.prefix(_tokens(Grid(3, 3)))
    with pytest.raises(TokensError, match=r"3 .SEG. embeddings came for 2 pictures"):
        encoder.rest(state, torch.zeros(3, 4))
    for owner in (torch.tensor([0, 1, 2]), torch.tensor([0, 1])):
        with pytest.raises(TokensError, match="owner names the pictures"):
            encoder.rest(state, torch.zeros(3, 4), owner=owner)
    with pytest.raises(InputError, match=r"1 of 2 pictures have a .SEG. embedding"):
        encoder.rest(state, torch.zeros(1, 4), owner=torch.tensor([1]), several="union")
    with pytest.raises(SpecError, match="unknown mode for several"):
        encoder.rest(state, torch.zeros(2, 4), several="each")

"""All encoder methods alike: equal to a slow masked encoder, SAM itself where nothing is dropped, called in one way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.baseline_cases import OPTIONS, STAGES, UNGUIDED, encoder, masked_blocks, sams, weights
from tests.models.sam_fixtures import pixels, tiny_sam

from leanseg.core import Grid, VisualTokens
from leanseg.errors import InputError, SpecError, TokensError
from leanseg.models.vltp.active import POLICIES, run_blocks
from leanseg.models.vltp.encoders import ENCODERS, encoder_method, encoder_weights, pruned_encoder
from leanseg.models.vltp.losses import patch_coverage, patch_labels
from leanseg.pruners.staged.guidance_similarity import GuidanceSimilarity

SAMS = dict(sams())
STAGED = [method for method in ENCODERS if method not in UNGUIDED]


def _guidance(rows: int = 2, width: int = 16) -> torch.Tensor:
    return torch.randn((rows, width), generator=torch.Generator().manual_seed(8))


@torch.inference_mode()
@pytest.mark.parametrize("name", SAMS)
@pytest.mark.parametrize(("method", "policy"), [(method, policy) for method in STAGED for policy in POLICIES])
def test_methods_at_stages_equal_the_slow_masked_encoder(method: str, policy: str, name: str):
    sam = SAMS[name]
    made = encoder(method, sam, {1: 0.55, 3: 0.3}, policy=policy)(pixels(sam, batch=2), _guidance())
    n_tokens = sam.config.grid.n_tokens
    counts = [n_tokens, n_tokens - int(0.45 * n_tokens), n_tokens - int(0.7 * n_tokens + 1e-9)]
    assert [int(mask[0].sum()) for mask in made.kept] == [counts[0], counts[1], counts[1], counts[2]]
    tokens = masked_blocks(sam, sam.image_encoder.embed(pixels(sam, batch=2)), made.kept, policy)
    torch.testing.assert_close(made.embeddings, sam.image_encoder.to_embedding(tokens), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", SAMS)
@pytest.mark.parametrize("method", ["dtop", "svit"])
def test_counts_that_differ_between_pictures_equal_the_slow_masked_encoder(method: str, name: str):
    sam = SAMS[name]
    picture = 3 * pixels(sam, batch=3)
    made = encoder(method, sam)(picture)
    tokens = masked_blocks(sam, sam.image_encoder.embed(picture), made.kept)
    torch.testing.assert_close(made.embeddings, sam.image_encoder.to_embedding(tokens), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("method", ["dtop", "svit"])
def test_the_case_above_drops_some_tokens_and_not_all(method: str):
    sam = tiny_sam()
    made = encoder(method, sam)(3 * pixels(sam, batch=3))
    counts = torch.stack([mask.sum(dim=1) for mask in made.kept])
    assert bool(((counts > 0) & (counts < 49)).any())
    assert len(counts[-1].unique()) > 1
    assert made.selections == ()


@torch.inference_mode()
@pytest.mark.parametrize("name", SAMS)
@pytest.mark.parametrize("method", ENCODERS)
def test_nothing_dropped_is_sam_bit_for_bit(method: str, name: str):
    sam = SAMS[name]
    picture = pixels(sam, batch=2)
    stages = dict.fromkeys(STAGES.get(method, {1: 1.0, 3: 1.0}), 1.0)
    own = weights(method, sam, stages)
    if method == "svit":
        for gate in own.gates:
            gate.layers[-1].weight.zero_()
            gate.layers[-1].bias.copy_(torch.tensor([1.0, -1.0]))
    options: dict[str, Any] = {"confidence": 1.0} if method == "dtop" else {}
    made = pruned_encoder(method, sam, stages, own, **options)(picture, _guidance())
    assert torch.equal(made.embeddings, sam.image_encoder(picture))
    assert all(bool(mask.all()) for mask in made.kept)
    assert len(made.kept) == 4


@torch.inference_mode()
@pytest.mark.parametrize("method", ENCODERS)
def test_several_instructions_of_several_pictures(method: str):
    sam = tiny_sam()
    made, picture = encoder(method, sam, **OPTIONS.get(method, {})), pixels(sam, batch=2)
    guidance, owner = _guidance(3), torch.tensor([1, 0, 1])
    state = made.prefix(picture)
    together = made.rest(state, guidance, owner=owner)
    assert together.embeddings.shape == (3, 16, 7, 7)
    assert all(mask.shape == (3, 49) for mask in together.kept)
    for row, place in enumerate(owner.tolist()):
        alone = made(picture[place : place + 1], guidance[row : row + 1])
        torch.testing.assert_close(together.embeddings[row : row + 1], alone.embeddings, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(both[row], one[0]) for both, one in zip(together.kept, alone.kept, strict=True))
        assert all(bool((each.mask() == alone.kept[-1]).any()) for each in alone.selections[-1:])
    assert made.rest(state, guidance[:0]).embeddings.shape == (0, 16, 7, 7)
    if method not in ("random", "evtp", "kcenter"):
        assert made.rest(state, guidance, owner=owner, several="union").embeddings.shape[0] == 2


@torch.inference_mode()
@pytest.mark.parametrize("method", UNGUIDED)
def test_what_no_instruction_steers_runs_once_per_picture(method: str):
    sam = tiny_sam()
    made, runs = encoder(method, sam), []
    hook = sam.image_encoder.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    state = made.prefix(pixels(sam))
    before = len(runs)
    first, second = made.rest(state, _guidance(1)), made.rest(state, _guidance(2))
    hook.remove()
    assert len(runs) == before
    assert torch.equal(first.embeddings[0], second.embeddings[1])
    assert torch.equal(first.embeddings, made.rest(state).embeddings)
    with pytest.raises(SpecError, match="unknown mode for several"):
        made.rest(state, _guidance(1), several="each")
    with pytest.raises(TokensError, match=r"2 .SEG. embeddings came for 3 pictures"):
        made(pixels(sam, batch=3), _guidance(2))
    with pytest.raises(InputError, match="rest got EncoderState of another encoder"):
        made.rest(encoder("random", sam).prefix(pixels(sam)))


@pytest.mark.parametrize("method", ENCODERS)
def test_losses_reach_a_methods_own_weights_and_nothing_else(method: str):
    sam = tiny_sam().requires_grad_(False)
    chosen, own = encoder_method(method), weights(method, sam)
    options = OPTIONS.get(method, {})
    if own is not None:
        own.train()
    torch.manual_seed(0)
    made = pruned_encoder(method, sam, STAGES.get(method), own, **options)(pixels(sam, batch=2), _guidance())
    masks = torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 3:20, 5:30] = True
    losses = chosen.losses(own, made, patch_coverage(masks, size=56, patch=8))
    if own is None:
        assert losses == {}
        return
    sum(losses.values()).backward()
    assert all(bool(value.isfinite()) and bool(value >= 0) for value in losses.values())
    reached = [parameter for parameter in own.parameters() if parameter.grad is not None and bool(parameter.grad.any())]
    assert len(reached) > 0.5 * len(list(own.parameters()))
    assert all(parameter.grad is None for parameter in sam.parameters())


@pytest.mark.parametrize("method", UNGUIDED)
def test_sams_own_weights_can_be_trained_through_the_method(method: str):
    sam = tiny_sam()
    sam.zero_grad()
    made = encoder(method, sam)(pixels(sam, batch=2))
    made.embeddings.square().sum().backward()
    first = sam.image_encoder.blocks[0]
    assert all(bool(parameter.grad.any()) for parameter in (first.attn.qkv.weight, first.mlp.lin1.weight))
    assert bool(sam.image_encoder.patch_embed.proj.weight.grad.any())


def test_the_share_of_a_patch_inside_the_mask_agrees_with_its_label():
    masks = torch.rand((3, 20, 31), generator=torch.Generator().manual_seed(2)) > 0.9
    masks[1] = False
    masks[2] = True
    coverage, labels = patch_coverage(masks, size=56, patch=7), patch_labels(masks, size=56, patch=7)
    assert torch.equal((coverage > 0).float(), labels)
    assert bool((coverage[1] == 0).all())
    assert bool((coverage[2].view(8, 8)[:5] == 1).all())


@torch.inference_mode()
def test_tokens_are_compared_with_guidance_in_its_own_width():
    sam = tiny_sam()
    made = encoder("guidance_similarity", sam, {2: 0.2})(pixels(sam), _guidance(1))
    tokens = run_blocks(
        sam.image_encoder.blocks[:2], sam.image_encoder.embed(pixels(sam)), torch.ones(1, 49, dtype=torch.bool)
    )
    necked = sam.image_encoder.neck[:2](tokens.permute(0, 3, 1, 2)).flatten(2)[0]
    cosines = torch.stack([torch.dot(necked[:, n], _guidance(1)[0]) / necked[:, n].norm() for n in range(49)])
    torch.testing.assert_close(made.logits[0][0], cosines / _guidance(1).norm(), atol=1e-5, rtol=1e-5)
    assert set(made.selections[0].indices[0].tolist()) == set(cosines.topk(10).indices.tolist())


def test_similarity_needs_guidance_of_its_width():
    tokens = VisualTokens(features=torch.eye(4)[None], grid=Grid(2, 2), guidance=torch.tensor([[0.0, 3.0, 1.0, 0.0]]))
    pruner = GuidanceSimilarity(keep_ratio=0.5)
    assert pruner(tokens).order.tolist() == [[1, 2]]
    assert pruner.count(7) == 4
    assert pruner.spec() == "guidance_similarity(keep_ratio=0.5)"
    with pytest.raises(TokensError, match="needs guidance"):
        pruner(VisualTokens(features=torch.eye(4)[None], grid=Grid(2, 2)))
    with pytest.raises(TokensError, match="features 4 wide with guidance 3 wide; give a projection"):
        pruner(VisualTokens(features=torch.eye(4)[None], grid=Grid(2, 2), guidance=torch.ones(1, 3)))
    with pytest.raises(SpecError, match="projection is 3; expected a module"):
        GuidanceSimilarity(keep_ratio=0.5, projection=3)


@pytest.mark.parametrize("method", ENCODERS)
@pytest.mark.parametrize("depth", [8, 12, 24, 32])
def test_own_stages_lie_inside_any_depth(method: str, depth: int):
    stages = encoder_method(method).stages(depth)
    assert stages and all(0 <= place < depth and 0 < ratio <= 1 for place, ratio in stages.items())
    assert encoder_method("svit").stages(12) == {3: 0.7, 6: 0.49, 9: 0.343}
    assert list(encoder_method("dtop").stages(24)) == [8, 16]


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("vlpt", {}, "unknown encoder method 'vlpt'; did you mean 'vltp'"),
        ("vltp", {}, "vltp has weights of its own, and none were given"),
        ("random", {"stages": {}}, r"random got stages after blocks \[\]; expected one at least"),
        ("random", {"stages": {4: 0.5}}, r"after blocks \[4\]; expected one at least, after blocks in 0..3"),
        ("random", {"confidence": 0.9}, "random: unknown option 'confidence'"),
        ("dtop", {"policy": "stale_kv"}, "dtop: unknown option 'policy'"),
        ("cts", {"stages": {2: 0.5}}, r"cts shares before the first block, and got stages after \[2\]"),
    ],
)
def test_what_cannot_be_made_is_refused(method: str, given: dict[str, Any], message: str):
    sam = tiny_sam()
    own = None if method in ("vltp", "vlpt") else weights(method, sam, given.get("stages") or None)
    with pytest.raises(SpecError, match=message):
        pruned_encoder(method, sam, weights=own, **given)


def test_random_draws_by_its_seed():
    sam = tiny_sam()
    kept = [encoder("random", sam, {1: 0.3}, seed=seed)(pixels(sam)).kept[1] for seed in (0, 0, 1)]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])
    assert encoder_weights("random", sam.config) is None


@torch.inference_mode()
@pytest.mark.parametrize("method", ENCODERS)
def test_half_precision_runs(method: str):
    sam = tiny_sam().bfloat16()
    own = weights(method, sam)
    own = own if own is None else own.bfloat16()
    made = pruned_encoder(method, sam, STAGES.get(method), own, **OPTIONS.get(method, {}))
    output = made(pixels(sam, batch=2).bfloat16(), _guidance().bfloat16())
    assert output.embeddings.dtype == torch.bfloat16
    assert bool(output.embeddings.isfinite().all())
    assert not all(bool(mask.all()) for mask in output.kept)

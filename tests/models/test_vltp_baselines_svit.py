"""SViT: a gate before each block, hard at test and with gradients in training."""

from __future__ import annotations

import pytest
import torch
from tests.models.baseline_cases import STAGES, weights
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam
from tests.models.staged_reference import masked_block

from leanseg.models.vltp.baselines.svit import SViTEncoder, SViTGates, budget_losses, straight_through


def _encoder(scale: float = 3.0) -> tuple[SViTEncoder, torch.Tensor]:
    sam = tiny_sam()
    return SViTEncoder(sam.image_encoder, weights("svit", sam, STAGES["svit"])), scale * pixels(sam, batch=3)


def _constant(encoder: SViTEncoder, index: int, logit: float) -> None:
    """Make a gate answer the same for every token."""
    last = encoder.gates.gates[index].layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([logit, 0.0]))


@torch.inference_mode()
def test_tokens_are_left_out_of_a_block_and_come_back():
    encoder, picture = _encoder()
    made = encoder(picture)
    kept = torch.stack(made.kept)
    assert bool(kept[0].all())
    assert bool((~kept[1] & kept[2]).any()) and bool((kept[1] & ~kept[2]).any())
    assert len(kept[1].sum(dim=1).unique()) > 1
    for logits, mask in zip(made.logits, made.kept[1:], strict=True):
        assert torch.equal(logits > 0, mask)


@torch.inference_mode()
def test_a_gate_may_let_nobody_through():
    encoder, picture = _encoder()
    _constant(encoder, 1, -1.0)
    made = encoder(picture)
    assert not bool(made.kept[2].any())
    assert made.selections == ()
    alone = encoder(picture[:1])
    assert [selection.k for selection in alone.selections][1] == 0
    tokens = encoder.encoder.embed(picture)
    for block, mask in zip(encoder.encoder.blocks, made.kept, strict=True):
        tokens = masked_block(block, tokens, mask.view(3, 7, 7), "drop")
    torch.testing.assert_close(made.embeddings, encoder.encoder.to_embedding(tokens), atol=1e-5, rtol=1e-5)


def test_training_and_test_agree_where_the_noise_decides_nothing(monkeypatch: pytest.MonkeyPatch):
    """The dense way of training gives what the gathered way of testing gives for the same decisions."""
    encoder, picture = _encoder()
    quiet = "leanseg.models.vltp.baselines.svit.straight_through"
    monkeypatch.setattr(quiet, lambda chances: (chances[..., 0] > chances[..., 1]).to(chances.dtype))
    expected = encoder(picture)
    encoder.gates.train()
    made = encoder(picture)
    assert all(torch.equal(one, other) for one, other in zip(made.kept, expected.kept, strict=True))
    torch.testing.assert_close(made.embeddings, expected.embeddings, atol=1e-5, rtol=1e-5)


def test_blocks_that_hide_tokens_equal_the_slow_masked_ones():
    sam = tiny_sam()
    tokens = sam.image_encoder.embed(pixels(sam, batch=2))
    kept = torch.rand((2, 7, 7), generator=torch.Generator().manual_seed(3)) > 0.6
    kept[0, :3, :3] = False  # a window whose tokens see nobody but themselves
    for block in sam.image_encoder.blocks[:2]:
        made = torch.where(kept[..., None], block(tokens, kept), tokens)
        torch.testing.assert_close(made, masked_block(block, tokens, kept, "drop"), atol=1e-5, rtol=1e-5)
        assert bool(block(tokens, kept).isfinite().all())
        assert torch.equal(block(tokens, torch.ones_like(kept)), block(tokens))


def test_a_token_that_is_left_out_is_what_it_would_be_if_it_took_part():
    sam = tiny_sam()
    block, tokens = sam.image_encoder.blocks[1], sam.image_encoder.embed(pixels(sam))
    kept = torch.rand((1, 7, 7), generator=torch.Generator().manual_seed(3)) > 0.5
    y, x = (~kept[0]).nonzero()[0].tolist()
    also = kept.clone()
    also[0, y, x] = True
    torch.testing.assert_close(block(tokens, kept)[0, y, x], block(tokens, also)[0, y, x], atol=1e-5, rtol=1e-5)


def test_decisions_are_hard_and_their_gradients_soft():
    chances = torch.tensor([[[0.7, 0.3], [0.2, 0.8]]]).log().expand(1, 2, 2).repeat(1, 4000, 1).requires_grad_(True)
    drawn = straight_through(chances, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # The larger of two noisy logarithms is a draw from the chances.
    assert drawn[0, ::2].mean().item() == pytest.approx(0.7, abs=0.025)
    assert drawn[0, 1::2].mean().item() == pytest.approx(0.2, abs=0.025)
    drawn.sum().backward()
    assert bool((chances.grad[..., 0] > 0).all()) and bool((chances.grad[..., 1] < 0).all())
    again = straight_through(chances, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_every_gate_is_reached_by_the_answer_in_training():
    encoder, picture = _encoder()
    encoder.gates.train()
    torch.manual_seed(0)
    encoder(picture).embeddings.square().sum().backward()
    for gate in encoder.gates.gates:
        assert all(bool(parameter.grad.any()) for parameter in gate.parameters())


def test_targets_follow_the_stages():
    gates = SViTGates(tiny_config(depth=12, global_blocks=(2, 5, 8, 11)), {3: 0.7, 6: 0.49, 9: 0.343})
    assert gates.targets == [0.7] * 3 + [0.49] * 3 + [0.343] * 3
    assert (gates.first, len(gates.gates)) == (3, 9)
    assert gates.gates[0].layers[1].out_features == 6


def test_the_budgets_loss():
    decisions = (torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.zeros(2, 2))
    assert budget_losses(decisions, [0.7, 0.5])["budget"].item() == pytest.approx(4 * (0.05**2 + 0.5**2) / 2)


def test_gates_learn_their_targets():
    sam = tiny_sam().requires_grad_(False)
    torch.manual_seed(0)
    gates = SViTGates(sam.config, {1: 0.6, 3: 0.3}).train()
    encoder, picture = SViTEncoder(sam.image_encoder, gates), pixels(sam, batch=4)
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.03)
    for _ in range(40):
        made = encoder(picture)
        loss = budget_losses(made.decisions, gates.targets)["budget"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gates.eval()
    shares = [mask.float().mean().item() for mask in encoder(picture).kept]
    assert shares[0] == 1.0
    assert shares[1] > shares[3]
    assert loss.item() < 0.05

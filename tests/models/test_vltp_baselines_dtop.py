"""DToP: heads between blocks, and tokens that leave once they are easy to tell."""

from __future__ import annotations

import pytest
import torch
from tests.models.baseline_cases import STAGES, weights
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam
from torch import Tensor

from leanseg.errors import SpecError, WeightsError
from leanseg.models.vltp.baselines.dtop import DToPEncoder, DToPHeads, chance, exits, head_losses
from leanseg.models.vltp.baselines.dtop_head import TokenHead, focal


def _encoder(confidence: float = 0.8) -> DToPEncoder:
    sam = tiny_sam()
    return DToPEncoder(sam.image_encoder, weights("dtop", sam, STAGES["dtop"]), confidence=confidence)


@torch.inference_mode()
def test_who_left_never_comes_back_and_keeps_its_features():
    encoder = _encoder()
    picture = 3 * pixels(tiny_sam(), batch=3)
    state = encoder.prefix(picture)
    made = state.output
    for earlier, later in zip(made.kept, made.kept[1:], strict=False):
        assert not bool((later & ~earlier).any())
    gone = ~made.kept[-1] & made.kept[1]
    assert bool(gone.any())
    after_first = encoder.encoder.blocks[0](encoder.encoder.embed(picture)).flatten(1, 2)
    left_at_once = ~made.kept[1]
    torch.testing.assert_close(state.tokens.flatten(1, 2)[left_at_once], after_first[left_at_once])
    stayed = made.kept[-1]
    assert bool((state.tokens.flatten(1, 2)[stayed] != after_first[stayed]).any(dim=1).all())


def _slow_exits(chances: list[float], left: list[bool], confidence: float) -> list[bool]:
    """Token by token, class by class, as the paper says it."""
    leaving = [False] * len(chances)
    for of_class in (lambda p: p, lambda p: 1 - p):
        sure = [n for n, p in enumerate(chances) if left[n] and of_class(p) > confidence]
        sure.sort(key=lambda n: (-of_class(chances[n]), n))
        for n in sure[5:]:
            leaving[n] = True
    return leaving


@torch.inference_mode()
@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.9, 1.0])
def test_the_surest_five_of_each_class_stay(confidence: float):
    generator = torch.Generator().manual_seed(1)
    # Few values, so that there are ties.
    chances = (torch.rand((4, 60), generator=generator, dtype=torch.float64) * 16).round() / 16
    left = torch.rand((4, 60), generator=generator) > 0.2
    found = exits(chances, left, confidence)
    for row in range(4):
        assert found[row].tolist() == _slow_exits(chances[row].tolist(), left[row].tolist(), confidence)
    assert bool(found.any()) == (confidence < 1)


def test_a_chance_is_that_of_presence_times_the_masks():
    chances = chance(torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([[0.0, 9e9], [-9e9, 0.0]]))
    assert chances.tolist() == [[0.25, 0.5], [0.0, 0.5]]


@torch.inference_mode()
def test_a_head_sees_who_is_left_and_nobody_else():
    head = weights("dtop", tiny_sam(), {1: 1.0}).heads[0]
    tokens, seen = torch.randn(3, 10, 24), torch.rand(3, 10) > 0.4
    seen[1] = True
    present, masks = head(tokens, seen)
    for row in range(3):
        alone = seen[row].nonzero()[:, 0]
        everything = torch.ones(1, len(alone), dtype=torch.bool)
        is_present, mask = head(tokens[row : row + 1, alone], everything)
        torch.testing.assert_close(present[row : row + 1], is_present, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(masks[row, alone], mask[0], atol=1e-5, rtol=1e-5)
        assert bool((masks[row, ~seen[row]] == 0).all())
    changed = tokens.clone()
    changed[~seen] = 7.0
    assert torch.equal(head(changed, seen)[1], masks)


@torch.inference_mode()
def test_a_head_is_the_decoder_layers_of_the_paper():
    """Written out for one head layer: post-norm, and masks that are the mean over parts of the scaled products."""
    torch.manual_seed(0)
    head = TokenHead(16, heads=2, layers=1).eval()
    tokens, layer = torch.randn(1, 5, 16), head.layers[0]
    given = head.reduce[1](tokens[0] @ head.reduce[0].weight.T + head.reduce[0].bias)
    query = head.query.weight
    attention = layer.self_attn  # of one query to itself: its value
    alone = attention.out_proj(attention.v_proj(query))
    query = layer.norm1(query + alone)
    q, k, v = layer.cross_attn.q_proj(query), layer.cross_attn.k_proj(given), layer.cross_attn.v_proj(given)
    scores = [q[:, part] @ k[:, part].T / 2 for part in (slice(0, 4), slice(4, 8))]
    read = torch.cat([score.softmax(1) @ v[:, 4 * i : 4 * i + 4] for i, score in enumerate(scores)], dim=1)
    query = layer.norm2(query + layer.cross_attn.out_proj(read))
    query = layer.norm3(query + layer.mlp(query))
    present, masks = head(tokens, torch.ones(1, 5, dtype=torch.bool))
    torch.testing.assert_close(masks, (scores[0] + scores[1]) / 2, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(present, head.present(query), atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_logits_of_who_left_stay_as_they_were():
    made = _encoder()(3 * pixels(tiny_sam(), batch=2))
    before, after, seen = made.logits[0], made.logits[1], made.seen[1]
    assert torch.equal(before[~seen], after[~seen])
    assert bool((before[seen] != after[seen]).all())
    assert torch.equal(made.seen[0], made.kept[0])
    assert torch.equal(made.seen[1], made.kept[2])


def test_losses_are_of_what_each_head_read():
    made = _encoder()(3 * pixels(tiny_sam(), batch=2))
    labels = (torch.arange(49) % 3 == 0).float().expand(2, 49).clone()
    labels[1] = 0
    losses = head_losses(made, labels)
    expected = 0.0
    for logits, seen in zip(made.logits, made.seen, strict=True):
        chances = logits.sigmoid()
        truth = torch.where(labels > 0, chances, 1 - chances)
        each = torch.where(labels > 0, 0.25, 0.75) * (1 - truth) ** 2 * -truth.log()
        expected = expected + 20 * each[seen].mean()
        torch.testing.assert_close(focal(logits, labels, seen), each[seen].mean())
    torch.testing.assert_close(losses["mask"], expected)
    wanted = -sum(present.log_softmax(1)[0, 0] + present.log_softmax(1)[1, 1] for present in made.present) / 2
    torch.testing.assert_close(losses["class"], wanted)
    other = labels.clone()
    other[:, ~made.seen[1].any(dim=0) & ~made.seen[0].any(dim=0)] = 1
    torch.testing.assert_close(head_losses(made, other)["dice"], losses["dice"])


def test_labels_behind_an_exit_do_not_reach_a_later_head():
    made = _encoder()(3 * pixels(tiny_sam(), batch=2))
    unseen = ~made.seen[1]
    assert bool(unseen.any())

    def last(labels: Tensor) -> Tensor:
        only = type(made)(made.embeddings, (), made.logits[1:], (), made.present[1:], made.seen[1:])
        losses = head_losses(only, labels)
        return losses["mask"] + losses["dice"]

    labels = torch.zeros(2, 49)
    labels[:, 0] = 1
    torch.testing.assert_close(last(labels), last(torch.where(unseen, 1 - labels, labels)))


def test_heads_and_confidence_that_cannot_be_are_refused():
    with pytest.raises(WeightsError, match="head is 12 wide, half of the tokens; expected a multiple of 8 heads"):
        DToPHeads(tiny_config(dim=32, decoder_heads=8), [1])
    heads = DToPHeads(tiny_config(), [3, 1])
    assert heads.places == (1, 3)
    for confidence in (0.3, 1.2):
        with pytest.raises(SpecError, match=f"confidence is {confidence}; expected 0.5 to 1"):
            DToPEncoder(tiny_sam().image_encoder, heads, confidence=confidence)

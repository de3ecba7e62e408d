"""Stages of InstructSeg at tiny size: rows, positions, batches, no tokens at all, gradients, kinds of numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models.instructseg_fixtures import assert_near, tiny_answer, tiny_model
from torch import Tensor

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.assembly import TokenSequence
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import IMAGE_ID, TEMPORAL_ID, Prompt
from leanseg.models.instructseg.resampler import Resampler
from leanseg.models.presets import PRESETS

CONFIG = PRESETS["tiny"]
WIDTH = CONFIG.language.hidden_size
N_TOKENS = CONFIG.vision.n_tokens


@pytest.fixture(scope="module")
def model() -> InstructSeg:
    return tiny_model()


@pytest.fixture
def prompt(model: InstructSeg) -> Prompt:
    return model.encode_prompt("referring", "the dog left of the red apple")


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _start(prompt: Prompt, n_temporal: int) -> int:
    """Return the row of the first image token."""
    ids = prompt.ids.tolist()
    assert ids.index(TEMPORAL_ID) < ids.index(IMAGE_ID)
    return ids.index(IMAGE_ID) - 1 + n_temporal


@torch.inference_mode()
def test_rows_stand_in_the_released_order(model: InstructSeg, prompt: Prompt):
    image, temporal = _random(N_TOKENS, WIDTH), _random(4, WIDTH, seed=1)
    sequence = model.assemble(prompt, image, temporal)
    start = _start(prompt, 4)
    assert torch.equal(sequence.embeds[start : start + N_TOKENS], image)
    assert torch.equal(sequence.embeds[start - 5 : start - 1], temporal)  # a line break stands between
    assert torch.equal(sequence.embeds[sequence.seg_rows], model.seg_query)
    assert torch.equal(sequence.embeds[sequence.refer_rows], model.embed(prompt.refer_ids))
    assert torch.equal(sequence.embeds[-1], model.embed(torch.tensor([prompt.eos_id]))[0])
    assert sequence.seg_rows[-1] == len(sequence.embeds) - 2
    assert sequence.position_ids.tolist() == list(range(len(sequence.embeds)))
    assert sequence.attend.sum() == len(sequence.embeds) - 1
    assert not sequence.attend[-1]


@torch.inference_mode()
def test_original_positions_are_those_without_pruning(model: InstructSeg, prompt: Prompt):
    image, temporal = _random(N_TOKENS, WIDTH), _random(4, WIDTH, seed=1)
    whole = model.assemble(prompt, image, temporal)
    kept = torch.tensor([1, 2, 9, 15])
    pruned = model.assemble(prompt, image[kept], temporal, kept, N_TOKENS, "original")
    rows = torch.cat(
        (
            torch.arange(_start(prompt, 4)),
            whole.image_rows[kept],
            torch.arange(int(whole.image_rows[-1]) + 1, len(whole.embeds)),
        )
    )
    assert torch.equal(pruned.position_ids, whole.position_ids[rows])
    assert torch.equal(pruned.embeds, whole.embeds[rows])
    compact = model.assemble(prompt, image[kept], temporal, kept, N_TOKENS, "compact")
    assert compact.position_ids.tolist() == list(range(len(rows)))


@torch.inference_mode()
def test_original_positions_change_the_answer_and_jumps_start_no_new_sequence(prompt: Prompt):
    model = tiny_model()
    for layer in model.language_model.layers:  # a fresh model attends almost evenly, so that positions hardly matter
        layer.self_attn.q_proj.weight.mul_(20)
        layer.self_attn.k_proj.weight.mul_(20)
    image, temporal = _random(N_TOKENS, WIDTH), _random(4, WIDTH, seed=1)
    kept = torch.tensor([1, 2, 9, 15])
    original = model.assemble(prompt, image[kept], temporal, kept, N_TOKENS, "original")
    states = model.language([original]).queries
    assert not torch.allclose(
        states, model.language([model.assemble(prompt, image[kept], temporal)]).queries, atol=1e-3
    )
    # With an explicit causal mask transformers has nothing to guess.
    length = len(original.embeds)
    mask = torch.full((length, length), float("-inf")).triu(1)[None, None]
    assert_near(states, model.language([original], mask).queries, 1e-5)
    other = model.assemble(prompt, _random(4, WIDTH, seed=3), temporal, kept, N_TOKENS, "original")
    assert not torch.allclose(states, model.language([other]).queries, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("position_ids", ["compact", "original"])
def test_no_image_and_no_temporal_tokens(model: InstructSeg, prompt: Prompt, position_ids: str):
    nothing = torch.zeros(0, WIDTH)
    sequence = model.assemble(prompt, nothing, nothing, None, N_TOKENS, position_ids)
    assert len(sequence.image_rows) == 0
    last = len(sequence.embeds) - 1 + (N_TOKENS if position_ids == "original" else 0)
    assert sequence.position_ids[-1] == last
    assert model.language([sequence]).queries.isfinite().all()
    assert model.temporal_tokens(torch.zeros(1, 0, WIDTH), prompt.refer_ids).shape == (CONFIG.ovp.num_queries, WIDTH)
    assert model.temporal_tokens(torch.zeros(0, 3, WIDTH), prompt.refer_ids).shape == (0, WIDTH)


def test_original_positions_need_the_indices(model: InstructSeg, prompt: Prompt):
    image, nothing = _random(3, WIDTH), torch.zeros(0, WIDTH)
    with pytest.raises(InputError, match="no kept indices for 3 of 16 image tokens; expected one index per token"):
        model.assemble(prompt, image, nothing, None, N_TOKENS, "original")
    with pytest.raises(InputError, match="unknown position_ids 'orignal'; did you mean 'original'"):
        model.assemble(prompt, image, nothing, None, N_TOKENS, "orignal")


def test_a_prompt_with_a_placeholder_twice(model: InstructSeg, prompt: Prompt):
    doubled = replace(prompt, ids=torch.cat((prompt.ids, torch.tensor([IMAGE_ID]))))
    with pytest.raises(InputError, match="the prompt holds <image> 2 times; expected once; use build_prompt"):
        model.assemble(doubled, _random(3, WIDTH), _random(0, WIDTH))


def _sequences(model: InstructSeg) -> list[TokenSequence]:
    instructions = ("the dog", "the dog left of the red apple", "a")
    prompts = [model.encode_prompt("referring", instruction) for instruction in instructions]
    return [
        model.assemble(prompt, _random(5 + row, WIDTH, seed=row), _random(4, WIDTH, seed=9))
        for row, prompt in enumerate(prompts)
    ]


@torch.inference_mode()
def test_a_batch_gives_what_its_rows_give_alone(model: InstructSeg):
    sequences = _sequences(model)
    batch = model.language(sequences)
    for row, sequence in enumerate(sequences):
        alone = model.language([sequence])
        assert_near(batch.queries[row], alone.queries[0], 1e-5)
        assert_near(batch.refer[row], alone.refer[0], 1e-5)


@torch.inference_mode()
def test_the_masked_last_row_changes_nothing_that_is_read(model: InstructSeg):
    sequence = _sequences(model)[0]
    released = model.hidden_states(sequence.embeds[None], sequence.position_ids[None], sequence.attend[None])
    ours = model.language([sequence])
    rows = torch.cat((sequence.seg_rows, sequence.refer_rows))
    assert_near(released[0, rows], ours.hidden[0, rows], 1e-6)


@torch.inference_mode()
def test_temporal_tokens_of_a_batch_are_those_of_each_sample(model: InstructSeg):
    frames = _random(3, 2, 6, WIDTH)
    refer_ids = [torch.arange(2, 4), torch.arange(5, 12), torch.arange(3, 7)]
    batch = model.temporal_tokens_batch(frames, refer_ids)
    for row, ids in enumerate(refer_ids):
        assert_near(batch[row], model.temporal_tokens(frames[row], ids), 1e-5)
    alone = model.temporal_tokens(frames[0, 1:], refer_ids[0])
    assert_near(batch[0, CONFIG.ovp.num_queries :], alone, 1e-5)  # frames do not see each other


@torch.inference_mode()
def test_score_embedding_depends_on_instruction_and_pixels(model: InstructSeg):
    refer = [_random(4, WIDTH), _random(7, WIDTH, seed=1)]
    res5 = _random(2, CONFIG.swin.channels[3], 2, 2)
    both = model.score_embedding(refer, res5)
    assert both.shape == (2, 1, CONFIG.mask.hidden_dim)
    assert_near(both[1:], model.score_embedding(refer[1:], res5[1:]), 1e-6)
    assert not torch.allclose(both, model.score_embedding(refer, res5.flip(0)), atol=1e-4)


def test_resampler_ignores_masked_media():
    module = Resampler(width=8, depth=2, heads=2, head_dim=4)
    media, latents = _random(2, 6, 8), _random(2, 3, 8, seed=1)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    assert_near(module(media, latents, mask), module(media[:, :4], latents), 1e-6)


def test_layers_whose_output_nobody_reads_are_not_run(model: InstructSeg):
    run = [0] * CONFIG.vision.num_hidden_layers
    handles = [
        layer.register_forward_hook(lambda *_, index=index: run.__setitem__(index, run[index] + 1))
        for index, layer in enumerate(model.vision_tower.encoder.layers)
    ]
    model.encode_vision(torch.zeros(1, 3, CONFIG.vision.image_size, CONFIG.vision.image_size))
    for handle in handles:
        handle.remove()
    assert run == [1, 1, 0]


def test_gradients_reach_every_part_that_is_read():
    model = tiny_model()
    vision, side = CONFIG.vision.image_size, CONFIG.mask_image_size
    tokens = model.project(model.encode_vision(_random(1, 3, vision, vision)))
    pixel = model.encode_pixels(_random(1, 3, side, side))
    prompt = model.encode_prompt("referring", "the dog")
    temporal = model.temporal_tokens(tokens, prompt.refer_ids)
    states = model.language([model.assemble(prompt, tokens[0], temporal)])
    predictions = model.decode(states.queries, model.score_embedding(states.refer, pixel.res5), pixel)
    assert len(predictions) == CONFIG.mask.decoder_layers + 1
    sum(each.mask_logits.square().mean() + each.score_logits.square().mean() for each in predictions).backward()
    unread = {name for name, value in model.named_parameters() if value.requires_grad and value.grad is None}
    dead = ("vision_tower.head", "vision_tower.post_layernorm", "vision_tower.encoder.layers.2")
    assert unread
    assert all(name.startswith(dead) for name in unread)


def test_half_precision_is_the_language_side_only():
    model, whole = tiny_model(), tiny_model()
    for part in (model.vision_tower, model.mm_projector, model.language_model):
        part.to(torch.bfloat16)
    masks, scores = tiny_answer(model)
    assert masks.dtype == scores.dtype == torch.float32
    assert model.language_dtype == torch.bfloat16
    expected, _ = tiny_answer(whole)
    assert (masks - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_a_model_without_tokenizer_says_so():
    with pytest.raises(WeightsError, match="this model has no tokenizer"):
        InstructSeg(CONFIG).encode_prompt("referring", "the dog")


def test_template_defaults_to_the_config(model: InstructSeg):
    assert model.encode_prompt("referring", "the dog").template == "released"
    assert model.encode_prompt("referring", "the dog", "paper").template == "paper"


def test_too_long_an_instruction(model: InstructSeg):
    prompt = model.encode_prompt("referring", "zq" * 400)
    with pytest.raises(InputError, match=r"the instruction is \d+ tokens long; expected at most"):
        model.check_length(prompt, n_visual=20)


@torch.inference_mode()
def test_the_full_size_has_the_released_lengths_and_keeps_to_one_device():
    """Everything but numbers: the meta device allocates nothing, and a tensor elsewhere is an error."""
    config = PRESETS["full"]
    with torch.device("meta"):
        model = InstructSeg(config).eval()
    ids = torch.tensor([*range(36), TEMPORAL_ID, 198, IMAGE_ID, *range(20), -204, *range(11), -201, 50256])
    prompt = Prompt(
        task="referring", template="", text="", instruction="", ids=ids, refer_ids=torch.arange(10), eos_id=50256
    )
    assert prompt.n_text == 69
    vision = model.encode_vision(torch.empty(1, 3, 384, 384, device="meta"))
    assert vision.shape == (1, 729, 1152)
    for kept, frames, length in ((729, 1, 1036), (146, 1, 453), (729, 4, 1420)):
        tokens = model.project(vision[:, :kept])
        temporal = model.temporal_tokens(tokens.expand(frames, -1, -1), prompt.refer_ids)
        assert temporal.shape == (frames * 128, 2560)
        sequence = model.assemble(prompt, tokens[0], temporal, torch.arange(kept), 729, "original")
        assert sequence.embeds.shape == (length, 2560)
    mask = torch.empty(1, 1, length, length, device="meta")
    states = model.language([sequence], mask)
    pixel = model.encode_pixels(torch.empty(1, 3, 1024, 1024, device="meta"))
    predictions = model.decode(states.queries, model.score_embedding(states.refer, pixel.res5), pixel)
    assert len(predictions) == 10
    assert predictions[-1].mask_logits.shape == (1, 100, 256, 256)
    assert predictions[-1].score_logits.shape == (1, 100)

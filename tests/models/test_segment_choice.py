"""What a pruner may ask of the runtime: cues, the frames of a window together, a say of the instruction, kept mass."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.models.test_segment import INSTRUCTIONS, clip_of, made_model
from transformers import PhiConfig, PhiModel

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.ownership import with_owners
from leanseg.errors import InputError
from leanseg.hf.merging import encode_with_merging
from leanseg.models.instructseg.assembly import TokenSequence, mass_mask
from leanseg.models.instructseg.postprocess import full_postprocess, reference_frames
from leanseg.models.instructseg.preprocess import mask_pixels, siglip_pixels
from leanseg.models.instructseg.prompt import build_prompt
from leanseg.models.instructseg.segment import segment
from leanseg.models.instructseg.stages import StageTimer
from leanseg.pruners import EVTP, KCenter, Pruner, ScorePruner, ToMe

SIDE = 4


@pytest.fixture(scope="module")
def model():
    return made_model()


@dataclass(frozen=True, kw_only=True)
class Watched(ScorePruner):
    """Keeps what is attended to, and tells equal scores apart by the keys."""

    cues: ClassVar[tuple[str, ...]] = ("attention", "keys")

    def score(self, tokens):
        return tokens.attention + 1e-3 * tokens.keys.norm(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Asked(ScorePruner):
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    attention_from: ClassVar[str] = "language"

    def score(self, tokens):
        return tokens.attention


@dataclass(frozen=True, kw_only=True)
class Guided(ScorePruner):
    cues: ClassVar[tuple[str, ...]] = ("guidance",)

    def score(self, tokens):
        return (tokens.features @ tokens.guidance[:, :, None])[..., 0]


@dataclass(frozen=True, kw_only=True)
class WholeClip(KCenter):
    scope: ClassVar[str] = "clip"


@dataclass(frozen=True, kw_only=True)
class OnlyKeyFrame(Pruner):
    """Keeps the first tokens of the key frame, and none of the others."""

    scope: ClassVar[str] = "clip"
    seen: ClassVar[list[tuple[int, int]]] = []

    def select(self, tokens, k):
        self.seen.append((tokens.grid.frames, tokens.key_frame))
        first = tokens.key_frame * tokens.grid.frame.n_tokens
        return Selection(torch.arange(first, first + min(k, SIDE**2))[None], tokens.n_tokens)

    fixed_budget: ClassVar[bool] = False


def features_of(model, frame):
    return model.encode_vision(siglip_pixels(frame, model.config.vision.image_size)[None])


def eager_cues(model, frame):
    """Attention received and head-averaged keys of the layer whose output is used, from whole maps."""
    tower, n_layers = model.vision_tower, model.config.vision.n_layers_run
    hidden = tower.embeddings(siglip_pixels(frame, model.config.vision.image_size)[None])
    for layer in tower.encoder.layers[: n_layers - 1]:
        hidden = layer(hidden, None)
    layer = tower.encoder.layers[n_layers - 1]
    normed = layer.layer_norm1(hidden)
    heads = model.config.vision.num_attention_heads
    q, k = (
        projected.reshape(1, SIDE**2, heads, -1).transpose(1, 2)
        for projected in (layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed))
    )
    attention = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return attention.mean(dim=(1, 2)), k.mean(dim=1)


@torch.inference_mode()
def test_a_pruner_gets_the_attention_and_keys_of_the_layer_whose_output_is_pruned(model):
    frame, made = clip_of(1)[0], Watched(keep_ratio=0.3)
    attention, keys = eager_cues(model, frame)
    tokens = VisualTokens(features=features_of(model, frame), grid=Grid(SIDE, SIDE), attention=attention, keys=keys)
    found = segment(model, frame, INSTRUCTIONS[0], pruner=made)
    assert torch.equal(found.selections[0].indices, made(tokens).indices)
    # The tower's layers are as they were: the next plain answer is what it was.
    plain = segment(model, frame, INSTRUCTIONS[0], pruner=EVTP(keep_ratio=0.3), soft=True)
    assert np.array_equal(
        plain.soft, segment(model, frame, INSTRUCTIONS[0], pruner=EVTP(keep_ratio=0.3), soft=True).soft
    )


@torch.inference_mode()
def joint_answer(model, clip, key, references, made, instruction):
    """One key frame's probabilities with tokens chosen among all frames of its window together."""
    frames = sorted({key, *references})
    features = torch.cat([features_of(model, clip[index]) for index in frames])
    tokens = VisualTokens(features=features, grid=Grid(SIDE, SIDE)).joined(key_frame=frames.index(key))
    kept = dict(zip(frames, made(tokens).split(len(frames)), strict=True))
    views = {
        index: model.project(kept[index].gather(features[position : position + 1]))[0]
        for position, index in enumerate(frames)
    }
    prompt = build_prompt(model.tokenizer, "video_referring", instruction)
    temporal = torch.cat([model.temporal_tokens(views[index][None], prompt.refer_ids) for index in references])
    states = model.language([model.assemble(prompt, views[key], temporal)])
    pixels, _ = mask_pixels(clip[key], model.config.mask_image_size)
    pixel = model.encode_pixels(pixels[None])
    prediction = model.decode(states.queries, model.score_embedding(states.refer, pixel.res5), pixel)[-1]
    return kept[key], prediction


@pytest.mark.parametrize("frames", [2, 6])
def test_a_clip_pruner_chooses_among_a_key_frame_and_its_references(model, frames):
    clip, made = clip_of(frames), WholeClip(keep_ratio=0.25)
    found = segment(model, clip, INSTRUCTIONS[0], pruner=made)
    for key in range(frames):
        references = reference_frames(key, frames, model.config.reference_frames)
        kept, prediction = joint_answer(model, clip, key, references, made, INSTRUCTIONS[0])
        assert torch.equal(found.selections[key].indices, kept.indices)
        scores = prediction.score_logits.flatten().sigmoid()
        assert found.scores[key] <= float(scores.max()) + 1e-6
    counts = {selection.k for selection in found.selections}
    assert frames == 2 or len(counts) > 1, "the budget is shared by need"


def test_a_window_is_in_time_order_each_frame_once_and_names_its_key(model):
    OnlyKeyFrame.seen.clear()
    found = segment(model, clip_of(6), INSTRUCTIONS[0], pruner=OnlyKeyFrame(keep_ratio=0.5))
    assert OnlyKeyFrame.seen == [(5, 0), (5, 1), (5, 2), (5, 2), (5, 3), (5, 4)]
    assert all(selection.k == SIDE**2 for selection in found.selections)
    OnlyKeyFrame.seen.clear()
    image = segment(model, clip_of(1), INSTRUCTIONS[0], pruner=OnlyKeyFrame(keep_ratio=0.5))
    assert OnlyKeyFrame.seen == [(1, 0)] and image.selections[0].k == SIDE**2 // 2
    short = segment(model, clip_of(2), INSTRUCTIONS[0], pruner=OnlyKeyFrame(keep_ratio=0.5))
    assert OnlyKeyFrame.seen[1:] == [(2, 0), (2, 1)] and short.masks.shape[0] == 2


def test_a_frame_may_keep_nothing(model):
    @dataclass(frozen=True, kw_only=True)
    class Elsewhere(OnlyKeyFrame):
        def select(self, tokens, k):
            return Selection(torch.zeros((1, 1), dtype=torch.int64), tokens.n_tokens)

    found = segment(model, clip_of(3), INSTRUCTIONS[0], pruner=Elsewhere(keep_ratio=0.5), mass_preserving=True)
    assert [selection.k for selection in found.selections] == [1, 0, 0]
    assert found.coverage[1] == {} and found.coverage[0]


@pytest.mark.parametrize("made", [Guided(keep_ratio=0.3), Asked(keep_ratio=0.3)], ids=["guidance", "attention"])
def test_the_instruction_may_steer_the_choice(model, made):
    clip = clip_of(3)
    options = {"pruner": made, "site": "after_projector", "soft": True}
    together = segment(model, clip, INSTRUCTIONS, **options)
    alone = [segment(model, clip, instruction, **options) for instruction in INSTRUCTIONS]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.soft, other.soft, atol=2e-5)
        assert all(a.equals(b) for a, b in zip(one.selections, other.selections, strict=True))
    kept = [[selection.indices.tolist() for selection in each.selections] for each in together]
    assert kept[0] != kept[1]


@torch.inference_mode()
def test_guidance_is_the_mean_embedding_of_the_instruction(model):
    frame = clip_of(1)[0]
    prompt = build_prompt(model.tokenizer, "referring", INSTRUCTIONS[0])
    tokens = VisualTokens(
        features=model.project(features_of(model, frame)),
        grid=Grid(SIDE, SIDE),
        guidance=model.embed(prompt.refer_ids).mean(dim=0, keepdim=True),
    )
    made = Guided(keep_ratio=0.3)
    found = segment(model, frame, INSTRUCTIONS[0], pruner=made, site="after_projector")
    assert torch.equal(found.selections[0].indices, made(tokens).indices)


@torch.inference_mode()
def test_language_attention_is_what_the_last_token_gives_in_the_unpruned_row(model):
    frame = clip_of(1)[0]
    tokens = model.project(features_of(model, frame))[0]
    prompt = build_prompt(model.tokenizer, "referring", INSTRUCTIONS[0])
    sequence = model.assemble(prompt, tokens, model.temporal_tokens(tokens[None], prompt.refer_ids))
    language = model.language_model
    before = language.config._attn_implementation
    language.set_attn_implementation("eager")
    maps = language(
        inputs_embeds=sequence.embeds[None], position_ids=sequence.position_ids[None], output_attentions=True
    ).attentions
    language.set_attn_implementation(before)
    layer = min(2, len(maps) - 1)
    attention = maps[layer][:, :, -1].mean(dim=1)[:, sequence.image_rows]
    expected = VisualTokens(features=tokens[None], grid=Grid(SIDE, SIDE), attention=attention)
    made = Asked(keep_ratio=0.3)
    for site in ("before_projector", "after_projector"):
        found = segment(model, frame, INSTRUCTIONS[0], pruner=made, site=site)
        assert torch.equal(found.selections[0].indices, made(expected).indices)


@torch.inference_mode()
def test_tome_may_merge_in_every_layer_of_the_tower(model):
    frame, made = clip_of(1)[0], ToMe(keep_ratio=0.5)
    found = segment(model, frame, INSTRUCTIONS[0], pruner=made, site="inside_encoder", soft=True)
    selection = found.selections[0]
    assert selection.k == 8 and int(selection.sizes.sum()) == SIDE**2
    assert selection.features.shape == (1, 8, model.config.vision.hidden_size)
    tower, n_layers = model.vision_tower, model.config.vision.n_layers_run
    hidden = tower.embeddings(siglip_pixels(frame, model.config.vision.image_size)[None])
    features, expected = encode_with_merging(tower.encoder.layers[:n_layers], hidden, [4, 4])
    assert torch.equal(selection.owner, expected.owner) and torch.equal(selection.features, features)
    outside = segment(model, frame, INSTRUCTIONS[0], pruner=made, soft=True)
    assert abs(found.soft - outside.soft).max() > 1e-5
    everything = segment(model, frame, INSTRUCTIONS[0], pruner=ToMe(keep_ratio=1), site="inside_encoder", soft=True)
    assert np.array_equal(everything.soft, segment(model, frame, INSTRUCTIONS[0], soft=True).soft)


def test_only_tome_acts_inside_the_tower(model):
    for options, given in (({"pruner": EVTP(keep_ratio=0.3)}, r"evtp\(keep_ratio=0.3\)"), ({}, "no pruner")):
        with pytest.raises(InputError, match=f"inside_encoder with {given}; expected tome"):
            segment(model, clip_of(1), INSTRUCTIONS[0], site="inside_encoder", **options)
    by_features = ToMe(keep_ratio=0.3, metric="features")
    with pytest.raises(InputError, match=r"metric='features'.*expected metric='keys'"):
        segment(model, clip_of(1), INSTRUCTIONS[0], site="inside_encoder", pruner=by_features)


def test_guidance_before_the_projector_is_refused(model):
    with pytest.raises(InputError, match=r"is steered by the instruction's embedding.*site='after_projector'"):
        segment(model, clip_of(1), INSTRUCTIONS[0], pruner=Guided(keep_ratio=0.3))


@torch.inference_mode()
def test_mass_preserving_adds_the_log_of_what_a_token_stands_for(model):
    frame, made = clip_of(1)[0], EVTP(keep_ratio=0.3)
    candidates = VisualTokens(features=features_of(model, frame), grid=Grid(SIDE, SIDE))
    selection = with_owners(candidates, made(candidates))
    tokens = model.project(selection.gather(candidates.features))[0]
    prompt = build_prompt(model.tokenizer, "referring", INSTRUCTIONS[0])
    sequence = model.assemble(prompt, tokens, model.temporal_tokens(tokens[None], prompt.refer_ids))
    length = len(sequence.position_ids)
    mask = torch.full((length, length), float("-inf")).triu(1)
    mask[:, sequence.image_rows] += selection.sizes[0].log()
    expected = model.language([sequence], attention_mask=mask[None, None])
    plain = model.language([sequence])
    pixels, valid = mask_pixels(frame, model.config.mask_image_size)
    pixel = model.encode_pixels(pixels[None])
    size = (model.config.mask_image_size,) * 2
    soft = []
    for states in (expected, plain):
        prediction = model.decode(states.queries, model.score_embedding(states.refer, pixel.res5), pixel)[-1]
        masks = full_postprocess(prediction, 0, valid_size=valid, output_size=frame.shape[:2], padded_size=size)
        soft.append(max(masks, key=lambda each: each.score).probability.numpy())
    preserved = segment(model, frame, INSTRUCTIONS, pruner=made, mass_preserving=True, soft=True)[0]
    usual = segment(model, frame, INSTRUCTIONS, pruner=made, soft=True)[0]
    assert preserved.protocol["mass_preserving"] and not usual.protocol["mass_preserving"]
    assert abs(preserved.soft - usual.soft).max() > 1e-5
    np.testing.assert_allclose(preserved.soft[0], soft[0], atol=2e-5)
    np.testing.assert_allclose(usual.soft[0], soft[1], atol=2e-5)
    alone = segment(model, frame, INSTRUCTIONS[0], pruner=made, mass_preserving=True, soft=True)
    np.testing.assert_allclose(preserved.soft, alone.soft, atol=2e-5)


@torch.inference_mode()
def test_a_token_that_stands_for_equal_ones_draws_their_attention():
    """One layer, where keys depend on the embeddings alone: three equal tokens read like one of size three."""
    config = PhiConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        language = PhiModel(config).eval()
        first, second, text = torch.randn(3, 16).unbind()

    def read(rows, positions, mask):
        states = language(
            inputs_embeds=torch.stack(rows)[None], position_ids=torch.tensor([positions]), attention_mask=mask
        )
        return states.last_hidden_state[0, -1]

    full = read(
        [first, first, first, second, second, text], [0, 0, 0, 1, 1, 2], torch.ones(6, 6).tril().log()[None, None]
    )
    sequence = TokenSequence(
        embeds=torch.stack([first, second, text]),
        position_ids=torch.tensor([0, 1, 2]),
        seg_rows=torch.tensor([2]),
        refer_rows=torch.tensor([2]),
        image_rows=torch.tensor([0, 1]),
        attend=torch.ones(3, dtype=torch.bool),
        log_sizes=torch.tensor([3.0, 2.0]).log(),
    )
    kept = read([first, second, text], [0, 1, 2], mass_mask([sequence], torch.float32))
    torch.testing.assert_close(kept, full, atol=1e-6, rtol=1e-5)
    plain = read([first, second, text], [0, 1, 2], torch.ones(3, 3).tril().log()[None, None])
    assert (plain - full).abs().max() > 1e-3


def test_merging_inside_the_tower_encodes_a_frame_once(model, monkeypatch):
    runs = []
    plain = type(model).encode_vision
    monkeypatch.setattr(type(model), "encode_vision", lambda self, pixels: runs.append(1) or plain(self, pixels))
    options = {"pruner": ToMe(keep_ratio=0.5), "site": "inside_encoder", "mass_preserving": True}
    segment(model, clip_of(1), INSTRUCTIONS[0], coverage=False, **options)
    assert runs == [], "who stands for whom is known from merging; only coverage needs the tokens before it"
    segment(model, clip_of(1), INSTRUCTIONS[0], coverage=True, **options)
    assert len(runs) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"pruner": Asked(keep_ratio=0.3)},
        {"pruner": ToMe(keep_ratio=0.5), "site": "inside_encoder"},
        {"pruner": WholeClip(keep_ratio=0.3), "mass_preserving": True},
    ],
    ids=["language", "inside", "clip"],
)
def test_no_stage_is_timed_inside_another(model, monkeypatch, options):
    running = []

    @contextmanager
    def stage(self, name):
        assert not running, f"{name} is timed inside {running}, so that its seconds count twice"
        running.append(name)
        yield
        running.pop()

    monkeypatch.setattr(StageTimer, "stage", stage)
    segment(model, clip_of(3), INSTRUCTIONS, **options)

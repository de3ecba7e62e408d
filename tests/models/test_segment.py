"""The runtime gives what computing everything anew gives, computes nothing twice, and refuses bad input first."""

import itertools
import json
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from leanseg.core.tokens import Grid, VisualTokens
from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.cache import FrameCache, frame_digest, tensor_bytes, with_references
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.postprocess import full_postprocess, reference_frames
from leanseg.models.instructseg.preprocess import mask_pixels, siglip_pixels
from leanseg.models.instructseg.prompt import TASKS, build_prompt, prompt_text
from leanseg.models.instructseg.segment import segment, segment_stream
from leanseg.models.instructseg.tokenizer import train_tokenizer
from leanseg.models.presets import PRESETS
from leanseg.pruners import EVTP, KCenter, Random

INSTRUCTIONS = ["the red square", "the dog left of the big green ball"]


def made_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
        model = InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).eval()
        torch.nn.init.normal_(model.seg_query)
        # Spread out, so that masks and scores differ between frames, instructions and visual modes.
        with torch.no_grad():
            for parameter in model.language_model.parameters():
                parameter.mul_(3)
            model.predictor.mask_embed.layers[-1].weight.mul_(5)
    return model


@pytest.fixture(scope="module")
def model():
    return made_model()


def clip_of(frames, height=30, width=44, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@torch.inference_mode()
def naive(model, clip, instruction, *, pruner=None, site="before_projector", position_ids="compact", visual="all"):
    """Recompute everything for every key frame, as the release does; return masks, scores and probabilities."""
    is_clip, config = len(clip) > 1, model.config
    grid = Grid(config.vision.side, config.vision.side)
    prompt = build_prompt(model.tokenizer, "video_referring" if is_clip else "referring", instruction)

    def visual_tokens(frame):
        tokens = model.encode_vision(siglip_pixels(frame, config.vision.image_size)[None])
        if site == "after_projector":
            tokens = model.project(tokens)
        indices = None
        if pruner is not None:
            indices = pruner(VisualTokens(features=tokens, grid=grid)).indices[0]
            tokens = tokens[:, indices]
        return (tokens if site == "after_projector" else model.project(tokens))[0], indices

    results = []
    for key, frame in enumerate(clip):
        tokens, kept = visual_tokens(frame)
        references = reference_frames(key, len(clip), config.reference_frames) if is_clip else [key]
        temporal = model.temporal_tokens(torch.stack([visual_tokens(clip[i])[0] for i in references]), prompt.refer_ids)
        if visual != "all":
            tokens, kept = tokens[:0], None
        if visual == "blind":
            temporal = temporal[:0]
        sequence = model.assemble(prompt, tokens, temporal, kept, grid.n_tokens, position_ids)
        states = model.language([sequence])
        pixels, valid = mask_pixels(frame, config.mask_image_size)
        features = model.encode_pixels(pixels[None])
        prediction = model.decode(states.queries, model.score_embedding(states.refer, features.res5), features)[-1]
        size = (config.mask_image_size,) * 2
        masks = full_postprocess(prediction, 0, valid_size=valid, output_size=frame.shape[:2], padded_size=size)
        best = max(masks, key=lambda each: each.score)
        results.append((best.mask.numpy(), best.score, best.probability.numpy()))
    return [np.stack(part) for part in zip(*results, strict=True)]


CASES = {
    "all": {},
    "evtp": {"pruner": EVTP(keep_ratio=0.3)},
    "after": {"pruner": KCenter(keep_ratio=0.3), "site": "after_projector"},
    "original": {"pruner": Random(keep_ratio=0.3), "position_ids": "original"},
    "ovp_only": {"pruner": EVTP(keep_ratio=0.3), "visual": "ovp_only"},
    "blind": {"visual": "blind"},
}


LENGTHS = [*itertools.product(CASES, [1, 6]), ("evtp", 2), ("all", 3), ("evtp", 5)]


@pytest.mark.parametrize(("case", "frames"), LENGTHS)
def test_equals_computing_everything_anew(model, case, frames):
    clip = clip_of(frames)
    together = segment(model, clip, INSTRUCTIONS, soft=True, **CASES[case])
    for instruction, found in zip(INSTRUCTIONS, together, strict=True):
        alone = segment(model, clip, instruction, soft=True, **CASES[case])
        masks, scores, soft = naive(model, clip, instruction, **CASES[case])
        for result in (found, alone):
            assert result.masks.shape == clip.shape[:3] and result.masks.dtype == bool
            np.testing.assert_allclose(result.soft, soft, atol=2e-5)
            np.testing.assert_allclose(result.scores, scores, atol=2e-5)
            sure = abs(soft - 0.5) > 1e-4
            assert np.array_equal(result.masks[sure], masks[sure])


def test_the_cases_differ(model):
    clip = clip_of(3)
    answers = [segment(model, clip, INSTRUCTIONS[0], soft=True, **options).soft for options in CASES.values()]
    answers.append(segment(model, clip, INSTRUCTIONS[1], soft=True).soft)
    for one, other in itertools.combinations(answers, 2):
        assert abs(one - other).max() > 1e-4


def test_the_stream_gives_what_the_clip_gives(model):
    clip = clip_of(6)
    whole = segment(model, clip, INSTRUCTIONS[0], pruner=EVTP(keep_ratio=0.5))
    parts = list(segment_stream(model, iter(clip), INSTRUCTIONS[0], pruner=EVTP(keep_ratio=0.5)))
    assert all(part.masks.shape == (1, 30, 44) for part in parts)
    assert np.array_equal(np.concatenate([part.masks for part in parts]), whole.masks)
    assert [part.score for part in parts] == whole.scores.tolist()
    assert all(one.equals(part.selections[0]) for one, part in zip(whole.selections, parts, strict=True))
    assert len(whole.coverage) == len(whole.selections) == 6
    radii = {f"{a}_{b}" for a in ("feature", "spatial", "joint") for b in ("max", "mean")}
    assert set(whole.coverage[0]) == {*radii, "information_bound"}
    bound = whole.coverage[0]["information_bound"]
    assert bound["radius"] == whole.coverage[0]["feature_max"] and set(bound) >= {"conditional_entropy", "vacuous"}
    json.dumps(whole.to_json(), allow_nan=False)


def test_a_clip_of_one_frame_takes_the_image_path(model):
    clip = clip_of(1)
    image, short, listed = (segment(model, given, INSTRUCTIONS[0]) for given in (clip[0], clip, [clip[0]]))
    assert image.protocol == short.protocol == listed.protocol and image.protocol["task"] == "referring"
    assert np.array_equal(image.masks, short.masks)
    picture = segment(model, Image.fromarray(clip[0]), INSTRUCTIONS[0])
    assert np.array_equal(image.masks, picture.masks)


@pytest.fixture
def calls(model, monkeypatch):
    counts = {}
    for name in ("encode_vision", "encode_pixels", "temporal_tokens", "language", "decode", "project"):
        original = getattr(model, name)

        def counting(*args, _name=name, _original=original, **options):
            counts[_name] = counts.get(_name, 0) + 1
            return _original(*args, **options)

        monkeypatch.setattr(model, name, counting)
    return counts


def test_nothing_is_computed_twice(model, calls):
    segment(model, clip_of(7), INSTRUCTIONS, pruner=EVTP(keep_ratio=0.3))
    assert calls == {
        "encode_vision": 7, "project": 7, "encode_pixels": 7, "temporal_tokens": 14, "language": 7, "decode": 7
    }  # fmt: skip


def test_a_cache_serves_later_calls_on_the_same_picture(model, calls):
    cache, image = FrameCache(), clip_of(1)[0]
    first = segment(model, image, INSTRUCTIONS[0], cache=cache, pruner=EVTP(keep_ratio=0.3))
    again = segment(model, image.copy(), INSTRUCTIONS[0], cache=cache, pruner=EVTP(keep_ratio=0.3))
    segment(model, image, INSTRUCTIONS[1], cache=cache)
    assert calls["encode_vision"] == calls["encode_pixels"] == 1 and calls["language"] == 3
    assert np.array_equal(first.masks, again.masks) and first.score == again.score
    segment(model, clip_of(1, seed=9)[0], INSTRUCTIONS[1], cache=cache)
    assert calls["encode_vision"] == 2


def test_a_static_clip_is_encoded_once(model, calls):
    segment(model, clip_of(1).repeat(6, axis=0), INSTRUCTIONS[0])
    assert calls["encode_vision"] == calls["encode_pixels"] == 1


def test_blind_runs_no_vision_tower(model, calls):
    result = segment(model, clip_of(3), INSTRUCTIONS[0], visual="blind", pruner=EVTP(keep_ratio=0.3))
    assert "encode_vision" not in calls and "temporal_tokens" not in calls
    assert result.selections == () and result.coverage == ()


def test_instructions_are_run_in_batches(model, calls):
    segment(model, clip_of(1), ["one", "two", "three"], instructions_per_pass=2)
    assert calls["language"] == 2 and calls["encode_pixels"] == 1


def test_memory_does_not_grow_with_the_clip(model):
    alive, read = [], []

    def frames():
        for index in range(40):
            frame = clip_of(1, 8, 8, seed=index)[0]
            alive.append(weakref.ref(frame))
            read.append(index)
            yield frame
            del frame

    most = 0
    for index, _ in enumerate(segment_stream(model, frames(), "the ball", visual="ovp_only")):
        most = max(most, sum(each() is not None for each in alive))
        assert len(read) <= max(index + 3, 5)
    assert index == 39 and most <= 7


def test_long_streams_keep_the_cache_bounded(model):
    cache = FrameCache(max_bytes=100_000)
    list(segment_stream(model, iter(clip_of(12)), "the ball", cache=cache))
    assert 0 < cache.used_bytes <= 100_000


def test_wide_pictures_come_back_in_place(model, monkeypatch):
    """Swin's branch pads: logits of the padding must not leak, and the picture's part must be stretched back."""
    logits = torch.full((1, 5, 16, 16), -9.0)
    logits[0, 2, :4, :8] = 9.0  # of 16 x 16 logits, 4 rows are picture: its left half
    logits[0, 2, 4:, :] = 9.0  # padding below the picture
    scores = torch.full((1, 5), -9.0)
    scores[0, 2] = 9.0
    monkeypatch.setattr(model, "decode", lambda *_, **__: [MaskPrediction(scores, logits)])
    mask = segment(model, clip_of(1, 100, 400)[0], "the left half").masks[0]
    assert mask.shape == (100, 400)
    assert mask[:80, :190].all() and not mask[:80, 210:].any()
    tall = segment(model, clip_of(1, 400, 100)[0], "the left half").masks[0]
    assert tall.shape == (400, 100)
    assert tall[:, :100].all(axis=1)[120:].all() and tall[:80].all()  # 16 rows, 4 columns: rows from 4 on are inside


def test_no_object_threshold_empties_the_mask(model):
    image = clip_of(1)[0]
    plain = segment(model, image, INSTRUCTIONS[0])
    assert plain.masks.any()
    above = segment(model, image, INSTRUCTIONS[0], no_object_threshold=min(1.0, plain.score + 0.01))
    below = segment(model, image, INSTRUCTIONS[0], no_object_threshold=plain.score - 0.01)
    assert not above.masks.any() and above.score == plain.score
    assert np.array_equal(below.masks, plain.masks)


def test_the_protocol_says_how_it_was_made(model):
    pruner = EVTP(keep_ratio=0.3)
    result = segment(model, clip_of(2), " a dog ", pruner=pruner, task="reasoning", template="paper", model_name="m")
    assert result.protocol == {
        "model": "m",
        "instruction": "a dog",
        "pruner": pruner.spec(),
        "site": "before_projector",
        "mass_preserving": False,
        "position_ids": "compact",
        "template": "paper",
        "task": "video_reasoning",
        "visual": "all",
        "dtype": "float32",
        "device": "cpu",
        "reference_frames": 4,
        "no_object_threshold": None,
        "grid": [4, 4],
    }
    assert segment(model, clip_of(1), "a dog", task="res").protocol["task"] == "referring"
    asked_as_clip = segment(model, clip_of(1), "a dog", task="video_reasoning").protocol
    assert (asked_as_clip["task"], asked_as_clip["reference_frames"]) == ("video_reasoning", 0)
    assert segment(model, clip_of(1), "a dog").protocol["pruner"] == "none"


def test_timings_name_every_stage(model):
    timings = segment(model, clip_of(3), "a dog", pruner=EVTP(keep_ratio=0.3)).timings
    stages = {"encode", "select", "coverage", "project", "temporal", "language", "pixel", "decode", "postprocess"}
    assert set(timings) == stages and all(seconds > 0 for seconds in timings.values())


def test_global_state_is_left_alone(model):
    before = torch.random.get_rng_state()
    stream = segment_stream(model, iter(clip_of(3)), "a dog", pruner=Random(keep_ratio=0.5))
    next(stream)
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    list(stream)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("clip", "instruction", "options", "message"),
    [
        (clip_of(1), "", {}, "instruction is empty"),
        (clip_of(1), "  \n", {}, "instruction is empty"),
        (clip_of(1), [], {}, "list of instructions is empty"),
        (clip_of(1), ["a dog", ""], {}, "instruction is empty"),
        (clip_of(1), ["a dog", 3], {}, "the instruction is 3; expected text"),
        (clip_of(1), None, {}, "the instruction is None; expected text"),
        (clip_of(1), "dog " * 300, {}, "tokens long; expected at most"),
        (clip_of(1), "x" * 4001, {}, "4001 characters long"),
        (clip_of(1)[0, 0], "a dog", {}, r"array of shape \(44, 3\)"),
        ("a.png", "a dog", {}, "the clip is str"),
        (clip_of(1)[..., :2], "a dog", {}, r"shape \(30, 44, 2\) and dtype uint8"),
        (clip_of(1) / 255, "a dog", {}, "dtype float64"),
        (clip_of(0), "a dog", {}, "no frames"),
        ([], "a dog", {}, "no frames"),
        (np.zeros((0, 4, 3), np.uint8), "a dog", {}, "zero size"),
        (np.broadcast_to(np.uint8(0), (8000, 8000, 3)), "a dog", {}, "64.0 megapixels"),
        (np.broadcast_to(np.uint8(0), (1, 20000, 3)), "a dog", {}, "16384 per side"),
        ([clip_of(1)[0], clip_of(1, 30, 45)[0]], "a dog", {}, "frame 1 has shape"),
        (clip_of(1), "a dog", {"pruner": "evtp"}, "pruner is 'evtp'; expected a Pruner"),
        (clip_of(1), "a dog", {"task": "refering"}, "did you mean 'referring'"),
        (clip_of(1), "a dog", {"site": "before"}, "did you mean 'before_projector'"),
        (clip_of(1), "a dog", {"position_ids": "orginal"}, "did you mean 'original'"),
        (clip_of(1), "a dog", {"template": "papers"}, "did you mean 'paper'"),
        (clip_of(1), "a dog", {"visual": "bilnd"}, "did you mean 'blind'"),
        (clip_of(1), "a dog", {"prunner": None}, "unknown option of segment 'prunner'; did you mean 'pruner'"),
        (clip_of(1), "a dog", {"no_object_threshold": 1.5}, "no_object_threshold=1.5"),
        (clip_of(1), "a dog", {"instructions_per_pass": 0}, "instructions_per_pass=0"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, calls, clip, instruction, options, message):
    with pytest.raises(InputError, match=message) as error:
        segment(model, clip, instruction, **options)
    assert "\n" not in str(error.value)
    assert "language" not in calls and "encode_pixels" not in calls


def test_the_stream_checks_before_the_first_frame_is_asked_for(model):
    with pytest.raises(InputError, match="instruction is empty"):
        segment_stream(model, iter(clip_of(2)), "")
    with pytest.raises(InputError, match="no frames"):
        segment_stream(model, iter([]), "a dog")


def test_pruning_leaves_room_for_a_longer_instruction(model):
    config, text = model.config, "a"
    around = config.mask.num_queries + config.ovp.num_queries + config.vision.n_tokens

    def length():
        prompt = model.encode_prompt("referring", text)
        return prompt.n_text + len(prompt.refer_ids) + around

    while length() <= config.language.max_position_embeddings:
        text += " a"
    with pytest.raises(InputError, match="shorten the instruction"):
        segment(model, clip_of(1), text)
    pruner = EVTP(keep_ratio=0.3)
    assert segment(model, clip_of(1), text, pruner=pruner).masks.shape == (1, 30, 44)
    with pytest.raises(InputError, match="shorten the instruction"):
        segment(model, clip_of(1), text, pruner=pruner, position_ids="original")


def test_a_training_model_and_one_without_tokenizer_are_refused(model):
    model.train()
    try:
        with pytest.raises(InputError, match=r"model.eval\(\)"):
            segment(model, clip_of(1), "a dog")
    finally:
        model.eval()
    tokenizer, model.tokenizer = model.tokenizer, None
    try:
        with pytest.raises(WeightsError, match="no tokenizer"):
            segment(model, clip_of(1), "a dog")
    finally:
        model.tokenizer = tokenizer


def test_scores_that_are_not_numbers_are_an_error(model, monkeypatch):
    broken = MaskPrediction(torch.full((1, 5), float("nan")), torch.zeros(1, 5, 16, 16))
    monkeypatch.setattr(model, "decode", lambda *_, **__: [broken])
    with pytest.raises(WeightsError, match="NaN or infinite scores"):
        segment(model, clip_of(1), "a dog")


@pytest.mark.parametrize("count", [0, 2, 4])
@pytest.mark.parametrize("length", range(0, 14))
def test_the_window_agrees_with_the_rule(length, count):
    found = list(with_references(iter(range(length)), count))
    assert [key for key, _ in found] == list(range(length))
    for key, references in found:
        assert list(references) == reference_frames(key, length, count)


def test_the_cache_drops_what_was_used_longest_ago():
    cache = FrameCache(max_bytes=100)
    for key in "abc":
        cache.get(key, lambda: torch.zeros(10))
    assert cache.used_bytes == 80 and (cache.hits, cache.misses) == (0, 3)
    cache.get("b", lambda: pytest.fail("b was dropped"))
    cache.get("d", lambda: torch.zeros(10))
    cache.get("b", lambda: pytest.fail("b was dropped"))
    computed = []
    cache.get("c", lambda: computed.append(1) or torch.zeros(1000))
    assert computed == [1] and cache.used_bytes == 80
    cache.clear()
    assert cache.used_bytes == 0
    with pytest.raises(InputError, match="max_bytes=-1"):
        FrameCache(-1)


def test_sizes_and_digests():
    assert tensor_bytes({"a": (torch.zeros(2), [torch.zeros(1, dtype=torch.float64)]), "b": "text"}) == 16
    assert tensor_bytes(MaskPrediction(torch.zeros(1, 2), torch.zeros(1, 2, 1, 1))) == 16
    frame = clip_of(1)[0]
    assert frame_digest(frame) == frame_digest(frame[::-1][::-1]) != frame_digest(frame[::-1])
    assert frame_digest(np.zeros((2, 3, 3), np.uint8)) != frame_digest(np.zeros((3, 2, 3), np.uint8))

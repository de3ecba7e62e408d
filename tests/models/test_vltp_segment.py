"""Segmenting with VLTP: pruned and not, several [SEG] and none, pictures of odd shapes, caches, options."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.vltp_fixtures import INSTRUCTION, picture, tiny_vltp
from torch import Tensor

from leanseg.errors import LeansegError, WeightsError
from leanseg.models.instructseg.cache import FrameCache
from leanseg.models.output import Segmentation
from leanseg.models.sam.pictures import full_masks, sam_pixels
from leanseg.models.vltp.encoders import encoder_weights, pruned_encoder
from leanseg.models.vltp.guidance_cache import GuidanceCache
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.pictures import clip_pixels
from leanseg.pruners import EVTP, Attention, Joint, Random, ToMe, pruner

TWO = "It is [SEG] and [SEG]."
SIZES = [(41, 63), (63, 41), (56, 56), (8, 200), (200, 9), (1, 1), (57, 55)]


@pytest.fixture(scope="module")
def model() -> VLTP:
    return tiny_vltp()


def _same(first: Segmentation, second: Segmentation) -> None:
    assert np.array_equal(first.masks, second.masks) and np.array_equal(first.scores, second.scores)
    assert first.soft is None or np.array_equal(first.soft, second.soft)
    assert [each.indices.tolist() for each in first.selections] == [each.indices.tolist() for each in second.selections]


def _by_hand(model: VLTP, image: np.ndarray, answer: str = "[SEG].") -> Tensor:
    """Return the probabilities (S, H, W) of unpruned SAM, part by part."""
    pixels, valid = sam_pixels(image, size=56)
    guidance = model.guidance(clip_pixels(image, size=30)[None], [INSTRUCTION], answer=answer).states
    logits, _ = model.sam.masks(model.sam.image_encoder(pixels[None]), guidance[:, None])
    return full_masks(logits, valid_size=valid, output_size=image.shape[:2], size=56)[:, 0].sigmoid()


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
def test_keeping_everything_is_sam_bit_for_bit(model: VLTP, size: tuple[int, int]):
    image = picture(*size)
    expected = _by_hand(model, image)[0]
    for options in (
        {"stages": ()},
        {"keep_ratio": 1.0},
        {"pruner": "identity"},
        {"pruner": "random", "keep_ratio": 1.0},
    ):
        found = model.segment(image, INSTRUCTION, soft=True, **options)
        assert found.soft is not None
        assert torch.equal(torch.from_numpy(found.soft[0]), expected)
        assert np.array_equal(found.masks[0], expected.numpy() > 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_pruned_answers_have_the_pictures_size_and_the_stages_counts(model: VLTP, size: tuple[int, int]):
    found = model.segment(picture(*size), INSTRUCTION, soft=True)
    assert found.masks.shape == (1, *size) and found.soft is not None and found.soft.shape == (1, *size)
    # 49 tokens: 49 - floor(.5 * 49) and 49 - floor(.7 * 49)
    assert [selection.k for selection in found.selections] == [25, 15]
    assert 0 <= found.score <= 1
    assert set(found.timings) == {"guidance", "prefix", "select", "blocks", "decode", "postprocess"}
    assert all(seconds >= 0 for seconds in found.timings.values())


def test_pruning_changes_the_answer_and_the_score_is_the_mean_inside(model: VLTP):
    pruned, whole = (model.segment(picture(), INSTRUCTION, soft=True, **o) for o in ({}, {"stages": ()}))
    assert not np.array_equal(pruned.soft, whole.soft)
    for found in (pruned, whole):
        assert found.masks.any() and not found.masks.all()
        assert found.score == pytest.approx(float(found.soft[found.masks].mean()), abs=1e-6)


@torch.inference_mode()
def test_several_seg_are_one_mask_their_union(model: VLTP):
    single = model.segment(picture(), INSTRUCTION, soft=True, stages=())
    found = model.segment(picture(), INSTRUCTION, soft=True, stages=(), answer=TWO)
    expected = _by_hand(model, picture(), TWO)
    assert found.protocol["n_seg"] == 2 and expected.shape[0] == 2
    assert torch.equal(torch.from_numpy(found.soft[0]), expected.amax(dim=0))
    assert not np.array_equal(found.soft, single.soft)


def test_several_seg_are_passes_of_their_own_or_one(model: VLTP):
    guidance = model.guidance(clip_pixels(picture(), size=30)[None], [INSTRUCTION], answer=TWO).states
    apart = [model.segment(picture(), INSTRUCTION, soft=True, guidance={INSTRUCTION: row[None]}) for row in guidance]
    each = model.segment(picture(), INSTRUCTION, soft=True, answer=TWO)
    assert np.allclose(each.soft, np.maximum(apart[0].soft, apart[1].soft), atol=1e-6)
    for stage, selection in enumerate(each.selections):
        kept = [set(one.selections[stage].indices[0].tolist()) for one in apart]
        assert set(selection.indices[0].tolist()) == kept[0] | kept[1]
    united = model.segment(picture(), INSTRUCTION, soft=True, answer=TWO, several="union")
    assert [selection.k for selection in united.selections] == [25, 15]
    assert united.protocol["several"] == "union" and each.protocol["several"] == "per_prompt"


@pytest.mark.parametrize("options", [{"answer": "Nothing."}, {"guidance": {INSTRUCTION: torch.zeros(0, 16)}}])
def test_no_seg_is_an_empty_mask_of_score_zero(model: VLTP, options: dict[str, Any]):
    found = model.segment(picture(), INSTRUCTION, soft=True, **options)
    assert found.masks.shape == (1, 41, 63) and not found.masks.any()
    assert found.score == 0.0 and not found.soft.any() and found.selections == ()
    assert found.protocol["n_seg"] == 0
    assert "kept" not in found.to_json()["frames"][0]
    clip = np.stack([picture(), picture(seed=1)])
    assert model.segment(clip, INSTRUCTION, **options).to_json()["frames"][1]["area_pixels"] == 0


def test_a_free_answer_is_asked_for(model: VLTP):
    found = model.segment(picture(), INSTRUCTION, generate=True)
    assert found.protocol["answer"] is None and found.masks.shape == (1, 41, 63)


def test_answers_do_not_depend_on_the_cache(model: VLTP):
    cache, asked = FrameCache(), [INSTRUCTION, "a dog", INSTRUCTION]
    fresh = [model.segment(picture(), each, soft=True, cache=FrameCache(0)) for each in asked]
    kept = model.segment(picture(), asked, soft=True, cache=cache)
    again = model.segment(picture(), asked, soft=True, cache=cache)
    for first, second, third in zip(fresh, kept, again, strict=True):
        _same(first, second)
        _same(first, third)
    assert not np.array_equal(fresh[0].soft, fresh[1].soft)
    # Looked, two instructions, one prefix; then nothing is new.
    assert cache.misses == 4
    other = model.segment(picture(), INSTRUCTION, soft=True, cache=cache, stages=((2, 0.5),))
    _same(other, model.segment(picture(), INSTRUCTION, soft=True, stages=((2, 0.5),)))
    assert cache.misses == 5
    for options in ({"answer": TWO}, {"visual": "blind"}, {"generate": True}, {"pruner": "random"}):
        _same(
            model.segment(picture(), INSTRUCTION, soft=True, cache=cache, **options),
            model.segment(picture(), INSTRUCTION, soft=True, **options),
        )


def test_the_prefix_runs_once_per_picture(model: VLTP, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    first = model.sam.image_encoder.blocks[0]
    handle = first.register_forward_hook(lambda *_: calls.append(1))
    try:
        cache = FrameCache()
        model.segment([picture(), picture(seed=1), picture()], [INSTRUCTION, "a dog"], cache=cache)
        assert len(calls) == 2
    finally:
        handle.remove()


def test_a_clip_is_segmented_frame_by_frame(model: VLTP):
    clip = np.stack([picture(), picture(seed=1), picture(seed=2)])
    whole = model.segment(clip, INSTRUCTION, soft=True)
    for index, frame in enumerate(clip):
        alone = model.segment(frame, INSTRUCTION, soft=True)
        assert np.array_equal(whole.masks[index], alone.masks[0])
        assert torch.equal(whole.selections[index].indices, alone.selections[-1].indices)
    stated = whole.to_json()["frames"]
    assert [len(frame["kept"]) for frame in stated] == [15, 15, 15] and "stages" not in stated[0]
    single = model.segment(clip[0], INSTRUCTION).to_json()["frames"][0]
    assert [len(stage) for stage in single["stages"]] == [25, 15] and single["kept"] == single["stages"][1]
    stream = list(model.segment_stream(iter(clip), [INSTRUCTION, "a dog"]))
    assert [len(parts) for parts in stream] == [2, 2, 2]


def test_any_selecting_method_may_choose(model: VLTP):
    expected = {
        "random(seed=3)": Random(keep_ratio=0.4, seed=3),
        "evtp": EVTP(keep_ratio=0.4),
    }
    for spec, made in expected.items():
        _same(
            model.segment(picture(), INSTRUCTION, pruner=spec, keep_ratio=0.4),
            model.segment(picture(), INSTRUCTION, pruner=made),
        )
    own = model.segment(picture(), INSTRUCTION, soft=True)
    _same(own, model.segment(picture(), INSTRUCTION, soft=True, pruner="vltp"))
    _same(own, model.segment(picture(), INSTRUCTION, soft=True, pruner=partial(pruner, "vltp")))
    other = model.segment(picture(), INSTRUCTION, pruner="vltp(keep_ratio=0.1)")
    assert [selection.k for selection in other.selections] == [5, 5]
    assert other.protocol["stages"] == [[1, "vltp(keep_ratio=0.1)"], [3, "vltp(keep_ratio=0.1)"]]
    similar = model.segment(picture(), INSTRUCTION, pruner="guidance_similarity")
    assert [selection.k for selection in similar.selections] == [25, 15]
    mixed = model.segment(picture(), INSTRUCTION, pruner="union(first=vltp(), second=random())")
    assert [selection.k for selection in mixed.selections] == [25, 15]


def test_stages_policy_and_reactivation_are_options(model: VLTP):
    found = model.segment(picture(), INSTRUCTION, stages=[(2, 0.3)], policy="stale_kv")
    assert [selection.k for selection in found.selections] == [15] and found.protocol["policy"] == "stale_kv"
    frozen = model.segment(picture(), INSTRUCTION, reactivate=False)
    first, second = (set(selection.indices[0].tolist()) for selection in frozen.selections)
    assert second <= first and frozen.protocol["reactivate"] is False


@pytest.mark.parametrize("method", ["cts", "dtop", "svit", "random", "kcenter"])
def test_other_methods_take_the_encoders_place(model: VLTP, method: str):
    weights = encoder_weights(method, model.config.sam)
    encoder = pruned_encoder(method, model.sam, weights=None if weights is None else weights.eval())
    found = model.segment(picture(), [INSTRUCTION, "a dog"], encoder=encoder, soft=True)
    _same(found[0], model.segment(picture(), INSTRUCTION, encoder=encoder, soft=True, cache=FrameCache()))
    assert found[0].masks.shape == (1, 41, 63)


def test_a_model_may_have_another_method_of_its_own(tmp_path):
    svit = tiny_vltp(method="svit")
    svit.save_pretrained(tmp_path)
    _same(svit.segment(picture(), INSTRUCTION), VLTP.from_pretrained(tmp_path).segment(picture(), INSTRUCTION))
    plain = tiny_vltp(method="random")
    assert plain.prune_decoder is None
    with pytest.raises(LeansegError, match="vltp needs scorer"):
        plain.segment(picture(), INSTRUCTION, pruner="vltp")


OWN_STAGES = {"cts": ((0, 0.6),), "dtop": ((1, 1.0), (3, 1.0)), "svit": ((1, 0.7), (2, 0.5))}


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (method, options, f"{name} would change nothing on a model of the method {method}: its {decides}")
        for method, decides in (("svit", "gates say who stays"), ("dtop", "confidence says who leaves"))
        for options, name in (
            ({"keep_ratio": 0.02}, "keep_ratio"),
            ({"stages": [(2, 0.02)]}, "other stages and keep_ratio"),
            ({"policy": "stale_kv"}, "policy"),
            ({"reactivate": False}, "reactivate"),
        )
    ]
    + [
        ("cts", {"policy": "stale_kv"}, "policy would change nothing on a model of the method cts: its network shares"),
        ("cts", {"reactivate": False}, "reactivate would change nothing"),
        ("cts", {"stages": [(2, 0.5)]}, "cts shares before the first block"),
    ],
)
def test_what_a_models_method_does_not_read_is_refused(method: str, options: dict[str, Any], message: str):
    model = tiny_vltp(method=method, stages=OWN_STAGES[method])
    with pytest.raises(LeansegError, match=message):
        model.segment(picture(), INSTRUCTION, **options)


@pytest.mark.parametrize("method", OWN_STAGES)
def test_what_the_configuration_says_may_be_said_again(method: str):
    model = tiny_vltp(method=method, stages=OWN_STAGES[method])
    again = {"stages": list(OWN_STAGES[method]), "policy": "drop", "reactivate": True}
    _same(model.segment(picture(), INSTRUCTION, **again), model.segment(picture(), INSTRUCTION))
    chosen = model.segment(picture(), INSTRUCTION, stages=[(1, 0.5)], policy="stale_kv", pruner="random")
    assert [selection.k for selection in chosen.selections] == [25]
    assert model.segment(picture(), INSTRUCTION, stages=()).selections == ()


def test_dtops_confidence_says_how_many_leave():
    model = tiny_vltp(method="dtop", stages=OWN_STAGES["dtop"])
    found = [model.segment(picture(), INSTRUCTION, soft=True, confidence=value) for value in (0.5, 0.95, 1.0)]
    assert found[0].selections[-1].k < 49
    assert [each.protocol["confidence"] for each in found] == [0.5, 0.95, 1.0]
    _same(found[1], model.segment(picture(), INSTRUCTION, soft=True))
    assert np.array_equal(found[2].soft, model.segment(picture(), INSTRUCTION, soft=True, stages=()).soft)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("svit", {"confidence": 0.9}, "svit: unknown option 'confidence'"),
        ("dtop", {"confidence": 0.4}, "confidence is 0.4; expected 0.5 to 1"),
        ("dtop", {"confidence": "high"}, "confidence is 'high'; expected a number in 0.5 to 1"),
        ("dtop", {"confidence": 0.9, "pruner": "random"}, "heads of a dtop model, which nobody asks beside a pruner"),
        ("dtop", {"confidence": 0.9, "stages": ()}, "heads of a dtop model, which nobody asks without stages"),
    ],
)
def test_a_confidence_that_nobody_reads_is_refused(method: str, options: dict[str, Any], message: str):
    model = tiny_vltp(method=method, stages=OWN_STAGES[method])
    with pytest.raises(LeansegError, match=message):
        model.segment(picture(), INSTRUCTION, **options)


def test_cts_reads_its_keep_ratio():
    model = tiny_vltp(method="cts", stages=OWN_STAGES["cts"])
    kept = [model.segment(picture(), INSTRUCTION, keep_ratio=ratio).selections[-1].k for ratio in (0.9, 0.6)]
    assert kept[0] > kept[1]


def test_guidance_may_come_from_elsewhere(model: VLTP, tmp_path):
    asked = [INSTRUCTION, "a dog"]
    cache = GuidanceCache(dim=16)
    for each in asked:
        cache[each] = model.guidance(clip_pixels(picture(), size=30)[None], [each]).states
    cache.save(tmp_path / "guidance.safetensors")
    loaded = GuidanceCache.load(tmp_path / "guidance.safetensors", dim=16)
    assert sorted(loaded) == sorted(asked)
    expected = model.segment(picture(), asked, soft=True)
    silent = tiny_vltp()
    silent.mllm = None
    for first, second in zip(expected, silent.segment(picture(), asked, soft=True, guidance=loaded), strict=True):
        _same(first, second)


def test_what_is_precise_stays_precise(tmp_path, model: VLTP):
    model.save_pretrained(tmp_path)
    for dtype in ("bfloat16", "float16"):
        half = VLTP.from_pretrained(tmp_path, dtype=dtype)
        found = half.segment(picture(), INSTRUCTION, soft=True)
        assert found.protocol["dtype"] == dtype and half.mllm.dtype == getattr(torch, dtype)
        assert half.sam.mask_decoder.iou_token.weight.dtype == torch.float32
        assert np.abs(found.soft - model.segment(picture(), INSTRUCTION, soft=True).soft).mean() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prunner": "random"}, "unknown option of segment 'prunner'; did you mean 'pruner'"),
        ({"site": "before_projector"}, "unknown option of segment 'site'"),
        ({"pruner": 0.2}, "pruner is 0.2; expected a Pruner, or a spec"),
        ({"pruner": "randm"}, "unknown pruner 'randm'; did you mean 'random'"),
        ({"pruner": "mine.py:Mine"}, "pruners from files are not accepted here"),
        ({"pruner": Attention(keep_ratio=0.2)}, "wants attention; inside SAM a method sees one picture's features"),
        ({"pruner": Joint(keep_ratio=0.2, inner=EVTP(keep_ratio=0.2))}, "wants a clip's frames in one row"),
        ({"pruner": ToMe(keep_ratio=0.2)}, "wants keys; inside SAM"),
        ({"stages": 3}, "stages are 3; expected pairs"),
        ({"stages": [(9, 0.5)]}, "stages lie after blocks|expected one at least, after blocks in"),
        ({"stages": [(1, 0.0)]}, "keep_ratio"),
        ({"keep_ratio": 2}, "keep_ratio"),
        ({"policy": "dorp"}, "unknown policy 'dorp'; did you mean 'drop'"),
        ({"several": "both"}, "unknown several 'both'"),
        ({"visual": "ovp_only"}, "unknown visual 'ovp_only'"),
        ({"visual": None}, "unknown visual 'None'"),
        ({"encoder": 3}, "encoder is a int"),
        ({"no_object_threshold": 2}, "no_object_threshold=2; a score lies in 0..1"),
        ({"answer": 3}, "answer is 3; expected text"),
        (
            {"guidance": {INSTRUCTION: torch.zeros(1, 15)}},
            r"a tensor \(1, 15\); expected finite \[SEG\]",
        ),
        ({"guidance": {INSTRUCTION: torch.full((1, 16), torch.nan)}}, "expected finite"),
        ({"guidance": {INSTRUCTION: [0.0]}}, "is list; expected finite"),
    ],
)
def test_unusable_options_are_refused_before_any_work(model: VLTP, options: dict[str, Any], message: str):
    def frames() -> Any:
        raise AssertionError("a frame was read")
        yield

    with pytest.raises(LeansegError, match=message) as caught:
        model.segment_stream(frames(), INSTRUCTION, **options)
    assert "\n" not in str(caught.value)


def test_an_encoder_excludes_other_choices_of_tokens(model: VLTP):
    with pytest.raises(LeansegError, match=r"beside \['pruner', 'keep_ratio'\]"):
        model.segment(picture(), INSTRUCTION, encoder=model.encoder(), pruner="random", keep_ratio=0.2)


@pytest.mark.parametrize(
    ("clip", "instruction", "message"),
    [
        (picture(), "", "the instruction is empty"),
        (picture(), [], "the list of instructions is empty"),
        (picture(), "the [SEG] cup", r"the instruction holds \[SEG\]"),
        (picture(), "cup " * 300, "tokens long"),
        (picture()[..., 0], "a cup", "expected RGB uint8"),
        (picture().astype(np.float32), "a cup", "expected RGB uint8"),
        ([], "a cup", "the clip has no frames"),
        ([picture(), picture(5, 6)], "a cup", "all frames must have one size"),
        ("picture.png", "a cup", "the clip is str"),
    ],
)
def test_unusable_inputs_are_refused(model: VLTP, clip: Any, instruction: Any, message: str):
    with pytest.raises(LeansegError, match=message):
        model.segment(clip, instruction)


def test_below_the_threshold_nothing_is_found(model: VLTP):
    score = model.segment(picture(), INSTRUCTION).score
    assert model.segment(picture(), INSTRUCTION, no_object_threshold=score - 0.01).masks.any()
    below = model.segment(picture(), INSTRUCTION, no_object_threshold=score + 0.01)
    assert not below.masks.any() and below.score == score


def test_infinite_masks_and_training_mode_are_refused():
    model = tiny_vltp()
    model.sam.mask_decoder.iou_token.weight.data.fill_(torch.inf)
    with pytest.raises(WeightsError, match="NaN or infinite masks in torch"):
        model.segment(picture(), INSTRUCTION)
    with pytest.raises(LeansegError, match=r"call model.eval\(\) first"):
        model.train().segment(picture(), INSTRUCTION)


def test_segmenting_leaves_random_state_and_inputs_alone(model: VLTP):
    image, before = picture(), torch.get_rng_state()
    copy = image.copy()
    model.segment(image, INSTRUCTION, pruner="random")
    assert np.array_equal(image, copy) and torch.equal(torch.get_rng_state(), before)

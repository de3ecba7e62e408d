"""Mode "exact": every part equals what torch counts on the real modules."""

from __future__ import annotations

import json

import pytest
import torch
from tests.golden_cases import GOLDEN
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from leanseg import costs
from leanseg.costs import Sizes, formulas
from leanseg.costs import instructseg_exact as exact
from leanseg.engine.bench.stages import noise_clip
from leanseg.models import PRESETS, InstructSeg
from leanseg.models.instructseg.cache import FrameCache
from leanseg.models.instructseg.pixel_decoder import PixelFeatures
from leanseg.models.instructseg.prompt import TASKS, prompt_text
from leanseg.models.instructseg.tokenizer import train_tokenizer
from leanseg.pruners import Uniform

# On the meta device nothing is computed, so that the released sizes fit anywhere.
DEVICES = {"tiny": "cpu", "nano": "cpu", "full": "meta"}
REFER, LENGTH = 16, 50


def _counted(run):
    """Return (multiply-adds, result); torch counts two FLOPs each, and a CPU's attention only as plain products."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 2, result


@pytest.fixture(scope="module", params=list(DEVICES))
def built(request):
    with torch.device(DEVICES[request.param]):
        model = InstructSeg(PRESETS[request.param]).eval().requires_grad_(False)
    return model, Sizes.of(model.config)


def _zeros(model, *shape):
    return torch.zeros(*shape, device=model.device)


@pytest.fixture(scope="module")
def pixels(built):
    """The pixel branch's features and the counts of its two halves."""
    model, sizes = built
    swin_count, maps = _counted(
        lambda: model.vision_tower_mask(_zeros(model, 1, 3, sizes.image_side, sizes.image_side))
    )
    decoder_count, (mask_features, levels) = _counted(lambda: model.pixel_decoder(*maps))
    features = PixelFeatures(res5=maps.res5, multi_scale=tuple(levels), mask_features=mask_features)
    return features, swin_count, decoder_count


def test_released_sizes_are_the_models():
    assert Sizes.of(PRESETS["full"]) == Sizes()


def test_vision_is_counted_up_to_the_layer_that_is_read(built):
    model, sizes = built
    picture = _zeros(model, 1, 3, model.config.vision.image_size, model.config.vision.image_size)
    count, _ = _counted(lambda: model.encode_vision(picture))
    assert count == exact.vision(sizes, sizes.vision_layers_run)
    whole, _ = _counted(lambda: model.vision_tower(picture))
    assert whole == exact.vision(sizes, sizes.vision_layers) + exact.vision_head(sizes)


def test_projector(built):
    model, sizes = built
    count, _ = _counted(lambda: model.project(_zeros(model, 1, 7, sizes.vision_width)))
    assert count == exact.projector(sizes, 7)


def test_temporal_tokens_of_one_frame(built):
    model, sizes = built
    ids = torch.zeros(REFER, dtype=torch.long)
    count, _ = _counted(lambda: model.temporal_tokens(_zeros(model, 1, 7, sizes.width), ids))
    assert count == exact.temporal(sizes, 7 + REFER)


def test_language_model(built):
    model, sizes = built
    embeds = _zeros(model, 1, LENGTH, sizes.width)
    places = torch.arange(LENGTH, device=model.device)[None]
    # A ready-made mask: the meta device has no values from which to make one.
    mask = _zeros(model, 1, 1, LENGTH, LENGTH)
    count, _ = _counted(lambda: model.hidden_states(embeds, places, mask))
    assert count == exact.language_model(sizes, LENGTH)
    queries, _ = _counted(lambda: model.seg_query_projector(_zeros(model, 1, sizes.queries, sizes.width)))
    assert queries == exact.mask_queries(sizes)


def test_swin_with_its_padded_windows(built, pixels):
    assert pixels[1] == exact.swin(built[1])


def test_pixel_decoder_but_for_the_sampling_that_torch_does_not_count(built, pixels):
    sizes = built[1]
    assert pixels[2] == exact.pixel_decoder(sizes) - exact.deformable_sampling(sizes)


def test_text_fusion(built, pixels):
    model, sizes = built
    count, _ = _counted(lambda: model.score_embedding([_zeros(model, REFER, sizes.width)], pixels[0].res5))
    assert count == exact.text_fusion(sizes, 1)


@pytest.mark.parametrize("last_only", [True, False])
def test_mask_decoder_as_here_and_as_released(built, pixels, last_only):
    model, sizes = built
    queries, score = _zeros(model, 1, sizes.queries, sizes.mask_width), _zeros(model, 1, 1, sizes.mask_width)
    count, _ = _counted(lambda: model.decode(queries, score, pixels[0], last_only=last_only))
    assert count == exact.mask_decoder(sizes, last_only=last_only)


@pytest.mark.parametrize(("frames", "instructions"), [(1, 1), (1, 9), (6, 2)])
def test_a_whole_answer_is_the_sum_of_its_parts(frames, instructions):
    tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
    model = InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).eval().requires_grad_(False)
    clip, text = noise_clip(frames), "the large object"
    options = {"pruner": Uniform(keep_ratio=0.2), "coverage": False, "cache": FrameCache(0)}
    given = clip if frames > 1 else clip[0]
    count, _ = _counted(lambda: model.segment(given, [text] * instructions, **options))
    prompt = model.encode_prompt("video_referring" if frames > 1 else "referring", text)
    cost = costs.instructseg(
        "refyoutube" if frames > 1 else "refcoco",
        mode="exact",
        keep_ratio=0.2,
        sizes=model.config,
        selection="free",
        instructions=instructions,
        template_tokens=prompt.n_text,
        text_tokens=len(prompt.refer_ids) - 1,
    )
    unseen = exact.deformable_sampling(Sizes.of(model.config)) * frames
    assert count == pytest.approx(cost.total * 1e12 * frames * instructions - unseen, rel=1e-12)


def test_template_tokens_are_those_of_the_released_prompts():
    prompts = GOLDEN / "instructseg" / "prompts" / "prompts.json"
    if not prompts.is_file():
        pytest.skip(f"no {prompts.name} below {GOLDEN}")
    tasks = json.loads(prompts.read_text())["tasks"]
    for task, is_video in (("res", False), ("reasonseg", False), ("rvos", True), ("revos", True)):
        for case in tasks[task]["cases"]:
            assert sum(index >= 0 for index in case["input_ids"]) == exact.TEMPLATE_TOKENS[is_video]


def test_sequence_is_template_instruction_temporal_tokens_kept_tokens_and_queries():
    image, clip = costs.instructseg("refcoco", 146, "exact"), costs.instructseg("refyoutube", 146, "exact")
    assert image.text_tokens == 69 + 15 + 1
    assert image.sequence_length == 85 + 128 + 146 + 100
    assert clip.sequence_length == 80 + 20 + 1 + 4 * 128 + 146 + 100
    assert (image.frames, clip.frames) == (1, 4)
    own = costs.instructseg("refcoco", 146, "exact", template_tokens=10, text_tokens=4)
    assert (own.text_tokens, own.sequence_length) == (15, 15 + 128 + 146 + 100)


@pytest.mark.parametrize(("dataset", "passes", "condensed"), [("refcoco", 2, 1), ("revos", 5, 4)])
def test_as_released_every_answer_encodes_its_frames_anew(dataset, passes, condensed):
    sizes = Sizes()
    once = costs.instructseg(dataset, 73, "exact").parts
    anew = costs.instructseg(dataset, 73, "exact", cached=False).parts
    whole = exact.vision(sizes, 27) + exact.vision_head(sizes)
    assert anew["vision"] == pytest.approx(passes * whole / 1e12)
    assert anew["temporal"] == pytest.approx(condensed * once["temporal"])
    for part in ("prune", "projector"):
        assert anew[part] == pytest.approx(passes * once[part])
    for part in ("lm", "swin", "pixel_decoder"):
        assert anew[part] == once[part]
    for part in ("vmtf", "mask"):
        assert anew[part] > once[part]


def test_selection_costs_one_distance_per_token_and_pick_and_nothing_without_picks():
    assert costs.instructseg("refcoco", 146, "exact").parts["prune"] == 729 * 146 * 1154 / 1e12
    behind = costs.instructseg("refcoco", 146, "exact", site="after_projector").parts
    assert behind["prune"] == 729 * 146 * 2562 / 1e12
    assert behind["projector"] == costs.instructseg("refcoco", 729, "exact").parts["projector"]
    assert costs.instructseg("refcoco", 729, "exact").parts["prune"] == 0
    assert costs.instructseg("refcoco", 146, "exact", selection="free").parts["prune"] == 0


def test_instructions_share_what_does_not_read_text():
    one, four = (costs.instructseg("revos", 146, "exact", instructions=count).parts for count in (1, 4))
    for part in ("vision", "prune", "projector", "swin", "pixel_decoder"):
        assert four[part] == pytest.approx(one[part] / 4)
    for part in ("lm", "temporal", "vmtf"):
        assert four[part] == one[part]
    assert four["mask"] == pytest.approx(one["mask"] - 0.75 * exact.mask_memory(Sizes()) / 1e12)


def test_sizes_of_any_model_are_taken():
    nano = costs.instructseg("refcoco", mode="exact", sizes=PRESETS["nano"], keep_ratio=1)
    assert (nano.visual_tokens, nano.n_tokens) == (256, 256)
    assert nano.parts == costs.instructseg("refcoco", 256, "exact", sizes=Sizes.of(PRESETS["nano"])).parts
    assert costs.instructseg(mode="exact", sizes=PRESETS["tiny"]).visual_tokens == 16


def test_a_tower_without_a_head_costs_none():
    assert exact.vision_head(Sizes(vision_head=False)) == 0


def test_windows_are_padded_to_the_next_multiple():
    assert formulas.windows(24, 12) == 576
    assert formulas.windows(25, 12) == 36**2


def test_five_times_on_clips_cannot_come_from_pruning_alone():
    for cached in (True, False):
        whole = costs.instructseg("refyoutube", 729, "exact", cached=cached)
        least = costs.instructseg("refyoutube", 1, "exact", cached=cached)
        assert whole.total / least.total < 2
        assert whole.parts["lm"] / least.parts["lm"] < 2.5

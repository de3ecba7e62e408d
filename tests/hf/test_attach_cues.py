from __future__ import annotations

import sys

import pytest
import torch
from tests.hf.families import FAMILIES, Inputs, model_of
from tests.hf.methods import SEEN, ByAttention, ByGuidance, ByKeys, ByLanguage, Halves, OfClip, Sparing

from leanseg import PRUNERS, attach, pruner
from leanseg.errors import AttachError
from leanseg.hf import LAYOUTS
from leanseg.hf.layouts import find

PICTURES = [[3, "image", 4], [5, "image", 2, "image", 6]]
WITH_CUES = [name for name in FAMILIES if name != "pixtral" and LAYOUTS[name].cues is not None]


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def units():
    """The tokens that a method saw, picture by picture, in order of appearance where all grids are one."""
    return [tokens.row(row) for tokens in SEEN for row in range(tokens.batch)]


def tower_maps(family, inputs):
    """The eager attention maps (heads, n, n) of the layer that is used, one per picture, in the tower's own order."""
    model = model_of(family, "eager")
    layout, base = find(model)
    layer = layout.part(base, "layers")[layout.feature_layer(base)]
    attention = next(getattr(layer, name) for name in ("self_attn", "attn", "attention") if hasattr(layer, name))
    maps = []
    modelling = sys.modules[type(attention).__module__]
    original = modelling.eager_attention_forward

    def noting(module, query, key, value, attention_mask, **kwargs):
        output, weights = original(module, query, key, value, attention_mask, **kwargs)
        if module is attention:
            maps.append(weights)
        return output, weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modelling, "eager_attention_forward", noting)
        run(model, inputs)
    return [one for part in maps for one in part]


@pytest.mark.parametrize("family", [name for name in WITH_CUES if "qwen" not in name])
def test_tower_attention_is_that_of_the_eager_maps_pooled_onto_the_grid(family):
    model, inputs = model_of(family), Inputs(family, PICTURES).make()
    with attach(model, ByAttention(keep_ratio=0.3)) as trace:
        run(model, inputs)
    found = [tokens.attention[0] for tokens in units()]
    maps = tower_maps(family, inputs)
    assert len(found) == len(maps) == 3
    side = trace.items[0].grid.height
    for attention, each in zip(found, maps, strict=True):
        received = each.mean(dim=(0, 1))
        whole = int(len(received) ** 0.5)
        raster = received[len(received) - whole**2 :].reshape(side, whole // side, side, whole // side)
        torch.testing.assert_close(attention, raster.mean(dim=(1, 3)).flatten(), atol=1e-6, rtol=0)
    kept = [set(selection.indices[0].tolist()) for selection in trace.selections]
    assert kept == [set(attention.topk(5).indices.tolist()) for attention in found]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_tower_attention_of_a_qwen_is_brought_onto_the_grid(family):
    # One picture, so that everything that the layer sees belongs to it.
    model, inputs = model_of(family), Inputs(family, [[3, "image", 4]]).make()
    with attach(model, ByAttention(keep_ratio=0.3)) as trace:
        run(model, inputs)
    (attention,) = [tokens.attention[0] for tokens in units()]
    (each,) = tower_maps(family, inputs)
    received = each.mean(dim=(0, 1)).reshape(-1, 4).mean(dim=1)
    if family == "qwen2_5_vl":  # windows of 2 x 2 groups, those at the border smaller
        order = [
            row * 3 + column
            for top, left in ((0, 0), (0, 2), (2, 0), (2, 2))
            for row in range(top, min(top + 2, 4))
            for column in range(left, min(left + 2, 3))
        ]
        raster = torch.empty_like(received)
        raster[order] = received
        received = raster
    assert (trace.items[0].grid.height, trace.items[0].grid.width) == (4, 3)
    torch.testing.assert_close(attention, received, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", [name for name in WITH_CUES if "qwen" not in name])
def test_the_grid_of_a_cue_is_the_grid_of_the_features(family):
    """A patch changed in front of the projector changes the token in whose cell the pooling puts it, and no other."""
    model = model_of(family)
    layout, base = find(model)
    seen = []
    tower = layout.part(base, "tower")
    hook = tower.register_forward_hook(lambda _m, _a, output: seen.append(output.last_hidden_state))
    with attach(model, ByAttention(keep_ratio=0.3)) as trace:
        run(model, Inputs(family, [[3, "image", 4]]).make())
    hook.remove()
    n_patches, grid = seen[0].shape[1], trace.items[0].grid
    whole = int(n_patches**0.5)
    n_prefix = n_patches - whole**2
    for patch in (0, 1, whole, whole * 3 + 2, whole**2 - 1):
        one = torch.zeros(1, n_patches)
        one[0, n_prefix + patch] = 1.0
        (pooled,) = layout.cues(base, [one], {}, None)
        step = whole // grid.height
        row, column = divmod(patch, whole)
        assert pooled.nonzero().flatten().tolist() == [row // step * grid.width + column // step]
    if family in ("internvl", "aya_vision", "idefics3", "smolvlm", "gemma3"):
        check_shuffle(base, layout, n_prefix, whole, grid)


def check_shuffle(base, layout, n_prefix, whole, grid):
    hidden = torch.randn(1, whole**2, 24, generator=torch.Generator().manual_seed(0))
    projector = layout.part(base, "projector")

    def projected(values):
        if layout.model_type == "internvl":
            values = base.pixel_shuffle(values.reshape(1, whole, whole, -1), scale_factor=0.5)
            values = values.reshape(1, grid.n_tokens, -1)
        return projector(values).reshape(grid.n_tokens, -1)

    before = projected(hidden)
    for patch in (1, whole * 3 + 2):
        changed = hidden.clone()
        changed[0, patch] += 1.0
        rows = (projected(changed) - before).abs().amax(dim=1).nonzero().flatten().tolist()
        row, column = divmod(patch, whole)
        step = whole // grid.height
        assert rows == [row // step * grid.width + column // step]


@pytest.mark.parametrize("family", ["llava", "internvl", "qwen2_5_vl"])
def test_keys_are_given_per_token(family):
    model, inputs = model_of(family), Inputs(family, PICTURES).make()
    with attach(model, ByKeys(keep_ratio=0.3)) as trace:
        run(model, inputs)
    width = 12 if family != "qwen2_5_vl" else 8
    assert sorted(tokens.keys.shape[1:] for tokens in units()) == sorted((item.n_tokens, width) for item in trace.items)


def test_cues_follow_their_row_through_beams():
    model, inputs = model_of("llava"), Inputs("llava", PICTURES).make()
    with attach(model, ByAttention(keep_ratio=0.3)) as trace:
        run(model, inputs)
        alone = {item.row: item.selections[0].indices for item in trace.items}
        model.generate(**inputs, num_beams=2, do_sample=False, max_new_tokens=2)
        assert len(trace.items) == 6
        for item in trace.items[:2]:
            assert item.row in (0, 1) and torch.equal(item.selections[0].indices, alone[0])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_5_vl", "qwen3_vl", "gemma3", "llava_next"])
def test_language_attention_is_what_the_last_text_token_gives_in_the_eager_maps(family, side):
    model, inputs = model_of(family), Inputs(family, PICTURES, side=side).make()
    with attach(model, ByLanguage(keep_ratio=0.3), language_layer=1) as trace:
        run(model, inputs)
    with torch.no_grad():
        maps = model_of(family, "eager")(**inputs, output_attentions=True).attentions[1].mean(dim=1)
    last = [int(row.nonzero().max()) for row in inputs["attention_mask"]]
    for item in trace.items:
        expected = maps[item.row, last[item.row], item.columns]
        k = item.selections[0].k
        assert set(item.selections[0].indices[0].tolist()) == set(expected.topk(k).indices.tolist())
    assert trace.length_after < trace.length_before


def test_guidance_is_the_mean_of_the_rows_text():
    model, inputs = model_of("llava"), Inputs("llava", PICTURES).make()
    with attach(model, ByGuidance(keep_ratio=0.3)):
        run(model, inputs)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    text = (inputs["input_ids"] != 98) & inputs["attention_mask"].bool()
    means = [embeds[row][text[row]].mean(dim=0) for row in (0, 1, 1)]
    torch.testing.assert_close(torch.cat([tokens.guidance for tokens in units()]), torch.stack(means))


def test_no_guidance_without_text():
    inputs = Inputs("llava", [["image"]]).make()
    with attach(model_of("llava"), ByGuidance(keep_ratio=0.3)), pytest.raises(AttachError, match="a row has none"):
        run(model_of("llava"), inputs)


@pytest.mark.parametrize("family", ["llava", "internvl", "paligemma"])
def test_merged_features_stand_for_the_rows_after_the_projector(family):
    model, inputs = model_of(family), Inputs(family, PICTURES).make()
    language = find(model)[0].part(find(model)[1], "language")
    seen = []
    hook = language.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(kwargs), with_kwargs=True)
    run(model, inputs)
    with attach(model, Halves(keep_ratio=0.25)) as trace:
        hook.remove()
        hook = language.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(kwargs), with_kwargs=True)
        run(model, inputs)
    hook.remove()
    before, after = seen[0]["inputs_embeds"], seen[1]["inputs_embeds"]
    for item in trace.items:
        mean = before[item.row, item.columns[3:]].mean(dim=0)
        place = (trace.kept[item.row] == item.columns[3]).nonzero().item()
        torch.testing.assert_close(after[item.row, place], mean)
        assert torch.equal(after[item.row, place - 1], before[item.row, item.columns[2]])


def test_guidance_is_refused_before_the_projector():
    refused = pytest.raises(AttachError, match="guided by text embeddings, which have the width of projected features")
    with refused, attach(model_of("llava"), ByGuidance(keep_ratio=0.5), site="before_projector"):
        pass


@pytest.mark.parametrize("family", ["llava", "vipllava", "internvl", "paligemma"])
def test_before_the_projector_a_method_sees_the_towers_features_and_merges_there(family):
    model, inputs = model_of(family), Inputs(family, PICTURES).make()
    layout, base = find(model)
    projector = layout.part(base, "projector")
    entered = []
    hook = projector.register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
    with attach(model, Halves(keep_ratio=0.25), site="before_projector") as trace:
        fed = []
        noted = layout.part(base, "language").register_forward_pre_hook(
            lambda _m, _a, kwargs: fed.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        run(model, inputs)
    hook.remove()
    noted.remove()
    assert len(entered) == 1, "the projector ran once for the model"
    assert torch.equal(torch.cat([tokens.features for tokens in units()]), entered[0])
    merged = torch.cat([entered[0][:, :3], entered[0][:, 3:].mean(dim=1, keepdim=True)], dim=1)
    for item, rows in zip(trace.items, projector(merged), strict=True):
        places = [int((trace.kept[item.row] == column).nonzero()) for column in item.columns[:4]]
        torch.testing.assert_close(fed[0][item.row, places], rows)


def test_a_method_for_clips_takes_one_joint_row():
    model, inputs = model_of("qwen2_vl"), Inputs("qwen2_vl", [[3, "video", 4, "image", 2]]).make()
    with attach(model, OfClip(keep_ratio=0.25)) as trace:
        run(model, inputs)
    assert [(tokens.batch, tokens.grid.frames, tokens.n_tokens) for tokens in SEEN] == [(1, 1, 12), (1, 3, 24)]
    assert [(item.kind, item.grid.frames, item.n_kept) for item in trace.items] == [("image", 1, 3), ("video", 3, 6)]


def test_pictures_may_keep_different_counts():
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4], [3, "image", 4]]).make()
    with attach(model, Sparing(keep_ratio=0.9)) as trace:
        logits = run(model, inputs)
    first, second = trace.items
    assert first.n_kept != second.n_kept
    assert (trace.kept < 0).sum() == abs(first.n_kept - second.n_kept)
    assert logits.shape[1] == 7 + max(first.n_kept, second.n_kept)


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision", "mistral3", "got_ocr2", "pixtral"])
def test_cues_that_cannot_be_had_are_refused_by_name(family):
    name = "llava' with a Pixtral tower" if family == "pixtral" else f"{family}'"
    for method, cue in ((ByAttention, "attention"), (ByKeys, "keys")):
        expected = f"needs {cue} of the vision tower, which cannot be had from '{name}.*where they can: llava, vipllava"
        with pytest.raises(AttachError, match=expected), attach(model_of(family), method(keep_ratio=0.5)):
            pass
    if family == "pixtral":
        return
    refused = pytest.raises(AttachError, match=r"does not take one row per token.*llava, vipllava, paligemma, internvl")
    with refused, attach(model_of(family), "random(keep_ratio=0.5)", site="before_projector"):
        pass


SPECS = [*PRUNERS, "reserve(inner=kcenter())", "joint(inner=kcenter())", "adaptive(inner=evtp(), radius=1.0)"]


@pytest.mark.parametrize("spec", [*SPECS, "cdpruner(conditioned=True)", "chain(first=max_norm(), second=evtp())"])
def test_every_registered_method_runs_attached(spec):
    model, inputs = model_of("llava"), Inputs("llava", PICTURES).make()
    with attach(model, pruner(spec, keep_ratio=0.5), language_layer=1) as trace:
        tokens = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 2
    if spec != "identity":
        assert 0 < trace.n_kept < trace.n_tokens and trace.length_after < trace.length_before


@pytest.mark.parametrize("spec", ["evtp", "evtp_video", "evs", "visionzip", "fastv", "joint(inner=kcenter())"])
def test_methods_for_pictures_and_for_clips_run_on_clips(spec):
    model, inputs = model_of("qwen2_5_vl"), Inputs("qwen2_5_vl", [[3, "video", 4, "image", 2]]).make()
    made = pruner(spec, keep_ratio=0.5)
    with attach(model, made, language_layer=1) as trace:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    (clip,) = [item for item in trace.items if item.kind == "video"]
    assert clip.grid.frames == (3 if made.scope == "clip" else 1)
    assert len(clip.selections) * clip.grid.frames == 3

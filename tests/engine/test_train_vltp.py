"""VLTP's training, step by step: what a batch holds, what each stage's losses move, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine.vltp_training import generator, learner, pictures, pool, stage, tokenizer, total

from leanseg.data.sample import Sample
from leanseg.data.scenes import TASK_KINDS
from leanseg.data.scenes.items import ITEMS
from leanseg.engine.train.batches import IGNORED
from leanseg.engine.train.vltp.heads import TrainingHeads
from leanseg.engine.train.vltp.learner import Learner
from leanseg.engine.train.vltp.packed import packed_read
from leanseg.engine.train.vltp.pictures import (
    Picture,
    dataset_source,
    draw_prompts,
    make_batch,
    scenes_source,
)
from leanseg.engine.train.vltp.stages import PRUNING
from leanseg.engine.train.vltp.trainer import trainable
from leanseg.engine.train.vltp.vocabulary import build_guide_tokenizer
from leanseg.models.vltp.conversation import TEMPLATES, conversation
from leanseg.models.vltp.losses import patch_labels
from leanseg.models.vltp.presets import VLTP_PRESETS

TINY = VLTP_PRESETS["tiny"]


def moved(taught: Learner, losses: dict[str, torch.Tensor]) -> set[str]:
    total(losses).backward()
    return {name for name, each in taught.model.named_parameters() if each.grad is not None and each.grad.any()}


def square(height: int, width: int) -> Picture:
    mask = np.zeros((1, height, width), dtype=bool)
    mask[0, : height // 2, : width // 2] = True
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    return Picture(image=image, things=mask, texts=("the thing",), targets=mask)


def test_tokens_are_labelled_with_what_they_show() -> None:
    picture = replace(square(56, 56), items=(7,))
    labels = make_batch([picture], TINY).items.view(7, 7)
    assert labels[0, 0] == 8 and labels[6, 6] == 0 and labels[3, 3] == IGNORED
    assert (make_batch([square(56, 56)], TINY).items == IGNORED).all()


def test_the_filling_of_a_wide_picture_shows_nothing() -> None:
    batch = make_batch([replace(square(20, 40), items=(7,))], TINY)
    assert batch.sizes == ((28, 56),)
    labels = batch.items.view(7, 7)
    assert labels[0, 0] == 8 and (labels[4:] == 0).all()


def test_points_lie_in_their_things_and_boxes_around_them() -> None:
    (picture,) = pictures(1, canvas=96)
    batch = make_batch([picture], TINY)
    points, boxes = draw_prompts(batch, 56, 16, generator())
    assert points.points is not None and boxes.boxes is not None
    places, labels = points.points
    for row, target in enumerate(points.targets[0].numpy() > 0.5):
        inside = [(place + 0.5) * 96 / 56 for place in places[row][labels[row] == 1].numpy()]
        assert inside and all(target[int(y), int(x)] for x, y in inside)
        assert (places[row][labels[row] == -1] == 0).all()
    for box, target in zip(boxes.boxes.numpy() * 96 / 56, boxes.targets[0].numpy() > 0.5, strict=True):
        y, x = np.nonzero(target)
        sides = np.array([np.ptp(x) + 1, np.ptp(y) + 1] * 2)
        assert (np.abs(box - [x.min(), y.min(), x.max() + 1, y.max() + 1]) <= 0.1 * sides + 1e-3).all()
    again, _ = draw_prompts(batch, 56, 16, generator())
    assert again.points is not None and torch.equal(again.points[0], places)


def test_pictures_without_anything_to_point_at_get_no_prompts_and_teach_nothing() -> None:
    seen = square(40, 56)
    empty = replace(seen, things=np.zeros_like(seen.things), targets=np.zeros_like(seen.targets))
    batch = make_batch([empty, seen], TINY)
    for prompts in draw_prompts(batch, 56, 8, generator()):
        assert prompts.rows.tolist() == [1] * 4 and [len(each) for each in prompts.targets] == [0, 4]
    taught = learner(stage("sam", auxiliary=False))
    both, alone = (taught(make_batch(of, TINY), generator()) for of in ([empty, seen], [seen]))
    assert all(torch.allclose(both[name], alone[name], atol=1e-5) for name in alone)
    nothing = taught(make_batch([empty], TINY), generator())
    assert set(nothing) == set(both) and total(nothing) == 0
    total(nothing).backward()


def test_every_stage_step_and_process_draws_its_own_scenes_again_alike() -> None:
    source, of = scenes_source(0), stage("guide")
    first, other = source(of, 0, 0, 2), source(of, 0, 1, 2)
    assert len(first) == of.frames and len(first[0].texts) == of.texts
    assert not np.array_equal(first[0].image, other[0].image)
    assert np.array_equal(first[0].image, source(of, 0, 0, 2)[0].image)
    assert not np.array_equal(first[0].image, source(stage("sam"), 0, 0, 2)[0].image)


def test_samples_of_any_data_set_are_pictures_to_train_on() -> None:
    class Wide:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Sample:
            clip = np.full((2, 6, 9, 3), index, dtype=np.uint8)
            return Sample(str(index), clip, f"thing {index}", clip[..., 0] > 2)

    source = dataset_source(Wide(), seed=1)
    drawn = source(stage("guide"), 3, 0, 1)
    assert [each.texts for each in drawn] == [each.texts for each in source(stage("guide"), 3, 0, 1)]
    assert all(each.targets.shape == (1, 6, 9) and each.texts[0] == f"thing {each.image[0, 0, 0]}" for each in drawn)


def test_prompts_teach_sam_alone() -> None:
    of = stage("sam")
    taught = learner(of)
    trainable(taught)
    names = moved(taught, taught(make_batch(pictures(canvas=96), TINY), generator()))
    assert all(name.startswith("sam.") for name in names)
    for part in ("image_encoder.blocks.0.attn.qkv.weight", "prompt_encoder.point_embeddings.2.weight", "mask_decoder."):
        assert any(name.startswith(f"sam.{part}") for name in names)


def test_answers_teach_the_guide_and_the_mask_decoder_but_not_what_sam_sees() -> None:
    of = stage("guide")
    taught = learner(of)
    trainable(taught)
    losses = taught(make_batch(pictures(), TINY), generator())
    assert set(losses) == {"text", "bce", "dice", "asked", "relevance"}
    names = moved(taught, losses)
    assert any(name.startswith("mllm.model.vision_tower") for name in names)
    assert any(name.startswith("sam.mask_decoder") for name in names)
    assert not any(name.startswith(("sam.image_encoder", "sam.prompt_encoder", "prune_decoder")) for name in names)


def test_words_teach_what_seg_names_and_leave_the_items_table_alone() -> None:
    of = stage("words")
    taught = learner(of)
    trainable(taught)
    losses = taught(make_batch(pictures(), TINY), generator())
    assert set(losses) == {"text", "asked"}
    names = moved(taught, losses)
    assert names and all(name.startswith(("mllm.model.language_model", "mllm.lm_head", "seg_proj")) for name in names)
    assert taught.auxiliary.items.weight.grad is None and taught.auxiliary.asked[1].weight.grad is not None


@pytest.mark.parametrize("name", ["words", "guide"])
def test_training_speaks_in_the_configurations_template(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    monkeypatch.setattr(
        "leanseg.engine.train.vltp.learner.conversation",
        lambda *given, **named: heard.append(named["template"]) or conversation(*given, **named),
    )
    taught = learner(stage(name), guide=replace(TINY.guide, template="llava_llama_2"))
    assert bool(torch.isfinite(total(taught(make_batch(pictures(), TINY), generator()))))
    assert heard and set(heard) == {TEMPLATES["llava_llama_2"]}


def test_what_every_conversation_says_alike_is_one_token_each() -> None:
    for name, said in TEMPLATES.items():
        learnt = build_guide_tokenizer(["every cat"], vocabulary=300, template=name)
        asked = conversation(learnt, "every cat", image_tokens=0, answer=None, template=said).ids.tolist()
        assert {len(learnt.encode(text)) for text in (said.before, said.asked)} == {1}
        assert [*learnt.encode(said.before), *learnt.encode("<im_start><im_end>")] == asked[1:4]
        assert asked[-1:] == learnt.encode(said.asked)


def test_packed_conversations_say_what_each_says_alone() -> None:
    model = learner(stage("guide")).model.eval()
    features = model.look(torch.randn(2, 3, 30, 30, generator=generator()))
    texts = [["every cat", "the dog left of the red apple"], ["a", "the red cat"]]
    said = [[conversation(tokenizer(), text, image_tokens=features.shape[1]) for text in row] for row in texts]
    with torch.no_grad():
        hidden, ids, labels = packed_read(model, features, said)
        for index, each in enumerate([*said[0], *said[1]]):
            alone, _ = model.read(features[index // 2][None], [each])
            length = int((ids[index] != IGNORED).sum())
            assert torch.allclose(hidden[index, :length], alone[0, -length:], atol=1e-4)
            assert torch.equal(labels[index, :length], each.labels[-length:])


def test_answers_of_unlabelled_pictures_have_the_published_losses_only() -> None:
    taught = learner(stage("guide", auxiliary=False))
    assert set(taught(make_batch([square(30, 50), square(64, 20)], TINY), generator())) == {"text", "bce", "dice"}


@pytest.mark.parametrize("prune", ["both", "decoder"])
def test_stages_teach_the_prune_decoder_and_the_mask_decoder_if_wanted(prune: str) -> None:
    taught = learner(stage("prune", trains=PRUNING[prune]))
    batch = pool(taught.model).draw(2, (0, 0), torch.device("cpu"))
    trainable(taught)
    losses = taught(batch, generator())
    assert set(losses) == {"bce", "dice", "prune_bce", "prune_dice"}
    names = moved(taught, losses)
    assert any(name.startswith("prune_decoder") for name in names)
    assert any(name.startswith("sam.mask_decoder") for name in names) == (prune == "both")
    assert not any(name.startswith(("sam.image_encoder", "mllm", "seg_projector")) for name in names)


@pytest.mark.parametrize(
    ("method", "stages", "own"),
    [
        ("random", ((1, 0.5), (3, 0.3)), set()),
        ("cts", ((0, 0.75),), {"prune_policy"}),
        ("dtop", ((1, 1.0), (3, 1.0)), {"prune_class", "prune_mask", "prune_dice"}),
        ("svit", ((1, 0.7), (3, 0.5)), {"prune_budget"}),
    ],
)
def test_other_methods_are_trained_by_the_same_stage(
    method: str, stages: tuple[tuple[int, float], ...], own: set[str]
) -> None:
    taught = learner(stage("prune"), method=method, stages=stages)
    batch = pool(taught.model).draw(2, (0, 0), torch.device("cpu"))
    trainable(taught)
    taught.train()
    state = torch.random.get_rng_state()
    losses = taught(batch, generator())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(losses) == {"bce", "dice"} | own
    again = taught(batch, generator())
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    assert any(name.startswith("sam.mask_decoder") for name in moved(taught, losses))


def test_losses_on_stages_fall() -> None:
    taught = learner(stage("prune", learning_rate=1e-2))
    batch = pool(taught.model).draw(2, (0, 0), torch.device("cpu"))
    optimizer = torch.optim.AdamW(trainable(taught).values(), lr=3e-3)
    seen = []
    for _ in range(12):
        losses = taught(batch, generator())
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        seen.append(float(losses["prune_bce"].detach()))
    assert seen[-1] < 0.8 * seen[0]


def test_guidance_names_what_tokens_show_through_one_table() -> None:
    heads = TrainingHeads(dim=16, n_items=len(ITEMS))
    items = torch.full((1, 4), IGNORED)
    assert heads.token_loss(torch.randn(1, 16, 2, 2), items) == 0
    wanted = torch.zeros(2, len(ITEMS) + 1)
    wanted[0, 3] = 1
    known, both = heads.asked_loss(torch.ones(1, 16), wanted[:1]), heads.asked_loss(torch.ones(2, 16), wanted)
    assert torch.allclose(known, both)
    total({"a": both}).backward()
    assert heads.items.weight.grad is None and heads.asked[1].weight.grad is not None


def test_relevance_is_learnt_where_tokens_and_guidance_agree() -> None:
    relevant = patch_labels(torch.from_numpy(square(56, 56).targets), size=56, patch=8)
    heads = TrainingHeads(dim=16, n_items=3)
    image = torch.randn(1, 16, 7, 7, generator=generator())
    image[:, 0] = 4 * relevant.view(1, 7, 7)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=3e-2)
    for _ in range(60):
        loss = heads.relevance_loss(torch.ones(1, 16) + torch.arange(16.0), image, relevant)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


def test_training_asks_for_uses_and_kinds() -> None:
    drawn = scenes_source(3)(stage("guide", frames=6), 0, 0, 1)
    assert set(TASK_KINDS) == {"affordance", "category", "noun", "all"}
    assert all(len(each.wanted) == len(each.texts) and each.items for each in drawn)

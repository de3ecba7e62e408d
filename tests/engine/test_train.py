"""Training: packed instructions equal separate ones, runs resume exactly, LoRA moves only what the release moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from leanseg.data.scenes import SceneOptions
from leanseg.data.scenes.items import ITEMS
from leanseg.data.scenes.sprites import TINTS
from leanseg.engine.train.auxiliary import AuxiliaryHeads, PointPrompts
from leanseg.engine.train.batches import IGNORED, scene_batch
from leanseg.engine.train.curves import read_log
from leanseg.engine.train.losses import MaskLossOptions, mask_loss, target_mass_loss, uncertain_points
from leanseg.engine.train.packed import packed_language
from leanseg.engine.train.progress import Run, learning_rate
from leanseg.engine.train.recipes import RECIPES, recipe
from leanseg.engine.train.stages import Context, Stage, pixel_losses
from leanseg.engine.train.trainer import TrainOptions, train_stage
from leanseg.engine.train.validation import validate
from leanseg.engine.train.vocabulary import build_tokenizer, fixed_texts
from leanseg.errors import TrainingError
from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.lora import add_adapters, merge_adapters
from leanseg.models.instructseg.mask_decoder import MaskPrediction
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import SEG_ID, build_prompt
from leanseg.models.instructseg.tokenizer import TextTokenizer
from leanseg.models.presets import PRESETS


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return build_tokenizer(["the dog left of the red apple", "every cat", "the smallest bird"], vocabulary=300)


@pytest.fixture(scope="module")
def config(tokenizer: TextTokenizer) -> InstructSegConfig:
    tiny = PRESETS["tiny"]
    return replace(tiny, language=replace(tiny.language, vocab_size=tokenizer.vocab_size, resid_pdrop=0.0))


def build(config: InstructSegConfig, tokenizer: TextTokenizer) -> tuple[InstructSeg, AuxiliaryHeads]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InstructSeg(config, tokenizer=tokenizer)
        torch.nn.init.normal_(model.seg_query, std=0.02)
        width, queries = config.language.hidden_size, config.mask.hidden_dim
        heads = AuxiliaryHeads(width=width, query_width=queries, n_items=len(ITEMS), n_tints=len(TINTS))
    model.language_model.set_attn_implementation("eager")
    return model, heads


def test_packed_instructions_equal_separate_ones(config: InstructSegConfig, tokenizer: TextTokenizer) -> None:
    model, _ = build(config, tokenizer)
    model.eval()
    asked = (("the dog", "every cat on the left"), ("the smallest bird", "a"))
    prompts = [[build_prompt(tokenizer, "referring", text) for text in row] for row in asked]
    pixels = torch.randn(
        2, 3, config.vision.image_size, config.vision.image_size, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        tokens = model.project(model.encode_vision(pixels))
        nothing = tokens.new_zeros(0, tokens.shape[-1])
        alone = model.language([model.assemble(p, tokens[b], nothing) for b in range(2) for p in prompts[b]])
        packed = packed_language(model, prompts, tokens)
    torch.testing.assert_close(packed.queries.flatten(0, 1), alone.queries, atol=1e-5, rtol=0)
    for ours, theirs in zip(packed.refer, alone.refer, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [stage.name for stage in RECIPES["tiny"]])
def test_a_stage_trains_only_its_parameters(
    name: str, config: InstructSegConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model, heads = build(config, tokenizer)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (stage,) = recipe("tiny", (name,))
    train_stage(model, heads, tokenizer, stage, TrainOptions(out=tmp_path, log_every=1, precision="float32"))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert all(key.startswith(stage.trains) for key in moved)
    assert len(read_log(tmp_path / f"{name}.jsonl")) == stage.steps
    assert (tmp_path / f"{name}.safetensors").exists()


def test_the_last_step_is_logged_also_before_the_interval_ends(
    config: InstructSegConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model, heads = build(config, tokenizer)
    (stage,) = recipe("tiny", ("tower",), steps=3)
    train_stage(model, heads, tokenizer, stage, TrainOptions(out=tmp_path, log_every=2, precision="float32"))
    assert [row["step"] for row in read_log(tmp_path / "tower.jsonl") if "total" in row] == [2, 3]


def test_a_killed_run_resumes_to_the_same_weights(
    config: InstructSegConfig,
    tokenizer: TextTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "leanseg.engine.resuming")
    (stage,) = recipe("tiny", ("language",), steps=4)

    def run(out: Path) -> dict[str, torch.Tensor]:
        model, heads = build(config, tokenizer)
        train_stage(model, heads, tokenizer, stage, TrainOptions(out=out, checkpoint_every=2, precision="float32"))
        return model.state_dict()

    whole = run(tmp_path / "whole")
    real = Run.save
    calls = []

    def killed(progress: Run, path: Path) -> None:
        real(progress, path)
        calls.append(progress.step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.undo()
    assert calls == [2] and not caplog.messages
    resumed = run(tmp_path / "killed")
    killed_at = tmp_path / "killed/language.checkpoint"
    assert caplog.messages == [f"resumed from {killed_at}: step 2 of 4 of stage language is done"]
    run(tmp_path / "killed")
    assert caplog.messages[1:] == [f"resumed from {killed_at.with_suffix('.safetensors')}: stage language is done"]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_losses_say_what_they_lack(config: InstructSegConfig, tokenizer: TextTokenizer) -> None:
    model, heads = build(config, tokenizer)
    (stage,) = recipe("tiny", ("pixel",))
    context = Context(model=model, auxiliary=heads, tokenizer=tokenizer, stage=stage, generator=torch.Generator())
    batch = scene_batch([0], config, SceneOptions(n_instructions=1))
    with pytest.raises(TrainingError, match="the batch has no point prompts"):
        pixel_losses(context, batch)
    prompt = build_prompt(tokenizer, "referring", "the dog")
    cut = replace(prompt, ids=prompt.ids[prompt.ids != SEG_ID])
    tokens = torch.zeros(1, 4, config.language.hidden_size)
    with pytest.raises(TrainingError, match="has no <seg> after <image>"):
        packed_language(model, [[cut]], tokens)


def test_validation_scores_answers_with_and_without_tokens(config: InstructSegConfig, tokenizer: TextTokenizer) -> None:
    model, _ = build(config, tokenizer)
    model.eval()
    found = validate(model, tokenizer, n_scenes=2, texts=2)
    assert set(found) == {"validation_all", "validation_blind"}
    assert all(0 <= value <= 1 for value in found.values())


def test_lora_moves_adapters_and_listed_modules_only(
    config: InstructSegConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model, heads = build(config, tokenizer)
    names = set(model.state_dict())
    add_adapters(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stage = replace(
        RECIPES["full"][0], steps=2, frames=1, warmup=1, learning_rate=1e-2, mask=MaskLossOptions(n_points=32)
    )
    train_stage(model, heads, tokenizer, stage, TrainOptions(out=tmp_path, precision="float32"))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    adapters = {key for key in moved if ".lora_" in key}
    assert adapters and all("q_proj" in key or "v_proj" in key for key in adapters)
    assert all(key.startswith(stage.trains) for key in moved - adapters)

    model.eval()
    prompt = build_prompt(tokenizer, "referring", "the dog")
    tokens = torch.randn(4, config.language.hidden_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        unmerged = model.language([model.assemble(prompt, tokens, tokens[:0])]).queries
        merge_adapters(model)
        merged = model.language([model.assemble(prompt, tokens, tokens[:0])]).queries
    assert set(model.state_dict()) == names
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=1e-4)


def test_batches_depend_on_their_seeds_alone_and_label_what_they_show(config: InstructSegConfig) -> None:
    nano = PRESETS["nano"]
    first = scene_batch([3, 4], nano, SceneOptions(n_instructions=4), points=5)
    again = scene_batch([4], nano, SceneOptions(n_instructions=4), points=5)
    torch.testing.assert_close(first.siglip[1], again.siglip[0], atol=0, rtol=0)
    assert first.texts[1] == again.texts[0]
    assert first.points is not None and first.point_targets is not None
    for row in range(5):
        y, x = (first.points[0, row, 0].clamp(max=0.999) * nano.mask_image_size).long().tolist()
        assert first.point_targets[0, row].any()
        assert first.point_targets[0, row, max(0, y - 12) : y + 13, max(0, x - 12) : x + 13].any()
    labels = first.labels.items
    assert set((labels[labels > 0] - 1).tolist()) <= {o for o in range(len(ITEMS))}
    assert (labels == IGNORED).any() and (labels == 0).any()
    assert torch.equal(first.targets.flatten(2).any(-1), first.relevant.any(-1))


def test_clips_bring_reference_frames() -> None:
    nano = PRESETS["nano"]
    batch = scene_batch([5], nano, SceneOptions(n_instructions=2), clips=True)
    assert batch.references is not None
    assert batch.references.shape == (1, 4, 3, nano.vision.image_size, nano.vision.image_size)
    assert all(task.startswith("video_") for task in batch.tasks[0])


def test_mask_loss_falls_to_the_right_query() -> None:
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    right = torch.where(target > 0, 8.0, -8.0)
    masks = torch.stack([-right[0], right[0]]).unsqueeze(0)
    options = MaskLossOptions(n_points=64)

    def total(scores: list[float]) -> float:
        prediction = MaskPrediction(torch.tensor([scores]), masks)
        return float(sum(mask_loss([prediction], target, options, torch.Generator().manual_seed(0)).values()))

    assert total([-4.0, 4.0]) + 3 < total([4.0, -4.0])


def test_an_empty_target_trains_scores_only() -> None:
    masks = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    scores = torch.zeros(1, 2, requires_grad=True)
    losses = mask_loss(
        [MaskPrediction(scores, masks)], torch.zeros(1, 8, 8), MaskLossOptions(n_points=16), torch.Generator()
    )
    torch.stack(list(losses.values())).sum().backward()
    assert masks.grad is None or not masks.grad.any()
    assert scores.grad is not None and (scores.grad > 0).all()


def test_uncertain_points_lie_near_the_border() -> None:
    logits = torch.linspace(-8, 8, 64).expand(1, 64, 64).clone()
    points = uncertain_points(
        logits, MaskLossOptions(n_points=400, importance=1.0, oversample=4), torch.Generator().manual_seed(0)
    )
    assert (points[..., 0] - 0.5).abs().mean() < 0.1


def test_attention_on_the_target_costs_nothing() -> None:
    relevant = torch.tensor([[True, False, False], [False, False, False]])
    on, off = torch.tensor([[1.0, 0, 0], [0, 0, 1]]), torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    assert float(target_mass_loss(on, relevant)) < 1e-3 < 5 < float(target_mass_loss(off, relevant))


def test_point_prompts_ignore_order_and_unused_slots() -> None:
    prompts = PointPrompts(8)
    points = torch.tensor([[[[0.1, 0.2], [0.7, 0.4], [float("nan")] * 2]]])
    swapped = points[:, :, [1, 2, 0]]
    torch.testing.assert_close(prompts(points), prompts(swapped))


def test_learning_rate_warms_up_stays_and_ends_at_zero() -> None:
    stage = Stage(
        name="x",
        losses="tower",
        steps=100,
        frames=1,
        texts=0,
        learning_rate=1.0,
        trains=("a",),
        warmup=10,
        decay_share=0.5,
    )
    rates = [learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[30] == 1.0 and rates[-1] < 0.01


def test_fixed_texts_are_one_token_each(tokenizer: TextTokenizer) -> None:
    for text in fixed_texts():
        assert len(tokenizer.encode(text)) == 1, text
    assert len(tokenizer.encode("qwxyz \u00e9\u4e2d")) > 0


def test_a_word_has_one_id_in_any_case_and_place(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("THE DOG") == tokenizer.encode("the dog")
    assert tokenizer.encode("the dog")[0] == tokenizer.encode("see the")[-1]


def test_a_checkpoint_of_another_stage_is_refused(
    config: InstructSegConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    model, heads = build(config, tokenizer)
    stage, other = recipe("tiny", ("tower", "pixel"), steps=1)[::-1]
    options = TrainOptions(out=tmp_path, precision="float32")
    train_stage(model, heads, tokenizer, stage, options)
    (tmp_path / f"{stage.name}.checkpoint").rename(tmp_path / f"{other.name}.checkpoint")
    with pytest.raises(TrainingError, match="another model or stage"):
        train_stage(model, heads, tokenizer, other, options)

"""Runs of VLTP's training: what is refused, exact resume, two processes, adapters, the model and record they leave."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tests.engine.vltp_training import learner, stage, tokenizer

from leanseg.engine.records import read_record
from leanseg.engine.segmenter import assets_folder
from leanseg.engine.train.curves import read_log
from leanseg.engine.train.vltp import launch
from leanseg.engine.train.vltp.launch import VLTPRequest, new_model, plan, run_job
from leanseg.engine.train.vltp.pictures import SCENES, source_of
from leanseg.engine.train.vltp.recipes import RECIPES, recipe
from leanseg.engine.train.vltp.trainer import LoopOptions, drawn, train_stage, trainable
from leanseg.errors import DataError, LeansegError, TrainingError
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.tokenizer import load_guide_tokenizer


@pytest.fixture(autouse=True)
def untouched_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def request_of(folder: Path, **changes: object) -> VLTPRequest:
    tokenizer().save(folder)
    given = VLTPRequest(out=folder / "run", preset="tiny", tokenizer=folder, steps=2, precision="float32")
    return replace(given, **changes)  # type: ignore[arg-type]


def run_steps(folder: Path, steps: int, *, checkpoint: int = 100) -> dict[str, torch.Tensor]:
    taught = learner(stage("sam", steps=steps, frames=1, decay_share=0.0))
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    losses = drawn(taught, source_of(SCENES, 0), accelerator)
    options = LoopOptions(out=folder, log_every=1, checkpoint_every=checkpoint)
    return load_file(train_stage(taught, lambda: losses, accelerator, options))


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "leanseg.engine.resuming")
    whole = run_steps(tmp_path / "whole", 3)
    run_steps(tmp_path / "parts", 2)
    (tmp_path / "parts" / "sam.safetensors").unlink()
    assert not caplog.messages
    resumed = run_steps(tmp_path / "parts", 3)
    run_steps(tmp_path / "parts", 3)
    assert caplog.messages == [
        f"resumed from {tmp_path}/parts/sam.checkpoint: step 2 of 3 of stage sam is done",
        f"resumed from {tmp_path}/parts/sam.safetensors: stage sam is done",
    ]
    assert set(whole) == set(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["step"] for row in read_log(tmp_path / "parts" / "sam.jsonl")] == [1, 2, 3]


def test_two_processes_take_each_step_together_and_leave_one_model(tmp_path: Path) -> None:
    run_job(plan(request_of(tmp_path, stages=("guide",), processes=2, steps=1)))
    model = VLTP.from_pretrained(tmp_path / "run" / "model")
    (row,) = [row for row in read_log(tmp_path / "run" / "guide.jsonl") if "total" in row]
    assert row["step"] == 1 and model.config.method == "vltp"
    made = read_record(tmp_path / "run" / "model" / "training.json", "training")
    assert "--processes 2" in made["command"]
    (guide,) = made["stages"]
    assert guide["name"] == "guide" and "validation_unpruned" in guide["validation"][0]


def test_stages_of_another_rate_and_method_start_from_a_trained_folder(tmp_path: Path) -> None:
    first = run_job(plan(request_of(tmp_path, stages=("prune",), steps=1)))
    given = VLTP.from_pretrained(first)
    again = request_of(tmp_path, out=tmp_path / "next", stages=("prune",), steps=1, init=(first,), prune="decoder")
    lower = VLTP.from_pretrained(run_job(plan(replace(again, at=((1, 0.2), (3, 0.2))))))
    assert lower.config.stages == ((1, 0.2), (3, 0.2))
    state, before = lower.state_dict(), given.state_dict()
    frozen = [name for name in state if not name.startswith("prune_decoder.")]
    assert all(torch.equal(state[name], before[name]) for name in frozen)
    other = replace(again, out=tmp_path / "other", method="svit", at=((1, 0.7), (3, 0.5)), prune="both")
    svit = VLTP.from_pretrained(run_job(plan(other)))
    assert svit.config.method == "svit" and torch.equal(
        svit.state_dict()["mllm.lm_head.weight"], before["mllm.lm_head.weight"]
    )


def test_a_model_of_the_package_is_started_from_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request_of(tmp_path, preset="nano", stages=("prune",), init=("vltp-nano",), at=((4, 0.2),), tokenizer=None)
    job = plan(asked)
    assert job.init == (assets_folder() / "vltp-nano",) == (job.tokenizer,)
    assert "--init vltp-nano" in asked.command and job.config.stages == ((4, 0.2),)
    given = VLTP.from_pretrained(assets_folder() / "vltp-nano")
    model, _ = new_model(job, load_guide_tokenizer(job.tokenizer))
    state = given.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    # A path is a path, also where the package has a model of the same name.
    given.save_pretrained(tmp_path / "vltp-nano")
    monkeypatch.chdir(tmp_path)
    assert [path.resolve() for path in plan(replace(asked, init=("./vltp-nano",))).init] == [tmp_path / "vltp-nano"]


def test_adapters_move_the_language_model_and_are_merged(tmp_path: Path) -> None:
    first = run_job(plan(request_of(tmp_path, stages=("guide",), steps=1)))
    given = request_of(tmp_path, out=tmp_path / "lora", stages=("guide",), steps=2, init=(first,), lora=True)
    before, after = (VLTP.from_pretrained(path).state_dict() for path in (first, run_job(plan(given))))
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    layers = {name.rpartition(".layers.")[2] for name in changed if ".language_model.layers." in name}
    assert layers and all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in layers)


def test_a_folder_of_another_request_is_refused_and_the_same_one_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = request_of(tmp_path, stages=("prune",), steps=1, at=((1, 0.5),))
    model = run_job(plan(first))
    written = (model / "config.json").read_bytes()
    other = replace(first, at=((1, 0.2),), prune="decoder", seed=7)
    with pytest.raises(
        TrainingError, match=r"at \[\[1, 0.5\]\] there, \[\[1, 0.2\]\] here; seed 0 .*: choose another --out"
    ) as one:
        plan(other)
    assert "prune 'both' there, 'decoder' here" in str(one.value)
    with pytest.raises(TrainingError, match="another request"):
        run_job(replace(plan(replace(other, out=tmp_path / "new")), request=replace(other, out=first.out)))
    for change in ({"processes": 2}, {"precision": "bfloat16"}, {"steps": 2}, {"method": "random"}, {"stages": None}):
        with pytest.raises(TrainingError, match=f"{next(iter(change))} .* there"):
            plan(replace(first, **change))
    assert (model / "config.json").read_bytes() == written
    caplog.set_level("INFO", "leanseg.engine.resuming")
    run_job(plan(replace(first, threads=2, method="vltp")))
    assert caplog.messages == [f"resumed from {first.out}/prune.safetensors: stage prune is done"]


def test_finished_stage_files_that_a_user_copies_into_a_new_folder_are_gone_on_from(tmp_path: Path) -> None:
    first = request_of(tmp_path, stages=("guide",), steps=1)
    run_job(plan(first))
    brought = tmp_path / "brought" / "guide.safetensors"
    brought.parent.mkdir()
    shutil.copy(first.out / "guide.safetensors", brought)
    shutil.copy(first.out / "guide.jsonl", brought.parent)
    again = replace(first, out=brought.parent, stages=("guide", "prune"), seed=3)
    run_job(plan(again))
    assert (brought.parent / "prune.safetensors").exists()
    with pytest.raises(TrainingError, match="seed 3 there, 4 here"):
        plan(replace(again, seed=4))


def test_a_method_that_the_presets_stages_do_not_fit_is_trained_at_its_own(tmp_path: Path) -> None:
    assert plan(request_of(tmp_path, method="cts")).config.stages == ((0, 0.75),)
    assert plan(request_of(tmp_path, method="svit")).config.stages == VLTP_PRESETS["tiny"].stages
    plain = VLTP(replace(VLTP_PRESETS["tiny"], stages=()), tokenizer=tokenizer())
    plain.save_pretrained(tmp_path / "plain")
    asked = request_of(tmp_path, init=(tmp_path / "plain",), stages=("prune",))
    with pytest.raises(TrainingError, match=r"expected one at least.*; write --at 2:0.2 --at 3:0.2"):
        plan(asked)
    assert plan(replace(asked, stages=("guide",))).config.stages == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "nan"}, "preset"),
        ({"precision": "float16"}, "precision"),
        ({"method": "svitt"}, "svit"),
        ({"preset": "h"}, "expected a model folder as --init"),
        ({"lora": True}, "--lora adapts a trained model"),
        ({"init": (Path("nowhere"),)}, "nowhere does not exist; give a stage's .safetensors file, a model folder or"),
        ({"init": ("vltp-nanno",)}, "unknown model 'vltp-nanno'; did you mean 'vltp-nano'"),
        ({"init": ("instructseg-nano",)}, "is of a model of type 'mipha_phi'; expected 'vltp'"),
        ({"stages": ("sams",)}, "training stage"),
        ({"prune": "all"}, "decoder"),
        ({"at": ((9, 0.5),)}, "rising numbers"),
        ({"method": "cts", "at": ((1, 0.5), (3, 0.5))}, r"got stages after \[1, 3\].*; write --at 0:0.75, for example"),
        ({"method": "cts", "at": ((0, 0.1),)}, "expected a keep ratio of at least"),
        ({"seed": -1}, "--seed is -1"),
        ({"data": "rio:train"}, "give a root"),
        ({"device": "gpu"}, "--device is 'gpu'; expected cpu or cuda; CUDA_VISIBLE_DEVICES says which"),
        ({"device": "cuda:1"}, "--device is 'cuda:1'; expected cpu or cuda"),
        ({"device": "cuda"}, "offers no CUDA device"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(
    changes: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LeansegError, match=message):
        plan(request_of(tmp_path, **changes))


def test_a_stage_that_would_train_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match="the model has no such parameter"):
        trainable(learner(stage("sam", trains=("swin.",))))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    taught = learner(stage("sam"))
    accelerator = Accelerator(cpu=True, mixed_precision="no")

    def losses(wrapped: torch.nn.Module, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"bce": torch.tensor(float("nan"), requires_grad=True)}

    with pytest.raises(TrainingError, match="not finite at step 0 of stage sam"):
        train_stage(taught, lambda: losses, accelerator, LoopOptions(out=tmp_path))


def test_a_process_that_stops_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(launch.ProcessException):
        def __init__(self) -> None:
            super().__init__("no space left", 0, 0)

    def stop(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr(launch, "spawn", stop)
    with pytest.raises(TrainingError, match="resumes from the checkpoints in"):
        run_job(plan(request_of(tmp_path, processes=2)))


def test_processes_wait_for_the_first_ones_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    class Started(Exception):
        pass

    def start(*_: object, **options: object) -> None:
        seen.update(options)
        raise Started

    monkeypatch.setattr(launch.dist, "init_process_group", start)
    with pytest.raises(Started):
        launch._accelerator(request_of(tmp_path, processes=2), 1, f"file://{tmp_path}/rendezvous")
    assert seen["timeout"] >= timedelta(days=1)


def test_the_command_of_a_record_trains_the_same_again(tmp_path: Path) -> None:
    given = request_of(tmp_path, stages=("prune",), method="cts", at=((0, 0.75),), prune="decoder", data="rio:train")
    words = given.command.split()
    for pair in (
        ("--stage", "prune"),
        ("--method", "cts"),
        ("--at", "0:0.75"),
        ("--prune", "decoder"),
        ("--data", "rio:train"),
    ):
        assert words[words.index(pair[0]) + 1] == pair[1]


def test_recipes_of_the_papers_sizes_train_what_lisa_and_vltp_do() -> None:
    guide, prune = RECIPES["h"]
    assert guide.learning_rate == prune.learning_rate == 3e-4 and not guide.auxiliary
    assert "sam.mask_decoder." in guide.trains and not any(name.startswith("sam.image") for name in guide.trains)
    assert recipe("h", ("prune",), prune="decoder")[0].trains == ("prune_decoder.",)
    assert [each.steps for each in recipe("nano", ("sam", "guide"), steps=7)] == [7, 7]


def test_data_sets_need_their_folder() -> None:
    with pytest.raises(DataError, match="give a root"):
        source_of("coco_tasks:train", 0)

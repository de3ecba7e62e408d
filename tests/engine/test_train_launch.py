"""Runs of training: what is refused before them, whose scenes they draw, the model, record and curves they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from leanseg.data.scenes.splits import SPLITS
from leanseg.engine.records import read_record
from leanseg.engine.segmenter import assets_folder
from leanseg.engine.train import launch
from leanseg.engine.train.curves import draw_curves, read_log
from leanseg.engine.train.recipes import RECIPES, recipe
from leanseg.engine.train.run_record import training_record
from leanseg.engine.train.scene_seeds import MAX_SEED, SCENE_RANGES, SCENES_PER_STAGE, check_scenes, scene_seeds
from leanseg.engine.train.trainer import TrainOptions
from leanseg.engine.train.vocabulary import build_tokenizer
from leanseg.errors import TrainingError, WeightsError
from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.tokenizer import TextTokenizer
from leanseg.models.presets import PRESETS


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return build_tokenizer(["the dog left of the red apple", "every cat", "the smallest bird"], vocabulary=300)


@pytest.fixture(scope="module")
def config(tokenizer: TextTokenizer) -> InstructSegConfig:
    tiny = PRESETS["tiny"]
    return replace(tiny, language=replace(tiny.language, vocab_size=tokenizer.vocab_size, resid_pdrop=0.0))


def test_two_processes_take_one_step_together(
    config: InstructSegConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    job = launch.Job(
        config=config,
        stages=recipe("tiny", ("tower",), steps=2),
        options=TrainOptions(out=tmp_path / "run", log_every=1, precision="float32"),
        tokenizer=tmp_path,
        processes=2,
        command="leanseg train instructseg",
    )
    model = launch.run_job(job)
    assert (model / "config.json").exists()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert len(read_log(tmp_path / "run" / "tower.jsonl")) == 2
    made = read_record(model / "training.json", "training")
    assert made["command"] == "leanseg train instructseg"
    (tower,) = made["stages"]
    assert tower["name"] == "tower" and tower["steps"] == 2 and tower["seconds"] > 0 and tower["validation"] == []
    assert tower["final_losses"]["total"] == read_log(tmp_path / "run" / "tower.jsonl")[-1]["total"]


def test_a_process_that_fails_is_said_in_one_line(
    config: InstructSegConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ProcessRaisedException("\n-- Process 1 terminated\nTraceback\nWeightsError: no tokenizer.json\n", 1, 7)

    monkeypatch.setattr(launch, "spawn", fails)
    options = TrainOptions(out=tmp_path / "run", precision="float32")
    job = launch.Job(config=config, stages=recipe("tiny", ("tower",)), options=options, tokenizer=tmp_path, processes=2)
    with pytest.raises(TrainingError, match=r"stopped \(WeightsError: no tokenizer.json\); mend .*resumes"):
        launch.run_job(job)


def test_the_record_follows_the_logs(tmp_path: Path) -> None:
    (stage,) = recipe("tiny", ("language",))
    log = tmp_path / "language.jsonl"
    rows = [
        {"step": 20, "seconds": 9.0, "learning_rate": 1e-3, "total": 3.0, "mask": 1.0, "norm": 1.0},
        {"step": 20, "seconds": 9.0, "validation_all": 0.25},
        {"step": 40, "seconds": 21.0, "learning_rate": 1e-3, "total": 2.5, "mask": 0.75, "norm": 1.0},
        {"step": 20, "seconds": 8.0, "validation_all": 0.5},
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made,) = training_record([stage], [log], "leanseg train")["stages"]
    assert made["seconds"] == 21.0 and made["final_losses"] == {"total": 2.5, "mask": 0.75}
    assert made["validation"] == [rows[3]] and made["learning_rate"] == stage.learning_rate
    with pytest.raises(TrainingError, match="1 stages and 2 logs do not pair up"):
        training_record([stage], [log, log], "")
    with pytest.raises(TrainingError, match="stage 'language' has no log at"):
        training_record([stage], [tmp_path / "nothing.jsonl"], "")


def test_no_two_stages_share_scenes_and_none_draws_those_of_evaluation() -> None:
    stages = {stage.name: stage for preset in RECIPES for stage in RECIPES[preset]}
    drawn: dict[int, str] = {}
    for name, stage in stages.items():
        for seed in (0, 1, MAX_SEED):
            check_scenes(stage, seed=seed, processes=4)
            for step in (0, 1, SCENES_PER_STAGE // (4 * stage.frames) - 1):
                for rank in range(4):
                    for scene in scene_seeds(stage, step, seed=seed, rank=rank, processes=4):
                        assert drawn.setdefault(scene, name) == name
                        assert 0 <= scene < min(SPLITS[key].first_seed for key in SPLITS if "train" not in key)
    assert len(drawn) == sum(3 * 3 * 4 * stage.frames for stage in stages.values())
    assert len(set(SCENE_RANGES.values())) == len(SCENE_RANGES)


def test_stages_without_scenes_of_their_own_are_refused() -> None:
    (stage,) = recipe("tiny", ("tower",))
    with pytest.raises(TrainingError, match="stage 'new' has no scenes of its own; expected one of adapt, "):
        check_scenes(replace(stage, name="new"), seed=0, processes=1)
    with pytest.raises(TrainingError, match="would draw 60000000 scenes; expected at most 50000000: lower --steps"):
        check_scenes(replace(stage, steps=15_000_000, frames=2), seed=0, processes=2)


def test_a_broken_configuration_is_said_in_one_line(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        launch.plan(launch.Request(out=tmp_path / "run", init=(tmp_path,)))


def test_the_command_of_a_record_names_what_matters() -> None:
    request = launch.Request(out=Path("runs/a b"), stages=("pixel", "tower"), init=(Path("x.safetensors"),), steps=3)
    assert request.command == (
        "leanseg train instructseg --preset nano --stage pixel --stage tower --init x.safetensors --steps 3 "
        "--processes 1 --device cpu --precision bfloat16 --seed 0 --out 'runs/a b'"
    )


def test_a_model_of_the_package_is_started_from_by_its_name(tmp_path: Path) -> None:
    request = launch.Request(out=tmp_path / "run", stages=("language",), init=("instructseg-nano",), steps=1)
    job = launch.plan(request)
    assert job.init == (assets_folder() / "instructseg-nano",) == (job.tokenizer,)
    assert "--init instructseg-nano" in job.command
    model, _ = launch.new_model(job)
    given = InstructSeg.from_pretrained(assets_folder() / "instructseg-nano").state_dict()
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "nan"}, "unknown preset 'nan'"),
        ({"model": "sam"}, "unknown model to train 'sam'"),
        ({"stages": ("pixle",)}, "unknown training stage 'pixle'"),
        ({"precision": "fp8"}, "--precision is 'fp8'"),
        (
            {"init": (Path("nowhere"),)},
            "--init nowhere does not exist; give a stage's .safetensors file, a model folder",
        ),
        ({"init": ("instructseg-nanno",)}, "unknown model 'instructseg-nanno'; did you mean 'instructseg-nano'"),
        ({"init": ("vltp-nano",)}, "--init vltp-nano is a model of the family vltp; expected one of instructseg"),
        ({"lora": True}, "--init"),
        ({"seed": 1374}, "--seed is 1374; expected 0 to 1373"),
        ({"seed": -1}, "--seed is -1; expected 0 to 1373"),
    ],
)
def test_bad_requests_fail_before_any_work(
    change: dict[str, object], message: str, tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    tokenizer.save(tmp_path)
    request = launch.Request(out=tmp_path / "run", preset="tiny", tokenizer=tmp_path, steps=1)
    with pytest.raises(TrainingError, match=message):
        launch.plan(replace(request, **change))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_curves_leave_out_a_half_written_line(tmp_path: Path) -> None:
    log = tmp_path / "x.jsonl"
    log.write_text(
        json.dumps({"step": 1, "total": 2.0}) + "\n" + json.dumps({"step": 2, "total": 1.0}) + '\n{"step": 3, "to'
    )
    assert len(read_log(log)) == 2
    assert draw_curves([log], tmp_path / "curves.png").exists()

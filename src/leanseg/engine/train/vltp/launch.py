"""Starts VLTP's training: builds the model, runs its stages on one or several processes, writes the averaged model."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.multiprocessing.spawn import ProcessException, spawn

from leanseg.data.registry import open_dataset
from leanseg.data.scenes.items import ITEMS
from leanseg.engine.records import write_json
from leanseg.engine.segmenter import DEFAULT_MODEL, assets_folder
from leanseg.engine.train.curves import draw_curves
from leanseg.engine.train.initial import initial_paths
from leanseg.engine.train.progress import load_weights
from leanseg.engine.train.run_record import training_record
from leanseg.engine.train.scene_seeds import check_scenes
from leanseg.engine.train.vltp.asked import check_asked, keep_asked
from leanseg.engine.train.vltp.fitting import fitted, load_folder
from leanseg.engine.train.vltp.heads import TrainingHeads
from leanseg.engine.train.vltp.learner import Learner
from leanseg.engine.train.vltp.pictures import SCENES, Source, source_of
from leanseg.engine.train.vltp.pool import POOL_FILE, make_pool
from leanseg.engine.train.vltp.recipes import recipe
from leanseg.engine.train.vltp.stages import VLTPStage
from leanseg.engine.train.vltp.trainer import LoopOptions, Losses, drawn, pooled, train_stage
from leanseg.engine.train.vltp.validation import LOOKS
from leanseg.engine.train.vltp.vocabulary import scene_tokenizer
from leanseg.engine.train.vltp.warm import start_from_tower
from leanseg.errors import TrainingError, unknown_name
from leanseg.models.instructseg.files import CONFIG_FILE, read_json
from leanseg.models.instructseg.lora import add_adapters, merge_adapters
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.tokenizer import TOKENIZER_FILE
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.encoders import ENCODERS
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.tokenizer import GuideTokenizer, load_guide_tokenizer
from leanseg.processes import leave_with_parent

PATIENCE = timedelta(days=2)  # the others wait while the first process makes a pool or validates
MODEL_FOLDER = "model"
RECORD_FILE = "training.json"
DEVICES = ("cpu", "cuda")
PRECISIONS = {"bfloat16": "bf16", "float32": "no"}


@dataclass(frozen=True, kw_only=True)
class VLTPRequest:
    """What a user asks for, unchecked; the options of `leanseg train vltp`."""

    out: Path
    preset: str = "nano"
    stages: tuple[str, ...] | None = None
    init: tuple[str | Path, ...] = ()
    tokenizer: Path | None = None
    steps: int | None = None
    lora: bool = False
    processes: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "bfloat16"
    seed: int = 0
    data: str = SCENES
    root: Path | None = None
    method: str | None = None
    """Who chooses at the stages; None = the preset's, or the initial model's."""
    at: tuple[tuple[int, float], ...] | None = None
    """Stages (after_block, keep_ratio) to learn instead of the configuration's."""
    prune: str = "both"

    @property
    def command(self) -> str:
        """The command line that trains the same model again."""
        words = ["leanseg", "train", "vltp", "--preset", self.preset]
        words += [word for name in self.stages or () for word in ("--stage", name)]
        words += [word for each in self.init for word in ("--init", str(each))]
        words += [] if self.tokenizer is None else ["--tokenizer", self.tokenizer.as_posix()]
        words += [] if self.steps is None else ["--steps", str(self.steps)]
        words += [] if self.data == SCENES else ["--data", self.data]
        words += [] if self.root is None else ["--root", self.root.as_posix()]
        words += [] if self.method is None else ["--method", self.method]
        words += [word for place, ratio in self.at or () for word in ("--at", f"{place}:{ratio:g}")]
        words += [] if self.prune == "both" else ["--prune", self.prune]
        words += ["--lora"] if self.lora else []
        words += ["--processes", str(self.processes), "--device", self.device, "--precision", self.precision]
        return shlex.join([*words, "--seed", str(self.seed), "--out", self.out.as_posix()])


@dataclass(frozen=True, kw_only=True)
class VLTPJob:
    """A request, checked, with what it comes to."""

    request: VLTPRequest
    config: VLTPConfig
    stages: Sequence[VLTPStage]
    tokenizer: Path | None
    """Folder of tokenizer.json; None = made of the scenes' sentences."""
    init: Sequence[Path] = ()
    """Files of earlier stages and model folders, loaded in order before the first stage."""

    @property
    def asked(self) -> dict[str, Any]:
        """What decides the weights: not where it runs, but on how many processes, as these draw the pictures."""
        names = ("preset", "init", "tokenizer", "data", "root", "seed", "prune", "lora", "precision", "processes")
        return {
            "stages": [stage.name for stage in self.stages],
            "method": self.config.method,
            "at": self.config.stages,
            **{name: getattr(self.request, name) for name in names},
            "recipe": {stage.name: asdict(stage) for stage in self.stages},
        }


def plan(request: VLTPRequest) -> VLTPJob:
    """Check everything that can be checked before a long run starts, and return the job."""
    init = initial_paths(request.init, "vltp")
    _check(request, init)
    folders = [path for path in init if path.is_dir()]
    config = VLTPConfig.from_dict(read_json(folders[-1] / CONFIG_FILE)) if folders else VLTP_PRESETS[request.preset]
    if request.method is not None:
        config = replace(config, method=request.method)
    if request.at is not None:
        config = replace(config, stages=request.at)
    stages = recipe(request.preset, request.stages, steps=request.steps, prune=request.prune)
    if config.stages or any(stage.losses == "stages" for stage in stages):
        config = fitted(config, may_change=request.method is not None and request.at is None)
    if request.data == SCENES:
        for stage in stages:
            check_scenes(stage, seed=request.seed, processes=request.processes)
    else:
        open_dataset(request.data, request.root)
    source = request.tokenizer or (folders[-1] if folders else None)
    job = VLTPJob(request=request, config=config, stages=stages, tokenizer=source, init=init)
    check_asked(request.out, job.asked)
    return job


def _check(request: VLTPRequest, init: Sequence[Path]) -> None:
    for what, given, known in (
        ("preset", request.preset, VLTP_PRESETS),
        ("precision", request.precision, PRECISIONS),
        ("encoder method", request.method or "vltp", ENCODERS),
    ):
        if given not in known:
            raise TrainingError(unknown_name(what, given, known))
    if request.device not in DEVICES:
        raise TrainingError(
            f"--device is {request.device!r}; expected {' or '.join(DEVICES)}; CUDA_VISIBLE_DEVICES says which cards "
            "are used"
        )
    if request.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device is 'cuda', but this machine offers no CUDA device to torch; use --device cpu")
    if request.preset not in ("nano", "tiny") and not any(path.is_dir() for path in init):
        raise TrainingError(
            f"--preset {request.preset} adapts given weights; expected a model folder as --init: docs/vltp.md says how "
            "one is made of a LISA checkpoint"
        )
    if request.lora and not request.init:
        raise TrainingError("--lora adapts a trained model; give its folder with --init")


def new_model(job: VLTPJob, tokenizer: GuideTokenizer) -> tuple[VLTP, TrainingHeads]:
    """Build model and heads from the run's seed, not from the global random state, then load `init` in order.

    Of a model folder everything is taken but a method's weights that do not fit this one's method and stages.
    """
    request = job.request
    guide = job.config.guide
    language = replace(guide.language, vocab_size=max(tokenizer.vocab_size, guide.language.vocab_size))
    config = replace(job.config, guide=replace(guide, language=language))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        model = VLTP(config, tokenizer=tokenizer)
        heads = TrainingHeads(dim=config.sam.dim, n_items=len(ITEMS))
    if request.preset == "nano" and not job.init:
        start_from_tower(model, InstructSeg.from_pretrained(assets_folder() / DEFAULT_MODEL))
    for path in job.init:
        if path.is_dir():
            load_folder(model, path)
        else:
            load_weights(model, heads, path)
    if request.lora:
        add_adapters(model)
    return model, heads


def run_job(job: VLTPJob, *, prepare: Callable[[], None] | None = None) -> Path:
    """Run all stages; return the directory of the averaged model, with its `training.json`.

    `prepare` is called first in every process, to set up logging, for example; it must be picklable.
    """
    folder = job.request.out / MODEL_FOLDER
    keep_asked(job.request.out, job.asked)
    if job.request.processes == 1:
        _worker(0, job, "", prepare)
        return folder
    with tempfile.TemporaryDirectory() as meeting:
        try:
            arguments = (job, f"file://{meeting}/rendezvous", prepare)
            spawn(_worker, args=arguments, nprocs=job.request.processes)
        except ProcessException as error:
            reason = str(error).strip().splitlines()[-1]
            raise TrainingError(
                f"a process of the training stopped ({reason}); mend the cause and run the same command again: it "
                f"resumes from the checkpoints in {job.request.out}"
            ) from error
    return folder


def _accelerator(request: VLTPRequest, rank: int, rendezvous: str) -> Accelerator:
    """Return accelerate's view of this process, one of several if there is a rendezvous."""
    on_cpu = request.device == "cpu"
    if rendezvous:
        # accelerate reads these, though processes that share a file need no address.
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(request.processes)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
        os.environ["OMP_NUM_THREADS"] = str(request.threads)  # else accelerate sets a number of its own
        backend = "gloo" if on_cpu else "nccl"
        dist.init_process_group(
            backend, init_method=rendezvous, rank=rank, world_size=request.processes, timeout=PATIENCE
        )
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()  # it outlives an Accelerator, and refuses another precision
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=on_cpu, mixed_precision=PRECISIONS[request.precision], kwargs_handlers=[unused])


def _tokenizer(job: VLTPJob) -> GuideTokenizer:
    """Read the tokenizer, or make the scenes' and keep it beside the checkpoints."""
    source, out = job.tokenizer, job.request.out
    if source is None and not (out / TOKENIZER_FILE).exists():
        out.mkdir(parents=True, exist_ok=True)
        made = scene_tokenizer(job.config.guide.template)
        made.save(out)
        return made
    return load_guide_tokenizer(source or out)


def _losses(learner: Learner, source: Source, accelerator: Accelerator, request: VLTPRequest) -> Losses:
    stage = learner.stage
    if not stage.pool:
        return drawn(learner, source, accelerator)
    rounds = -(-stage.pool // stage.frames)
    pictures = [each for step in range(rounds) for each in source(stage, step, 0, 1)][: stage.pool]
    path = request.out / POOL_FILE.format(stage=stage.name)
    learner.to(accelerator.device).eval()
    with accelerator.main_process_first():
        pool = make_pool(learner.model, pictures, path)
    return pooled(learner, pool, accelerator, request.seed)


def _worker(rank: int, job: VLTPJob, rendezvous: str, prepare: Callable[[], None] | None) -> None:
    leave_with_parent()
    if prepare is not None:
        prepare()
    request = job.request
    torch.set_num_threads(request.threads)
    accelerator = _accelerator(request, rank, rendezvous)
    with accelerator.main_process_first():
        tokenizer = _tokenizer(job)
    model, heads = new_model(job, tokenizer)
    options = LoopOptions(out=request.out, seed=request.seed)
    for stage in job.stages:
        learner = Learner(model, heads, stage)
        source = source_of(request.data, request.seed, request.root)
        prepare_losses = partial(_losses, learner, source, accelerator, request)
        look = partial(LOOKS[stage.losses], model, stage.validation_scenes)
        train_stage(learner, prepare_losses, accelerator, options, validate=look)
    if accelerator.is_main_process:
        if request.lora:
            merge_adapters(model)
        save(model, job)
    if rendezvous:
        dist.destroy_process_group()


def save(model: VLTP, job: VLTPJob) -> None:
    """Write the model with half of its precision where that suffices, the record of its training and the curves."""
    out = job.request.out
    model.save_pretrained(out / MODEL_FOLDER, storage="mixed", max_shard_bytes=12_000_000)
    logs = [out / f"{stage.name}.jsonl" for stage in job.stages]
    write_json(out / MODEL_FOLDER / RECORD_FILE, training_record(job.stages, logs, job.request.command))
    draw_curves(logs, out / "curves.png")

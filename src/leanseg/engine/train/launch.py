"""Starts a training: builds the model, runs its stages on one or several processes, writes the averaged model."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, spawn

from leanseg.data.scenes.items import ITEMS
from leanseg.data.scenes.sprites import TINTS
from leanseg.engine.records import write_json
from leanseg.engine.segmenter import DEFAULT_MODEL, assets_folder
from leanseg.engine.train.auxiliary import AuxiliaryHeads
from leanseg.engine.train.curves import draw_curves
from leanseg.engine.train.initial import initial_paths
from leanseg.engine.train.progress import Run, load_weights
from leanseg.engine.train.recipes import recipe
from leanseg.engine.train.run_record import training_record
from leanseg.engine.train.scene_seeds import check_scenes
from leanseg.engine.train.stages import Stage
from leanseg.engine.train.trainer import TrainOptions, train_stage
from leanseg.engine.train.validation import averaged, validate, validate_as_used
from leanseg.errors import TrainingError, unknown_name
from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.files import CONFIG_FILE, read_json
from leanseg.models.instructseg.lora import add_adapters, merge_adapters
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.tokenizer import TextTokenizer, load_tokenizer
from leanseg.models.presets import PRESETS
from leanseg.processes import leave_with_parent

MODEL_FOLDER = "model"
RECORD_FILE = "training.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of `leanseg train instructseg`."""

    config: InstructSegConfig
    stages: Sequence[Stage]
    options: TrainOptions
    tokenizer: Path
    """Directory with tokenizer.json."""
    init: Sequence[Path] = ()
    """Files of earlier stages, or a model directory, loaded in order before the first stage."""
    processes: int = 1
    threads: int = 1
    lora: bool = False
    command: str = ""
    """The command line, for the record beside the model."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for, unchecked; the options of `leanseg train`."""

    out: Path
    model: str = "instructseg"
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

    @property
    def command(self) -> str:
        """The command line that trains the same model again."""
        words = ["leanseg", "train", self.model, "--preset", self.preset]
        words += [word for name in self.stages or () for word in ("--stage", name)]
        words += [word for each in self.init for word in ("--init", str(each))]
        words += [] if self.tokenizer is None else ["--tokenizer", self.tokenizer.as_posix()]
        words += [] if self.steps is None else ["--steps", str(self.steps)]
        words += ["--lora"] if self.lora else []
        words += ["--processes", str(self.processes), "--device", self.device, "--precision", self.precision]
        return shlex.join([*words, "--seed", str(self.seed), "--out", self.out.as_posix()])


def plan(request: Request) -> Job:
    """Check everything that can be checked before a long run starts, and return the job."""
    _check(request)
    init = initial_paths(request.init, request.model)
    folders = [path for path in init if path.is_dir()]
    config = InstructSegConfig.from_dict(read_json(folders[-1] / CONFIG_FILE)) if folders else PRESETS[request.preset]
    source = request.tokenizer or (folders[-1] if folders else assets_folder() / DEFAULT_MODEL)
    vocabulary = load_tokenizer(source).vocab_size
    if vocabulary > config.language.vocab_size:
        config = replace(config, language=replace(config.language, vocab_size=vocabulary, lm_head_size=vocabulary))
    options = TrainOptions(out=request.out, seed=request.seed, device=request.device, precision=request.precision)
    stages = recipe(request.preset, request.stages, steps=request.steps)
    for stage in stages:
        check_scenes(stage, seed=request.seed, processes=request.processes)
    return Job(
        config=config,
        stages=stages,
        options=options,
        tokenizer=source,
        init=init,
        processes=request.processes,
        threads=request.threads,
        lora=request.lora,
        command=request.command,
    )


def _check(request: Request) -> None:
    if request.model != "instructseg":
        raise TrainingError(unknown_name("model to train", request.model, ["instructseg"]))
    if request.preset not in PRESETS:
        raise TrainingError(unknown_name("preset", request.preset, PRESETS))
    if request.precision not in ("bfloat16", "float32"):
        raise TrainingError(f"--precision is {request.precision!r}; expected bfloat16 or float32")
    if request.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"--device is {request.device!r}, but this machine offers no CUDA device to torch; use --device cpu"
        )
    if request.lora and not request.init:
        raise TrainingError("--lora adapts a trained model; give its folder with --init")


def new_model(job: Job) -> tuple[InstructSeg, AuxiliaryHeads]:
    """Build model and auxiliary heads from the run's seed, not from the global random state, then load `init`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.options.seed)
        model = InstructSeg(job.config)
        heads = AuxiliaryHeads(
            width=job.config.language.hidden_size,
            query_width=job.config.mask.hidden_dim,
            n_items=len(ITEMS),
            n_tints=len(TINTS),
        )
        if not job.init:
            # The release starts from zeros, on a trained language model.
            torch.nn.init.normal_(model.seg_query, std=0.02)
    for path in job.init:
        if path.is_dir():
            model.load_state_dict(InstructSeg.from_pretrained(path).state_dict())
        else:
            load_weights(model, heads, path)
    if job.lora:
        add_adapters(model)
    model.language_model.set_attn_implementation("eager")
    return model, heads


def run_job(job: Job, *, prepare: Callable[[], None] | None = None) -> Path:
    """Run all stages; return the directory of the averaged model in the released layout, with its `training.json`.

    `prepare` is called first in every process, to set up logging, for example; it must be picklable.
    """
    if job.processes == 1:
        _worker(0, job, "", prepare)
        return job.options.out / MODEL_FOLDER
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_worker, args=(job, f"file://{folder}/rendezvous", prepare), nprocs=job.processes)
        except ProcessException as error:
            reason = str(error).strip().splitlines()[-1]
            raise TrainingError(
                f"a process of the training stopped ({reason}); mend the cause and run the same command again: it "
                f"resumes from the checkpoints in {job.options.out}"
            ) from error
    return job.options.out / MODEL_FOLDER


def _validate(
    look: Callable[[InstructSeg, TextTokenizer], dict[str, float]],
    model: InstructSeg,
    tokenizer: TextTokenizer,
    run: Run,
) -> dict[str, float]:
    model.eval()
    with averaged(run.parameters, run.average.shadow):
        found = look(model, tokenizer)
    model.train()
    return found


_LOOKS: dict[str, Callable[[InstructSeg, TextTokenizer], dict[str, float]]] = {
    "language": validate,
    "video": validate_as_used,
}
"""How stages with these losses are validated; the others train no answers."""


def _worker(rank: int, job: Job, rendezvous: str, prepare: Callable[[], None] | None) -> None:
    leave_with_parent()
    if prepare is not None:
        prepare()
    torch.set_num_threads(job.threads)
    options = replace(job.options, rank=rank, world_size=job.processes)
    if job.processes > 1:
        backend = "nccl" if options.device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=job.processes)
    tokenizer = load_tokenizer(job.tokenizer)
    model, heads = new_model(job)
    for stage in job.stages:
        look = _LOOKS.get(stage.losses)
        check = None if look is None else partial(_validate, look, model, tokenizer)
        train_stage(model, heads, tokenizer, stage, options, validate=check)
    if rank == 0:
        if job.lora:
            merge_adapters(model)
        model.language_model.set_attn_implementation("sdpa")
        model.tokenizer = tokenizer
        model.save_pretrained(options.out / MODEL_FOLDER, storage="float16", max_shard_bytes=12_000_000)
        logs = [options.out / f"{stage.name}.jsonl" for stage in job.stages]
        write_json(options.out / MODEL_FOLDER / RECORD_FILE, training_record(job.stages, logs, job.command))
        draw_curves(logs, options.out / "curves.png")
    if job.processes > 1:
        dist.destroy_process_group()

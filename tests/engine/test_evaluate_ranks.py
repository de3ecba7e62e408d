"""torchrun: the lines of one process, none twice, and a killed run resumes with another number of ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from leanseg.engine.evaluation.distributed import evaluate_ranks, local_device, told, world
from leanseg.engine.evaluation.lines import Lines
from leanseg.engine.evaluation.request import Request, plan
from leanseg.engine.evaluation.run import evaluate
from leanseg.engine.records import read_record
from leanseg.errors import DataError

_WAIT_SECONDS = 120


@pytest.fixture
def request_of(model_folder: Path, tmp_path: Path) -> Request:
    model = str(model_folder)
    return Request(out=tmp_path / "r.json", model=model, limit=30, pruners=("random",), keep_ratios=(0.5,))


def torchrun(request: Request, ranks: int) -> subprocess.Popen[str]:
    """Start `leanseg eval` under torchrun."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m",
        "leanseg.cli", "eval", "--model", request.model, "--limit", str(request.limit), "--pruner", *request.pruners,
        "--keep-ratio", "0.5", "--out", str(request.out), "--json",
    ]  # fmt: skip
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet)


def stop(running: subprocess.Popen[str]) -> None:
    """End torchrun, which ends its ranks; they are told nothing that they could catch."""
    running.terminate()
    running.communicate()


@pytest.mark.slow
def test_a_killed_run_resumes_with_another_number_of_ranks_and_gives_the_lines_of_one_process(
    request_of: Request, tmp_path: Path
) -> None:
    planned = plan(request_of)
    alone = evaluate(planned, tmp_path / "alone.jsonl")
    book = Lines(request_of.lines, planned.about)
    killed = torchrun(request_of, 2)
    try:
        until = time.monotonic() + _WAIT_SECONDS
        while not any(len(book.read(part)) for part in book.parts()):
            assert killed.poll() is None and time.monotonic() < until, killed.communicate()[1]
            time.sleep(0.02)
    finally:
        stop(killed)
    left = {index: line for part in book.parts() for index, line in book.read(part).items()}
    assert 0 < len(left) < len(alone)

    resumed = torchrun(request_of, 3)
    try:
        out, err = resumed.communicate(timeout=_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        stop(resumed)
        raise
    assert resumed.returncode == 0, err
    assert json.loads(out)["n_samples"] == len(alone)
    assert read_record(request_of.out, "evaluation")["samples"] == alone
    assert [path.name for path in sorted(tmp_path.glob("r*"))] == ["r.json"]


def test_one_rank_is_a_world_of_its_own(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world() == (0, 1) and local_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device("cuda") == "cuda:1" and local_device("cpu") == "cpu"
    with pytest.raises(DataError, match="--processes is 2 under torchrun; expected 1: torchrun starts the processes"):
        evaluate_ranks(replace(plan(request_of), indices=[0]), request_of.lines, processes=2)


def test_the_bar_of_one_rank_counts_what_was_there_and_the_shares_of_the_others(request_of: Request) -> None:
    planned, seen = plan(request_of), []
    tell = told(seen.append, planned, list(planned.indices)[4:], 3)
    for finished in (1, 8, 9):
        tell(finished)
    assert seen == [4, 7, 28, 30]

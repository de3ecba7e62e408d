"""Fine-tune vltp-nano in every way that its tables compare, and measure all rows: results/vltp_rows.json.

A run that was broken off resumes: models, checkpoints and measured rows in --work are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from leanseg.data.scenes.generate import generate_scene
from leanseg.data.scenes.splits import find
from leanseg.engine.records import record, weights_hash, write_json
from leanseg.engine.train.vltp.launch import MODEL_FOLDER, VLTPRequest, plan, run_job
from leanseg.engine.train.vltp.pictures import Picture, scene_picture
from leanseg.engine.train.vltp.pool import POOL_FILE, Pool, first_stage, make_pool
from leanseg.engine.vltp_rows.measure import measure, summarised
from leanseg.engine.vltp_rows.rows import BASE, HALF, ROWS, TUNINGS, Row, Tuning
from leanseg.engine.vltp_rows.tables import KIND
from leanseg.models.vltp.model import VLTP

PRUNE = "prune"


def folders(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return every model's folder by its name."""
    tuned = {each.name: arguments.work / each.name / MODEL_FOLDER for each in TUNINGS}
    return {BASE: arguments.base, HALF: arguments.model, **tuned}


def tune(tuning: Tuning, known: dict[str, Path], arguments: argparse.Namespace) -> None:
    """Fine-tune one model, if it is not there; from the base as long as the shipped one was."""
    out = arguments.work / tuning.name
    if (known[tuning.name] / "config.json").exists():
        return
    share_pool(tuning, out, arguments.work)
    request = VLTPRequest(
        out=out, stages=(PRUNE,), init=(known[tuning.start],), method=tuning.method, at=tuning.stages,
        steps=None if tuning.start == BASE else arguments.steps, prune=tuning.prune, seed=tuning.seed,
        precision="float32",
    )  # fmt: skip
    run_job(plan(request))


def share_pool(tuning: Tuning, out: Path, work: Path) -> None:
    """Bring the pool of another fine-tune on the same pictures, whose first stage is at the same place; all agree."""
    name = POOL_FILE.format(stage=PRUNE)
    for other in TUNINGS if not (out / name).exists() else ():
        made = work / other.name / name
        if made.exists() and (other.seed, min(other.stages)[0]) == (tuning.seed, min(tuning.stages)[0]):
            out.mkdir(parents=True, exist_ok=True)
            os.link(made, out / name)
            return


def pictures(split: str, count: int) -> list[Picture]:
    part = find(split)
    return [scene_picture(generate_scene(part.first_seed + index, part.options)) for index in range(count)]


def pool_of(model: VLTP, row: Row, drawn: Sequence[Picture], arguments: argparse.Namespace) -> Pool:
    """Return the guide's and the first blocks' answers for a row, which all models share: neither is fine-tuned."""
    place = min((place for place, _ in row.stages), default=first_stage(model.config))
    path = arguments.work / f"pool_{arguments.data}_{len(drawn)}_{place}.safetensors"
    return make_pool(model, drawn, path, first=place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="model folder of the stages before `prune`")
    parser.add_argument("--model", type=Path, default=Path("src/leanseg/assets/vltp-nano"))
    parser.add_argument("--work", type=Path, default=Path("runs/vltp-rows"))
    parser.add_argument("--out", type=Path, default=Path("results/vltp_rows.json"))
    parser.add_argument("--data", default="tasks")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--steps", type=int, default=80, help="steps of each fine-tune")
    parser.add_argument("--table", action="append", help="measure only these tables' rows, and tune what they need")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known, wanted = folders(arguments), [row for row in ROWS if row.table in (arguments.table or {row.table})]
    for tuning in TUNINGS:
        if any(row.model == tuning.name for row in wanted):
            tune(tuning, known, arguments)
    drawn, lines = pictures(arguments.data, arguments.pictures), arguments.work / f"rows_{arguments.data}.jsonl"
    lines.touch()
    done = {row["name"]: row for row in map(json.loads, lines.read_text().splitlines())}
    for row in ROWS:
        if row in wanted and row.name not in done:
            model = VLTP.from_pretrained(known[row.model])
            measured = measure(model, pool_of(model, row, drawn, arguments), row)
            done[row.name] = {**measured, "weights": weights_hash(known[row.model])}
            with lines.open("a") as file:
                file.write(json.dumps(done[row.name]) + "\n")
            sys.stderr.write(f"{row.name} {summarised([done[ROWS[0].name], done[row.name]])[-1]['giou']}\n")
    rows = summarised([done[row.name] for row in ROWS if row.name in done])
    command = shlex.join(["python", *sys.argv])
    write_json(arguments.out, record(KIND, command, data=f"scenes:{arguments.data}", n_samples=len(drawn), rows=rows))


if __name__ == "__main__":
    main()

"""What docs/attach.md says is so: its table is the layouts', its code runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
import transformers
from tests.hf.families import FAMILIES, Inputs, model_of

import leanseg
from leanseg.hf import LAYOUTS
from leanseg.testing import check_pruner

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "attach.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_table_is_that_of_the_layouts():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render_families(PAGE) == PAGE, "run: python scripts/tables.py"
    assert all(f"`{name}`" in PAGE for name in LAYOUTS)


def test_every_family_of_the_table_is_tested():
    assert set(LAYOUTS) <= set(FAMILIES)


def test_there_are_four_pieces_of_code():
    assert len(BLOCKS) == 4


def test_the_first_lines_run(monkeypatch):
    model, inputs = model_of("qwen2_5_vl"), Inputs("qwen2_5_vl", [[3, "image", 4]]).make()

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", lambda name: model)
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda name: lambda **_: inputs)
    names = {"picture": None, "prompt": ""}
    exec(BLOCKS[0].replace("max_new_tokens=64", "max_new_tokens=2"), names)
    assert names["trace"].n_kept == 2 and names["trace"].n_tokens == 12
    assert names["tokens"].shape[1] == inputs["input_ids"].shape[1] + 2


def test_labels_are_gathered_as_the_page_says():
    names = {"model": model_of("llava"), "inputs": Inputs("llava", [[3, "image", 4]]).make()}
    with torch.no_grad():
        exec(BLOCKS[1], {**names, "leanseg": leanseg, "torch": torch}, names)
    assert bool(names["loss"].isfinite())


def test_the_pruner_in_a_file_runs_and_keeps_the_laws(tmp_path):
    path = tmp_path / "centre.py"
    path.write_text(BLOCKS[2], encoding="utf-8")
    made = leanseg.pruner(f"{path}:Centre(keep_ratio=0.25)")
    model, inputs = model_of("llava"), Inputs("llava", [[3, "image", 4]]).make()
    with torch.no_grad(), leanseg.attach(model, f"{path}:Centre(keep_ratio=0.25)") as trace:
        model(**inputs)
    assert trace.selections[0].indices.tolist() == [[5, 6, 9, 10]]
    check_pruner(type(made))


def test_the_model_in_one_row_runs():
    names = {}
    exec(BLOCKS[3], names)
    assert names["states"].shape == (1, 9, 16)
    assert [item.n_kept for item in names["trace"].items] == [3, 3]


@pytest.mark.parametrize("option", ["positions", "site", "language_layer", "mass_preserving", "layout"])
def test_every_option_is_explained(option):
    import inspect

    assert option in inspect.signature(leanseg.attach).parameters
    assert f"| `{option}` |" in PAGE

"""The arrows between the layers point downward only, and importing the package costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_layers_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "KEPT" in done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import leanseg",
        "from leanseg.cli import build_app; build_app(None)",
        "import leanseg.cli.segment",
        "import leanseg.cli.flops, leanseg.costs.report",
        "import leanseg.data.scenes",
        "import leanseg.costs; leanseg.costs.instructseg('refcoco', keep_ratio=0.2, mode='exact')",
        "import leanseg.models.presets",
        "from leanseg.metrics import GIoU, JF, boundary_f, protocols; protocols.evaluate_davis; protocols.ReVOS",
    ],
)
def test_import_draws_no_heavy_package(statement):
    heavy = "torch transformers tokenizers huggingface_hub matplotlib pycocotools av peft"
    assert _run(f"import sys; {statement}; print([name for name in '{heavy}'.split() if name in sys.modules])") == "[]"


def test_public_names_are_where_they_are_promised():
    import leanseg

    for name in leanseg.__all__:
        assert getattr(leanseg, name) is not None, name
    assert set(leanseg.__all__) <= set(dir(leanseg))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = leanseg.nothing


def test_names_that_outside_code_imports_need_no_other_import():
    # In a process of its own, lowest layer first, so that no name is there only because another import drew it in.
    names = [
        "core.kcenter.select",
        "pruner",
        "metrics.jaccard",
        "metrics.boundary_f",
        "metrics.protocols.Davis",
        "metrics.GIoU().update",
        "metrics.CIoU().merge",
        "models.InstructSegConfig",
        "models.InstructSeg.from_pretrained",
        "models.VLTPConfig",
        "models.VLTP.from_pretrained",
        "load",
    ]
    found = ", ".join(f"callable(leanseg.{name})" for name in names)
    assert _run(f"import leanseg; print(all([{found}]))") == "True"


def test_importing_leaves_the_random_state_alone():
    everything = "leanseg.pruners, leanseg.models, leanseg.engine.segmenter"
    code = f"import torch; before = torch.get_rng_state(); import {everything}; after = torch.get_rng_state()"
    assert _run(f"{code}; print(torch.equal(before, after))") == "True"

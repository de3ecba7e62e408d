"""Evaluation records made by hand: pictures of 10 000 pixels whose gIoU under each row is what the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNION = 10_000


def made(
    values: Mapping[str, Sequence[float]], *, lines: Sequence[Mapping[str, Any]] = (), **content: Any
) -> dict[str, Any]:
    """Return a record with a row per name, such as `evtp@0.2` or `blind`, and a sample per value."""
    rows = []
    for name in values:
        pruner, at, ratio = name.rpartition("@")
        keep_ratio = float(ratio) if at else 1.0 if name == "all" else None
        visual = name if name in ("ovp_only", "blind") else "all"
        rows.append({"name": name, "pruner": pruner or None, "keep_ratio": keep_ratio, "visual": visual, "options": {}})
    n = len(next(iter(values.values())))
    samples = [
        {
            "index": k, "id": f"s/{k}", "kind": "noun", "instruction": "the thing",
            "counts": {name: [[round(UNION * series[k]), UNION]] for name, series in values.items()},
            "target": {"area": 0.1, "scene": k},
            **(lines[k] if lines else {}),
        }
        for k in range(n)
    ]  # fmt: skip
    return {
        "kind": "evaluation", "model": "fake", "weights": None, "data": "scenes:test", "scoring": {"name": "region"},
        "rows": rows, "samples": samples, "n_samples": n, "n_failures": 0, "commit": None, **content,
    }  # fmt: skip


def varied(mean: float, n: int = 40, spread: float = 0.01) -> list[float]:
    """Return n values that differ a little, with this mean."""
    return [mean + spread * (1 if k % 2 else -1) for k in range(n)]

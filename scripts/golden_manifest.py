"""Write tests/golden/MANIFEST.json: every fixture with its size, its SHA-256 and where its numbers come from.

Origins: `reference` (output of the authors' public code), `paper` (printed in the paper), `definition` (computed apart
from this code, from the definition in docs/design.md, where no public code exists), `self` (regression of this code,
never proof). Run it after fixtures were added or changed; a test compares the file with the folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
MANIFEST = "MANIFEST.json"
# A folder's origin; the longest prefix that fits decides, and a fixture below none of them is an error.
ORIGINS = {
    # Tiny sets of our own drawings in the published layouts, counted by hand; the converted one by its converter.
    "datasets/": "definition",
    "datasets/ref-davis_converted/": "reference",
    "evtp/": "definition",
    "instructseg/": "reference",
    "metrics/": "reference",
    "pruners/": "reference",
    "self/": "self",
    # The pruned encoder and its labels are published as text only; modules and weights are the public code's.
    "vltp/": "reference",
    "vltp/prune_labels/": "definition",
    "vltp/vltp_pruned_sam/": "definition",
}


def origin(path: str) -> str:
    """Return where the numbers of a fixture come from.

    >>> origin("instructseg/ovp/outputs.safetensors")
    'reference'
    """
    fitting = [prefix for prefix in ORIGINS if path.startswith(prefix)]
    if not fitting:
        raise ValueError(f"no origin is stated for {path}; add its folder to ORIGINS in scripts/golden_manifest.py")
    return ORIGINS[max(fitting, key=len)]


def build(root: Path = GOLDEN) -> dict[str, dict[str, object]]:
    """Return the manifest of every file below `root`, in order of the paths."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != root / MANIFEST)
    entries: dict[str, dict[str, object]] = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        data = path.read_bytes()
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "origin": origin(name)}
    return entries


def main() -> None:
    (GOLDEN / MANIFEST).write_text(json.dumps(build(), indent=1) + "\n")


if __name__ == "__main__":
    main()

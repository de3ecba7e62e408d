"""The cases of `metrics/<stem>.json` and `.npz`, found by what the files hold."""

import json

import numpy as np
import pytest
from tests.golden_cases import GOLDEN


def golden(stem, *keys):
    """One parameter per case of `metrics/<stem>.json` below `keys`, or one that is skipped where the file is absent."""
    path = GOLDEN / "metrics" / f"{stem}.json"
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {path}"), id=f"{stem}/absent")]
    found = expected_of(stem, *keys)
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {keys} in {path}"), id=f"{stem}/none")]
    return [pytest.param(name, id=f"{stem}/{name}") for name in found]


def expected_of(stem, *keys):
    """What `metrics/<stem>.json` holds below `keys`."""
    found = json.loads((GOLDEN / "metrics" / f"{stem}.json").read_text())
    for key in keys:
        found = found[key]
    return found


def arrays_of(stem, name):
    """The arrays of one case: `<case>/<part>` as {part: array}."""
    with np.load(GOLDEN / "metrics" / f"{stem}.npz") as file:
        found = {key[len(name) + 1 :]: file[key] for key in file.files if key.startswith(f"{name}/")}
    assert found, f"{stem}.npz holds no {name}"
    return found

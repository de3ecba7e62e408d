"""Where a training starts: what `--init` names, found before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanseg.engine.segmenter import FAMILIES, family_of, local_folder, shipped_models
from leanseg.errors import TrainingError, unknown_name


def initial_paths(given: Sequence[str | Path], family: str) -> tuple[Path, ...]:
    """Return stages' files and models' folders, on this machine or by the names of models in the package, in order.

    Raises:
        TrainingError: nothing of that name, or a model of another family.
    """
    return tuple(_initial_path(each, family) for each in given)


def _initial_path(given: str | Path, family: str) -> Path:
    found = Path(given) if Path(given).is_file() else local_folder(given)
    if found is None:
        raise TrainingError(
            f"--init {given} does not exist; give a stage's .safetensors file, a model folder or the name of a model "
            f"in the package: {unknown_name('model', str(given), shipped_models())}"
        )
    told = family_of(found)
    # Of a configuration that tells no family the model's own reader says what it lacks.
    if told not in (family, FAMILIES[0]):
        raise TrainingError(f"--init {given} is a model of the family {told}; expected one of {family}")
    return found

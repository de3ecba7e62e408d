"""The studies by name: one file each, one line here."""

from __future__ import annotations

from leanseg.engine.study.ablations import Ablations
from leanseg.engine.study.base import Study
from leanseg.engine.study.coverage import CoverageStudy
from leanseg.engine.study.extensions import Extensions
from leanseg.engine.study.fine_grained import FineGrained
from leanseg.engine.study.front import Front
from leanseg.engine.study.hard_sets import HardSets
from leanseg.engine.study.random_subsets import RandomSubsets
from leanseg.engine.study.retention import Retention
from leanseg.engine.study.significance import Significance
from leanseg.engine.study.temporal import Temporal
from leanseg.errors import InputError, unknown_name

STUDIES: dict[str, type[Study]] = {
    "retention": Retention,
    "significance": Significance,
    "fine_grained": FineGrained,
    "hard_sets": HardSets,
    "front": Front,
    "coverage": CoverageStudy,
    "random_subsets": RandomSubsets,
    "ablations": Ablations,
    "temporal": Temporal,
    "extensions": Extensions,
}


def find(name: str) -> Study:
    """Return a study by its name.

    Raises:
        InputError: there is none of this name; the message lists those that there are.
    """
    if name not in STUDIES:
        raise InputError(unknown_name("study", name, STUDIES))
    return STUDIES[name]()

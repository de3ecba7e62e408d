"""What a model costs before anything is run: multiply-adds by part, in pure Python and without torch.

A second model is one more file of counts and one more function in `estimate`.
"""

from leanseg.costs.amdahl import Amdahl, amdahl
from leanseg.costs.cost import UNIT_TEXT, Cost
from leanseg.costs.datasets import DATASETS
from leanseg.costs.estimate import MODES, instructseg
from leanseg.costs.profile import UNIFORM, Profile, read_profile
from leanseg.costs.readings import ExactReadings, PaperReadings
from leanseg.costs.sizes import Sizes

__all__ = [
    "DATASETS",
    "MODES",
    "UNIFORM",
    "UNIT_TEXT",
    "Amdahl",
    "Cost",
    "ExactReadings",
    "PaperReadings",
    "Profile",
    "Sizes",
    "amdahl",
    "instructseg",
    "read_profile",
]

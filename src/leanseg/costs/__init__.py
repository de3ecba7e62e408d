"""What a model costs before anything is run: multiply-adds by part, in pure Python and without torch.

`instructseg` counts a whole answer, `sam` VLTP's image encoder, `sam_method` the same under the methods beside VLTP. A
further model is one more function here.
"""

from leanseg.costs.amdahl import Amdahl, amdahl
from leanseg.costs.cost import UNIT_TEXT, Cost
from leanseg.costs.datasets import DATASETS
from leanseg.costs.estimate import MODES, instructseg
from leanseg.costs.profile import UNIFORM, Profile, read_profile
from leanseg.costs.readings import ExactReadings, PaperReadings
from leanseg.costs.sam import SamCost, sam
from leanseg.costs.sam_exact import SamSizes
from leanseg.costs.sam_methods import MethodCost, sam_method
from leanseg.costs.sizes import Sizes

__all__ = [
    "DATASETS",
    "MODES",
    "UNIFORM",
    "UNIT_TEXT",
    "Amdahl",
    "Cost",
    "ExactReadings",
    "MethodCost",
    "PaperReadings",
    "Profile",
    "SamCost",
    "SamSizes",
    "Sizes",
    "amdahl",
    "instructseg",
    "read_profile",
    "sam",
    "sam_method",
]

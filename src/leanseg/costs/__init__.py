"""What a model costs before anything is run: multiply-adds by part, in pure Python and without torch.

A second model is one more file of counts and one more function in `estimate`.
"""

from leanseg.costs.cost import UNIT_TEXT, Cost
from leanseg.costs.datasets import DATASETS
from leanseg.costs.estimate import instructseg
from leanseg.costs.readings import ExactReadings, PaperReadings
from leanseg.costs.sizes import Sizes

__all__ = ["DATASETS", "UNIT_TEXT", "Cost", "ExactReadings", "PaperReadings", "Sizes", "instructseg"]

"""The pruners that can be called by name; a new one is one file and one line here."""

from leanseg.pruners.base import Pruner
from leanseg.pruners.evtp import EVTP
from leanseg.pruners.evtp_saliency import EVTPSaliency
from leanseg.pruners.evtp_video import EVTPVideo
from leanseg.pruners.identity import Identity
from leanseg.pruners.kcenter import KCenter
from leanseg.pruners.random import Random
from leanseg.pruners.tome import ToMe
from leanseg.pruners.uniform import Uniform

# Constructible from keep_ratio alone.
PRUNERS: dict[str, type[Pruner]] = {
    "evtp": EVTP,
    "evtp_video": EVTPVideo,
    "evtp_saliency": EVTPSaliency,
    "kcenter": KCenter,
    "tome": ToMe,
    "random": Random,
    "uniform": Uniform,
    "identity": Identity,
}

# Take another pruner as a field.
WRAPPERS: dict[str, type[Pruner]] = {}

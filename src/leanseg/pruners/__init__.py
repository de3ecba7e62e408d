"""Methods that choose which visual tokens stay: one file each, one line each in `PRUNERS`."""

from leanseg.pruners.base import Pruner, ScorePruner, Wrapper
from leanseg.pruners.evtp import EVTP
from leanseg.pruners.evtp_saliency import EVTPSaliency
from leanseg.pruners.evtp_video import EVTPVideo
from leanseg.pruners.identity import Identity
from leanseg.pruners.kcenter import KCenter
from leanseg.pruners.random import Random
from leanseg.pruners.registry import PRUNERS, WRAPPERS
from leanseg.pruners.spec import pruner
from leanseg.pruners.tome import ToMe
from leanseg.pruners.uniform import Uniform

__all__ = [
    "EVTP",
    "PRUNERS",
    "WRAPPERS",
    "EVTPSaliency",
    "EVTPVideo",
    "Identity",
    "KCenter",
    "Pruner",
    "Random",
    "ScorePruner",
    "ToMe",
    "Uniform",
    "Wrapper",
    "pruner",
]

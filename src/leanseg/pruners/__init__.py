"""Methods that choose which visual tokens stay: one file each, one line each in `PRUNERS`."""

from leanseg.pruners.adaptive import Adaptive, calibrate
from leanseg.pruners.attention import Attention
from leanseg.pruners.base import Pruner, ScorePruner, Wrapper
from leanseg.pruners.cdpruner import CDPruner
from leanseg.pruners.chain import Chain
from leanseg.pruners.divprune import DivPrune
from leanseg.pruners.evs import EVS
from leanseg.pruners.evtp import EVTP
from leanseg.pruners.evtp_saliency import EVTPSaliency
from leanseg.pruners.evtp_video import EVTPVideo
from leanseg.pruners.fastv import FastV
from leanseg.pruners.identity import Identity
from leanseg.pruners.joint import Joint
from leanseg.pruners.kcenter import KCenter
from leanseg.pruners.max_norm import MaxNorm
from leanseg.pruners.multiscale import Multiscale
from leanseg.pruners.nuwa import Nuwa
from leanseg.pruners.random import Random
from leanseg.pruners.registry import PRUNERS, WRAPPERS
from leanseg.pruners.reserve import Reserve
from leanseg.pruners.scope import SCOPE
from leanseg.pruners.smooth import Smooth
from leanseg.pruners.spec import pruner
from leanseg.pruners.tome import ToMe
from leanseg.pruners.uniform import Uniform
from leanseg.pruners.union import Union
from leanseg.pruners.visionzip import VisionZip
from leanseg.pruners.vispruner import VisPruner

__all__ = [
    "EVS",
    "EVTP",
    "PRUNERS",
    "SCOPE",
    "WRAPPERS",
    "Adaptive",
    "Attention",
    "CDPruner",
    "Chain",
    "DivPrune",
    "EVTPSaliency",
    "EVTPVideo",
    "FastV",
    "Identity",
    "Joint",
    "KCenter",
    "MaxNorm",
    "Multiscale",
    "Nuwa",
    "Pruner",
    "Random",
    "Reserve",
    "ScorePruner",
    "Smooth",
    "ToMe",
    "Uniform",
    "Union",
    "VisPruner",
    "VisionZip",
    "Wrapper",
    "calibrate",
    "pruner",
]

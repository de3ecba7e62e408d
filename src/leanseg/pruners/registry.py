"""The pruners that can be called by name; a new one is one file and one line here."""

from leanseg.pruners.adaptive import Adaptive
from leanseg.pruners.attention import Attention
from leanseg.pruners.base import Pruner
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
from leanseg.pruners.reserve import Reserve
from leanseg.pruners.scope import SCOPE
from leanseg.pruners.smooth import Smooth
from leanseg.pruners.staged.guidance_similarity import GuidanceSimilarity
from leanseg.pruners.staged.vltp import LearnedPruner
from leanseg.pruners.tome import ToMe
from leanseg.pruners.uniform import Uniform
from leanseg.pruners.union import Union
from leanseg.pruners.visionzip import VisionZip
from leanseg.pruners.vispruner import VisPruner

# Constructible from keep_ratio alone.
PRUNERS: dict[str, type[Pruner]] = {
    "evtp": EVTP,
    "evtp_video": EVTPVideo,
    "evtp_saliency": EVTPSaliency,
    "kcenter": KCenter,
    "divprune": DivPrune,
    "tome": ToMe,
    "visionzip": VisionZip,
    "vispruner": VisPruner,
    "cdpruner": CDPruner,
    "scope": SCOPE,
    "nuwa": Nuwa,
    "fastv": FastV,
    "attention": Attention,
    "evs": EVS,
    "max_norm": MaxNorm,
    "multiscale": Multiscale,
    "random": Random,
    "uniform": Uniform,
    "identity": Identity,
}

# Take another pruner as a field.
WRAPPERS: dict[str, type[Pruner]] = {
    "reserve": Reserve,
    "union": Union,
    "chain": Chain,
    "joint": Joint,
    "adaptive": Adaptive,
    "smooth": Smooth,
}

# Hold a trained module, so that they come with a model only.
LEARNED: dict[str, type[Pruner]] = {"vltp": LearnedPruner, "guidance_similarity": GuidanceSimilarity}

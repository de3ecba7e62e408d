"""SAM's image encoder with less work, by the name of the method: VLTP and what it is compared with, called alike.

`stages` are {after block: fraction of all tokens to keep}, as costs and tables have them. What a method makes of them:
those that choose at stages do so there; CTS shares before the first block, {0: ratio}; SViT has gates from the first
stage on, and the ratios are what they are trained towards; DToP has a head at each stage, and its confidence decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor, nn

from leanseg.core.budget import check_ratio
from leanseg.errors import SpecError, unknown_name
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.model import Sam
from leanseg.models.vltp.baselines import cts, dtop, svit
from leanseg.models.vltp.losses import LossWeights, prune_losses
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import EncoderState, Stage, StagedEncoder, StagedOutput
from leanseg.pruners import EVTP, KCenter, Random
from leanseg.pruners.base import Pruner
from leanseg.pruners.staged.guidance_similarity import GuidanceSimilarity
from leanseg.pruners.staged.vltp import LearnedPruner

Stages = Mapping[int, float]


@runtime_checkable
class PrunedEncoder(Protocol):
    """What every method's encoder is; `StagedEncoder` says what the arguments mean.

    `prefix` runs once per picture, `rest` once per instruction; a state is for the encoder that made it.
    """

    def __call__(
        self, pixels: Tensor, guidance: Tensor | None = None, *, owner: Tensor | None = None, several: str = ...
    ) -> StagedOutput: ...

    def prefix(self, pixels: Tensor) -> EncoderState: ...

    def rest(
        self,
        state: EncoderState,
        guidance: Tensor | None = None,
        *,
        owner: Tensor | None = None,
        several: str = ...,
    ) -> StagedOutput: ...


@dataclass(frozen=True, kw_only=True)
class EncoderMethod:
    """A method's default stages of a depth, its own weights, its encoder, and the weighted losses on these weights.

    `losses` take an answer and each patch's share inside the mask (`losses.patch_coverage`), one row per answer.
    `guided`: it sees the instruction. `staged`: it takes policy and reactivation. `options`: of its own. `decides`: who
    or what chooses where policy and reactivation do not; `ratios`: whether stages may change after training.
    """

    stages: Callable[[int], dict[int, float]]
    encoder: Callable[..., PrunedEncoder]
    weights: Callable[[SamConfig, Stages], nn.Module] | None = None
    losses: Callable[[Any, Any, Tensor], dict[str, Tensor]] = lambda weights, output, coverage: {}
    guided: bool = False
    staged: bool = True
    options: tuple[str, ...] = ()
    decides: str = ""
    ratios: bool = True


def encoder_method(method: str) -> EncoderMethod:
    """Return the method of a name."""
    if method not in ENCODERS:
        raise SpecError(unknown_name("encoder method", str(method), ENCODERS))
    return ENCODERS[method]


def encoder_weights(method: str, config: SamConfig, stages: Stages | None = None) -> nn.Module | None:
    """Return new weights of what a method has besides SAM, or None if it has nothing."""
    chosen = encoder_method(method)
    return None if chosen.weights is None else chosen.weights(config, _checked(method, stages, config.depth))


def pruned_encoder(
    method: str, sam: Sam, stages: Stages | None = None, weights: nn.Module | None = None, **options: Any
) -> PrunedEncoder:
    """Return a method's encoder around SAM's; it holds modules and owns none, so that one can be made for every answer.

    `stages`: None = the method's own. `weights`: what `encoder_weights` made, trained or not. Options: `policy` and
    `reactivate` of `StagedEncoder` for methods with stages; `seed` (random), `confidence` (dtop).
    """
    chosen = encoder_method(method)
    known = (*(("policy", "reactivate") if chosen.staged else ()), *chosen.options)
    for name in options:
        if name not in known:
            raise SpecError(f"{method}: {unknown_name('option', name, known)}")
    given = _checked(method, stages, sam.config.depth)
    if weights is None and chosen.weights is not None:
        raise SpecError(f"{method} has weights of its own, and none were given; make them by encoder_weights")
    return chosen.encoder(sam, given, weights, **options)


def _checked(method: str, stages: Stages | None, depth: int) -> dict[int, float]:
    chosen = encoder_method(method).stages(depth) if stages is None else dict(stages)
    strange = [place for place in chosen if isinstance(place, bool) or not 0 <= place < depth]
    if strange or not chosen:
        raise SpecError(
            f"{method} got stages after blocks {list(chosen)}; expected one at least, after blocks in 0..{depth - 1}"
        )
    return {place: check_ratio(chosen[place]) for place in sorted(chosen)}


def _with_stages(make: Callable[..., Pruner]) -> Callable[..., PrunedEncoder]:
    """Return the maker of encoders whose pruners `make(sam, weights, keep_ratio=..., **options)` returns."""

    def encoder(
        sam: Sam, stages: Stages, weights: Any, *, policy: str = "drop", reactivate: bool = True, **options: Any
    ) -> StagedEncoder:
        made = [Stage(place, make(sam, weights, keep_ratio=ratio, **options)) for place, ratio in stages.items()]
        return StagedEncoder.of(sam.image_encoder, made, policy=policy, reactivate=reactivate)

    return encoder


def _learned(sam: Sam, weights: PruneDecoder, keep_ratio: float) -> Pruner:
    return LearnedPruner(keep_ratio=keep_ratio, scorer=PruneScorer(weights, sam.prompt_encoder))


def _similar(sam: Sam, weights: None, keep_ratio: float) -> Pruner:
    return GuidanceSimilarity(keep_ratio=keep_ratio, projection=prompt_projection(sam))


def prompt_projection(sam: Sam) -> Callable[[Tensor], Tensor]:
    """Return the way from tokens to the width of SAM's prompts: the neck's first convolution and its norm."""
    convolution, norm = sam.image_encoder.neck[0], sam.image_encoder.neck[1]

    def projection(features: Tensor) -> Tensor:
        return cast(Tensor, norm(convolution(features.mT[..., None])))[..., 0].mT

    return projection


def _sharing(sam: Sam, stages: Stages, weights: cts.CTSPolicy) -> cts.CTSEncoder:
    if list(stages) != [0]:
        raise SpecError(
            f"cts shares before the first block, and got stages after {list(stages)}; expected {{0: ratio}}"
        )
    return cts.CTSEncoder(sam.image_encoder, weights, keep_ratio=stages[0])


def _stage_losses(weights: Any, output: StagedOutput, coverage: Tensor) -> dict[str, Tensor]:
    factors = LossWeights()
    losses = prune_losses([cast(Tensor, logits) for logits in output.logits], (coverage > 0).float())
    return {"bce": factors.prune_bce * losses["bce"], "dice": factors.prune_dice * losses["dice"]}


def _half_and_three_quarters(depth: int) -> dict[int, float]:
    return {depth // 2: 0.2, 3 * depth // 4: 0.2}


ENCODERS: dict[str, EncoderMethod] = {
    "vltp": EncoderMethod(
        stages=_half_and_three_quarters,
        encoder=_with_stages(_learned),
        weights=lambda config, stages: PruneDecoder(config),
        losses=_stage_losses,
        guided=True,
    ),
    "random": EncoderMethod(
        stages=_half_and_three_quarters,
        encoder=_with_stages(lambda sam, weights, **fields: Random(**fields)),
        options=("seed",),
    ),
    "evtp": EncoderMethod(
        stages=_half_and_three_quarters, encoder=_with_stages(lambda sam, weights, **fields: EVTP(**fields))
    ),
    "kcenter": EncoderMethod(
        stages=_half_and_three_quarters, encoder=_with_stages(lambda sam, weights, **fields: KCenter(**fields))
    ),
    "guidance_similarity": EncoderMethod(stages=_half_and_three_quarters, encoder=_with_stages(_similar), guided=True),
    "cts": EncoderMethod(
        stages=lambda depth: {0: 0.75},
        encoder=_sharing,
        weights=lambda config, stages: cts.CTSPolicy(config),
        losses=lambda weights, output, coverage: cts.policy_losses(output.logits[0], coverage),
        staged=False,
        decides="its network shares as much as keep_ratio leaves, before the first block",
    ),
    "dtop": EncoderMethod(
        stages=lambda depth: dict.fromkeys((depth // 3, 2 * depth // 3), 1.0),
        encoder=lambda sam, stages, weights, **options: dtop.DToPEncoder(sam.image_encoder, weights, **options),
        weights=dtop.DToPHeads,
        losses=lambda weights, output, coverage: dtop.head_losses(output, (coverage > 0).float()),
        staged=False,
        options=("confidence",),
        decides="its confidence says who leaves, at the heads that it was trained with",
        ratios=False,
    ),
    "svit": EncoderMethod(
        stages=lambda depth: {depth // 4: 0.7, depth // 2: 0.49, 3 * depth // 4: 0.343},
        encoder=lambda sam, stages, weights: svit.SViTEncoder(sam.image_encoder, weights),
        weights=svit.SViTGates,
        losses=lambda weights, output, coverage: svit.budget_losses(output.decisions, weights.targets),
        staged=False,
        decides="its gates say who stays, from the block on from which they were trained",
        ratios=False,
    ),
}

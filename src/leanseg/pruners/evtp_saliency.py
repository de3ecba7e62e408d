"""EVTP with saliency: farthest-first selection in which distance counts for more where a token matters more."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens, kcenter
from leanseg.core.joint import JointSpace
from leanseg.core.kcenter.weighted import farthest_weighted
from leanseg.errors import SpecError, TokensError, unknown_name
from leanseg.pruners._chance import check_seed
from leanseg.pruners._start import check_start, first_pick
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Tensor

SOURCES = ("attention", "guidance")

# The smallest saliency, relative to the largest: tokens that nothing looks at are still ordered by their distance.
LEAST = 1e-6


@dataclass(frozen=True, kw_only=True)
class EVTPSaliency(Pruner):
    """Keep tokens that cover the picture, and cover what is salient more closely: EVTP with weighted distances.

    In EVTP's space each pick is argmax_i s_i^alpha min_{j picked} |e_i - e_j| (EVTP's Eq. 6 with a weight), with the
    saliency s_i in (0, 1], relative to the row's largest and at least 1e-6 of it. The first pick is EVTP's.

    `source` of s: "attention" = what the token receives in the vision tower; "guidance" = (1 + cos(x_i, g)) / 2 with
    the guidance g, which must be as wide as the features. `alpha` = 0 is EVTP exactly and needs no cue; negative alpha
    prefers what is least salient (in some towers the referent is least like its text). The other fields are EVTP's.

    Nested. Cost O(min(K, N) N D) like EVTP, but always in torch.

    Ours: it answers what the paper leaves open, how coverage and the importance that attention methods use can be
    weighed against each other in one rule. Not claimed: EVTP's bound on the radius (at alpha != 0 salient places are
    covered more closely at the expense of others), nor that the default alpha is tuned to any model. It is small, as
    the distances of the next picks are of a size: a saliency ten times as large soon decides alone.
    """

    name: ClassVar[str] = "evtp_saliency"
    cues: ClassVar[tuple[str, ...]] = ("attention",)
    paper: ClassVar[str] = "ours; EVTP-IVS (WACV 2026) with distances weighted by saliency"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    nested: ClassVar[bool] = True

    alpha: float = 0.25
    source: str = "attention"
    tau: float = 1.0
    spatial_weight: float | None = None
    lambda_rule: str = "inverse_std"
    normalize: str = "center_scale"
    start: int | str = "mean"
    seed: int = 0

    def check(self) -> None:
        """Check the fields, and declare the cue of the source."""
        check_start(self.start)
        check_seed(self.seed)
        if not isinstance(self.alpha, float) or not math.isfinite(self.alpha):
            raise SpecError(f"alpha is {self.alpha!r}; it must be a finite number (0 = EVTP, 0.25 by default)")
        if self.source not in SOURCES:
            raise SpecError(unknown_name("source", str(self.source), SOURCES))
        self._declare(cues=(self.source,) if self.alpha else ())
        _ = self.space

    @property
    def space(self) -> JointSpace:
        """The joint space in which this pruner measures distance."""
        return JointSpace(
            tau=self.tau, spatial_weight=self.spatial_weight, lambda_rule=self.lambda_rule, normalize=self.normalize
        )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Run weighted farthest-first in the joint space."""
        points = self.space.embed(tokens).points
        start = first_pick(self.start, self.seed, tokens, points)
        if self.alpha:
            order = farthest_weighted(points, k, start, weights=self._weights(tokens))
        else:
            order, _ = kcenter.select(points, k, start)
        return Selection.from_order(order.to(tokens.features.device), tokens.n_tokens)

    def _weights(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return s^alpha, scaled to a largest weight of 1; each row as if it were alone."""
        rows = []
        for index in range(tokens.batch):
            saliency = self._saliency(tokens, index).clamp_min(0.0)
            most = saliency.amax()
            saliency = torch.where(most > 0.0, saliency / most, 1.0).clamp_min(LEAST)
            # By logarithms, so that no exponent overflows.
            exponent = self.alpha * saliency.log()
            rows.append((exponent - exponent.amax()).exp())
        return torch.stack(rows)

    def _saliency(self, tokens: VisualTokens, index: int) -> Float[Tensor, " n"]:
        cue = tokens.attention if self.source == "attention" else tokens.guidance
        if cue is None:
            raise TokensError(f"{self.spec()} needs {self.source}; give VisualTokens({self.source}=...)")
        device = "cpu" if cue.device.type == "mps" else cue.device  # mps has no float64
        row = cue[index].detach().to(device).to(torch.float64)
        if self.source == "attention":
            return row
        features = tokens.features[index].detach().to(device).to(torch.float64)
        if len(row) != features.shape[1]:
            raise TokensError(
                f"guidance is {len(row)} wide, the features {features.shape[1]}; {self.spec()} compares them by angle: "
                "give the guidance in the features' space, or choose source='attention'"
            )
        similarity = (features @ row) / (features.norm(dim=1) * row.norm()).clamp_min(1e-12)
        return (1.0 + similarity) / 2.0

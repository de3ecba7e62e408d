"""EVTP: farthest-first selection on features and grid position together."""

from dataclasses import dataclass
from typing import ClassVar

from leanseg.core import Selection, VisualTokens, kcenter
from leanseg.core.joint import JointSpace
from leanseg.pruners._chance import check_seed
from leanseg.pruners._start import check_start, first_pick
from leanseg.pruners.base import Pruner


@dataclass(frozen=True, kw_only=True)
class EVTP(Pruner):
    """Keep tokens that cover the picture both in what they show and in where they lie, by greedy k-center.

    With u_i = x_i / rms norm, sigma_f = std of u (total, in [0, 1]) and c_i = (y, x) in [0, 1] with std sigma_c:
    v_i = (u_i - mean u) / sigma_f (Eq. 5), e_i = [v_i, lambda c_i] with lambda = tau / (sigma_c sigma_f), and each pick
    is the token whose e_i is farthest from all picks (Eq. 6). Little contrast makes lambda large, so that flat areas
    are not skipped. Tokens that do not differ at all (sigma_f < 1e-6) are selected by position alone.

    Fields: `tau`, `spatial_weight`, `lambda_rule`, `normalize` as in `leanseg.core.joint.JointSpace`
    (`spatial_weight=0` is plain k-center); `start`: "mean" (nearest to the mean), "first", "far", "random" (by `seed`)
    or a token's index.

    The result covers within twice the best radius of any K tokens in e-space; every token has a kept one within the
    radius r in v and within r / lambda on the grid; the first K' picks are the run with K'. Cost O(min(K, N) N D).

    Differs from the paper: its equations are public only in words (supplement and summaries of EVTP-IVS, WACV 2026).
    The form of lambda, the scale of v, the first pick and the tie rule are our reading: the one simple form that is
    centred and scaled before coordinates are appended, adaptive to feature variance, and free of scale.
    """

    name: ClassVar[str] = "evtp"
    paper: ClassVar[str] = "EVTP-IVS, WACV 2026; our reading of its public description"
    nested: ClassVar[bool] = True

    tau: float = 1.0
    spatial_weight: float | None = None
    lambda_rule: str = "inverse_std"
    normalize: str = "center_scale"
    start: int | str = "mean"
    seed: int = 0

    def check(self) -> None:
        """Check the fields."""
        check_start(self.start)
        check_seed(self.seed)
        _ = self.space

    @property
    def space(self) -> JointSpace:
        """The joint space in which this pruner measures distance."""
        return JointSpace(
            tau=self.tau, spatial_weight=self.spatial_weight, lambda_rule=self.lambda_rule, normalize=self.normalize
        )

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Run greedy k-center in the joint space."""
        sketch = self.space.sketch(tokens)
        first = first_pick(self.start, self.seed, tokens, sketch.points, sketch.around)
        order, _ = kcenter.select(sketch.points, k, first, extra=sketch.extra)
        return Selection.from_order(order.to(tokens.features.device), tokens.n_tokens)

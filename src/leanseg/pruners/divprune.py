"""DivPrune: the tokens that lie farthest apart by cosine, the most isolated first."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens, kcenter
from leanseg.core.similarity import EPSILON
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class DivPrune(Pruner):
    """Keep tokens that lie far apart: each pick is the one whose nearest pick is farthest by 1 - cosine.

    The max-min diversity problem solved greedily; the first pick is the token whose nearest other one is farthest. On
    unit vectors |a - b|^2 = 2 (1 - cos), so that this is greedy k-center on directions, by the engine that `kcenter`
    and `evtp` use: they differ in distance, first pick and coordinates only. Cost O(min(K, N) N D), and O(N^2 D) at
    most for the first pick.

    Differs from the paper: the input is what the encoder gives or the projector makes of it, by the site, where the
    paper prunes behind the projector only.

    Differs from the reference: a token is never picked twice (the reference returns the same index again once all that
    is left is equal to a pick: 1 distinct token of 146 on constant features); directions in float32 and distances in
    float64 whatever the dtype (in bfloat16 it picks another set); each row of a batch has picks of its own; ties go to
    the lowest index; rows of zeros are orthogonal to all others and equal to each other, where they were NaN.
    """

    name: ClassVar[str] = "divprune"
    paper: ClassVar[str] = "arXiv 2503.02175 (DivPrune, CVPR 2025)"
    licence: ClassVar[str] = "CC BY-NC 4.0, code not opened"
    nested: ClassVar[bool] = True

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Run greedy k-center on the directions of the features, from the most isolated one."""
        points = directions(tokens.features)
        order, _ = kcenter.select(points, k, kcenter.isolated(points))
        return Selection.from_order(order, tokens.n_tokens)


def directions(features: Float[Tensor, "b n d"]) -> Float[Tensor, "b n e"]:
    """Return float32 unit vectors whose inner products are the cosines; rows of zeros get an axis of their own.

    >>> directions(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])).tolist()
    [[[0.6000000238418579, 0.800000011920929, 0.0], [0.0, 0.0, 1.0]]]
    """
    wide = features.detach().float()
    norms = wide.norm(dim=2, keepdim=True)
    unit = wide / norms.clamp_min(EPSILON)
    none = norms == 0.0
    # The further axis changes no distance where no row is zero; on an accelerator, asking would wait for it.
    if unit.device.type == "cpu" and not bool(none.any()):
        return unit
    return torch.cat([unit, none.float()], dim=2)

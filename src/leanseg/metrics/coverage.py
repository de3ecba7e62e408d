"""How well the kept tokens cover all tokens: diagnostics that need neither a model nor a mask."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.distances import nearest_kept
from leanseg.core.joint import JointSpace
from leanseg.errors import SelectionError
from leanseg.shapes import Bool, Float, Tensor


@dataclass(frozen=True, eq=False)
class Coverage:
    """Distance from a token to its nearest kept token: the largest (the covering radius) and the mean, per row (B,).

    `feature`: in v, the features centred and scaled to a total variance of 1, so that 1 is the spread of the tokens.
    `spatial`: on the grid, (y, x) in [0, 1]. `joint`: in e = [v, lambda (y, x)], the space in which EVTP selects. In a
    joint row of several frames `spatial` is over (t, y, x), t in [0, 1] as well, and `joint` over [v, lambda (y, x),
    lambda_t t]: a token is covered by another frame's only as far as that is near in time.
    """

    feature_max: Float[Tensor, " b"]
    feature_mean: Float[Tensor, " b"]
    spatial_max: Float[Tensor, " b"]
    spatial_mean: Float[Tensor, " b"]
    joint_max: Float[Tensor, " b"]
    joint_mean: Float[Tensor, " b"]

    def to_json(self) -> dict[str, list[float]]:
        """Return each measure as a list, one number per row."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}


@dataclass(frozen=True, eq=False)
class InformationBound:
    """What the kept tokens surely tell about all tokens; every field per row (B,), entropies in nats. Our derivation.

    Let s(i) be the kept token nearest to token i, and delta the covering radius in v: |v_i - v_s(i)| <= delta. Among
    all residuals of at most that size the Gaussian has the largest entropy, so that

        H(X | X_S) <= M (D / 2) log(2 pi e delta^2 / D) = `conditional_entropy`,

    and I(X; X_S) >= H(X) - `conditional_entropy`: a smaller radius, a larger lower bound. H(X) itself is unknown.
    Knowing nothing but the tokens' variance (1 in v), the same argument bounds it by `reference_entropy`, with 1 in the
    place of delta. `gain` = `reference_entropy` - `conditional_entropy` = -M D log delta is by how much keeping S
    tightens what can be said; it is the number to compare between selections of the same tokens.

    `vacuous` where delta >= 1: the selection then bounds a token no better than the mean of all tokens does, and the
    statement is empty. It is so for most small budgets on high-dimensional features. Entropies are differential: they
    may be negative, depend on units, and are -infinite for delta = 0 (every token has a kept duplicate). The bound
    takes tokens as random and residuals as bounded by delta on every draw; one picture is a single draw.
    """

    radius: Float[Tensor, " b"]
    conditional_entropy: Float[Tensor, " b"]
    reference_entropy: Float[Tensor, " b"]
    gain: Float[Tensor, " b"]
    vacuous: Bool[Tensor, " b"]

    def to_json(self) -> dict[str, list[Any]]:
        """Return each field as a list, one value per row; an infinite value becomes None."""

        def plain(value: float | bool) -> float | bool | None:
            return value if math.isfinite(value) else None

        return {field.name: [plain(value) for value in getattr(self, field.name).tolist()] for field in fields(self)}


def coverage(tokens: VisualTokens, selection: Selection, space: JointSpace | None = None) -> Coverage:
    """Measure how the kept tokens of `selection` cover `tokens`, in `space` (by default EVTP's).

    Cost O(N K D) per row, in float64. Kept tokens count, at distance 0.
    """
    _check(tokens, selection)
    embedding = (space or JointSpace()).embed(tokens)
    coordinates = tokens.grid.coordinates(torch.float64, embedding.points.device)
    if tokens.grid.frames > 1:
        times = tokens.grid.times(torch.float64, coordinates.device)
        coordinates = torch.cat([times[:, None], coordinates], dim=1)
    distances: dict[str, list[Tensor]] = {"feature": [], "spatial": [], "joint": []}
    kept = selection.indices.to(embedding.points.device)
    for values, points, indices in zip(embedding.features, embedding.points, kept, strict=True):
        for name, where in (("feature", values), ("spatial", coordinates), ("joint", points)):
            distances[name].append(nearest_kept(where, where[indices]))
    measures = {}
    for name, rows in distances.items():
        measures[f"{name}_max"] = torch.stack([row.max() for row in rows])
        measures[f"{name}_mean"] = torch.stack([row.mean() for row in rows])
    return Coverage(**measures)


def information_bound(
    tokens: VisualTokens, selection: Selection, *, radius: Float[Tensor, " b"] | None = None
) -> InformationBound:
    """Bound what the kept tokens leave unknown, from the feature covering radius; see `InformationBound`.

    `radius` is that radius where it is known already: `coverage(tokens, selection).feature_max`.
    """
    _check(tokens, selection)
    _, n_tokens, width = tokens.features.shape
    if radius is None:
        values = JointSpace(spatial_weight=0.0).embed(tokens).features
        indices = selection.indices.to(values.device)
        radius = torch.stack([nearest_kept(row, row[kept]).max() for row, kept in zip(values, indices, strict=True)])
    reference = torch.full_like(radius, n_tokens * width / 2 * math.log(2 * math.pi * math.e / width))
    gain = -n_tokens * width * radius.log()
    return InformationBound(radius, reference - gain, reference, gain, radius >= 1.0)


def _check(tokens: VisualTokens, selection: Selection) -> None:
    if (selection.batch, selection.n_tokens) != (tokens.batch, tokens.n_tokens):
        raise SelectionError(
            f"the selection is over {selection.batch} rows of {selection.n_tokens} tokens, the tokens are "
            f"{tokens.batch} rows of {tokens.n_tokens}; measure a selection on the tokens from which it was made"
        )
    if selection.k == 0:
        raise SelectionError("the selection keeps no token, so that no token has a nearest kept one")

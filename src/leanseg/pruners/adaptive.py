"""As many tokens as the picture needs: the smallest prefix of another method's picks that covers closely enough."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.budget import check_ratio
from leanseg.core.distances import centred, squared
from leanseg.core.joint import EPSILON, JointSpace, grid_spread
from leanseg.errors import BudgetError, SelectionError, SpecError, TokensError, unknown_name
from leanseg.pruners.base import Pruner, Wrapper, picks
from leanseg.shapes import Float, Int, Tensor

MEASURES = ("absolute", "joint", "feature", "spatial")

# Picks whose distances are held at once.
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Adaptive(Wrapper):
    """Keep the fewest of another method's picks that cover the picture within a given radius: plain pictures keep less.

    With inner's order s_1, s_2, ... the count is the smallest t with max_i min_{j <= t} |p_i - p_{s_j}| <= `radius`,
    where p is, by `measure`: "joint" = e of inner's joint space (EVTP's default one where inner has none); "feature" =
    its v; "spatial" = (y, x) in [0, 1], or (t, y, x) in a joint row; "absolute" = sigma_f e, which for EVTP's default
    rule is [x / rms norm, (tau / sigma_c) c]. `keep_ratio` is the most that may stay, and what stays where the radius
    is not reached; as everywhere, keep_ratio 1 is the identity and looks at no radius. `calibrate` finds the radius for
    a mean budget.

    Only "absolute" has one unit in every picture and so gives plain pictures fewer tokens: v is scaled to a variance of
    1 in each picture, and lambda grows as contrast falls, so that the radii of `leanseg.metrics.coverage`, "joint"
    above all, ask for MORE tokens of a flat picture than of a textured one.

    `inner` must be nested, so that its prefixes are its answers. Nested. Rows whose counts differ are refused: prune
    them one by one. Cost: inner's at `keep_ratio`, and O(K N D).

    Ours: it answers how many tokens a picture needs, where the paper fixes one ratio for all; coverage radius is what
    its text ties to quality. Not claimed: that a common radius is better than a common ratio for any model.
    """

    name: ClassVar[str] = "adaptive"
    paper: ClassVar[str] = "ours; a budget by coverage radius"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    nested: ClassVar[bool] = True
    fixed_budget: ClassVar[bool] = False

    inner: Pruner
    radius: float
    measure: str = "absolute"

    def check_options(self) -> None:
        """Check the fields."""
        _check_nested(self.inner, "adaptive")
        if not isinstance(self.radius, float) or not 0.0 <= self.radius < math.inf:
            raise SpecError(
                f"radius is {self.radius!r}; it must be a number of at least 0, in units of measure={self.measure!r} "
                "(calibrate finds one)"
            )
        _check_measure(self.measure)

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Cut inner's picks where the radius is reached."""
        order = picks(self.inner, tokens, k)
        counts = [_reached(curve, self.radius) for curve in _curves(self.inner, tokens, order, self.measure)]
        if len(set(counts)) > 1:
            raise SelectionError(
                f"{self.spec()} keeps {counts} tokens of the rows of this batch; expected one count: prune row by row "
                "(tokens.row(i)), or a clip as one joint row (tokens.joined())"
            )
        return Selection.from_order(order[:, : counts[0]].contiguous(), tokens.n_tokens)


def calibrate(
    inner: Pruner,
    token_batches: Iterable[VisualTokens],
    mean_keep_ratio: float,
    *,
    keep_ratio: float | None = None,
    measure: str = "absolute",
) -> Adaptive:
    """Return `adaptive(inner)` with the radius at which it keeps `mean_keep_ratio` of the given tokens on average.

    Inner runs once per row at `keep_ratio`, the most that one row may keep (None = four times the mean, at most 0.95),
    and its radius after each pick is recorded. The mean kept share falls with the radius in steps; the radius returned
    is the smallest with at most the asked mean, put in the middle of its step, where rounding decides nothing.

    >>> from leanseg.core import Grid
    >>> from leanseg.pruners import EVTP
    >>> from leanseg.testing import sample_tokens
    >>> pictures = [sample_tokens(Grid(8, 8), seed=seed) for seed in range(4)]
    >>> made = calibrate(EVTP(keep_ratio=1), pictures, 0.25)
    >>> sum(made(tokens).k for tokens in pictures) / 4 / 64
    0.25
    """
    mean = check_ratio(mean_keep_ratio)
    most = min(4.0 * mean, 0.95) if keep_ratio is None else check_ratio(keep_ratio)
    if not mean <= most < 1.0:
        raise BudgetError(
            f"the mean kept share is to be {mean:g} and the largest {most:g}; the largest must not be below the mean, "
            "and must be below 1, at which everything stays whatever the radius"
        )
    if not isinstance(inner, Pruner):
        raise SpecError(f"inner is {inner!r}; it must be a pruner, as EVTP(keep_ratio=0.2)")
    _check_nested(inner, "calibrate")
    _check_measure(measure)
    bounded = Adaptive(keep_ratio=most, inner=inner, radius=0.0, measure=measure)
    recorded = [entry for tokens in token_batches for entry in _record(bounded, tokens)]
    if not recorded:
        raise TokensError("token_batches is empty; calibrate on the tokens of some pictures, one VisualTokens a batch")
    return Adaptive(keep_ratio=most, inner=inner, radius=_radius_for(recorded, mean), measure=measure)


def _record(made: Adaptive, tokens: VisualTokens) -> list[tuple[int, list[float]]]:
    """Return for each row the number of its tokens and the radius after each pick."""
    n_tokens, k = tokens.n_tokens, made.count(tokens.n_tokens)
    if k >= n_tokens:  # the identity, at any radius
        return [(n_tokens, [math.inf] * (n_tokens - 1) + [0.0])] * tokens.batch
    order = picks(made.inner, tokens, k)
    return [(n_tokens, curve) for curve in _curves(made.inner, tokens, order, made.measure)]


def _radius_for(recorded: list[tuple[int, list[float]]], mean: float) -> float:
    """Bisect over the recorded radii: the mean kept share changes at these only, and never rises."""

    def share(radius: float) -> float:
        return sum(_reached(curve, radius) / n_tokens for n_tokens, curve in recorded) / len(recorded)

    steps = sorted({radius for _, curve in recorded for radius in curve if radius < math.inf})
    # A hair, so that shares that are equal on paper are equal here.
    found = bisect.bisect_left(steps, True, key=lambda radius: share(radius) <= mean + 1e-9)
    steps.append(2.0 * steps[-1])
    return sum(steps[found : found + 2]) / len(steps[found : found + 2])


def _reached(curve: list[float], radius: float) -> int:
    """Return how many picks reach `radius`; all where none does. Curves never rise."""
    return min(bisect.bisect_left(curve, -radius, key=lambda value: -value) + 1, len(curve))


def _curves(inner: Pruner, tokens: VisualTokens, order: Int[Tensor, "b k"], measure: str) -> list[list[float]]:
    """Return for each row the covering radius after each pick."""
    if measure == "spatial":
        places = tokens.grid.coordinates(torch.float64)
        if tokens.grid.frames > 1:
            places = torch.cat([tokens.grid.times(torch.float64)[:, None], places], dim=1)
        points = places.expand(tokens.batch, -1, -1)
    else:
        found = getattr(inner, "space", None)
        space = found if isinstance(found, JointSpace) else JointSpace()
        embedding = space.embed(tokens)
        points = embedding.features if measure == "feature" else embedding.points
        if measure == "absolute":
            # Tokens that do not differ (v = 0, lambda = 1) have the place part of the formula alone.
            flat = embedding.feature_std < EPSILON
            scale = torch.where(flat, space.tau / max(grid_spread(tokens.grid), EPSILON), embedding.feature_std)
            points = points * scale[:, None, None]
    rows = zip(points, order.to(points.device), strict=True)
    return [prefix_radii(row, picked).tolist() for row, picked in rows]


def prefix_radii(points: Float[Tensor, "n e"], order: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return the covering radius of the first 1..K of `order`: the largest distance of any point to its nearest pick.

    O(K N D) time in float64, without the N x K distances at once.

    >>> prefix_radii(torch.tensor([[0.0], [1.0], [4.0]]), torch.tensor([0, 2])).tolist()
    [4.0, 1.0]
    """
    around, scale = centred(points)
    norms = around.square().sum(dim=1)
    nearest = torch.full_like(norms, torch.inf)
    radii = []
    for some in order.split(_CHUNK):
        distances = squared(around @ around[some].T, norms[:, None], norms[some])
        distances[:, 0] = torch.minimum(distances[:, 0], nearest)
        running = distances.cummin(dim=1).values
        nearest = running[:, -1]
        radii.append(running.amax(dim=0))
    return torch.cat(radii).sqrt() * scale


def _check_nested(inner: Pruner, what: str) -> None:
    if not inner.nested:
        raise SpecError(
            f"{what} cuts the picks of {inner.spec()}, which is not nested: its first picks are not its answer at a "
            "smaller budget; choose a nested method, as evtp or kcenter (leanseg pruners tells which are)"
        )


def _check_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise SpecError(unknown_name("measure", str(measure), MEASURES))

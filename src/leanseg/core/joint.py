"""The joint space of EVTP: what a token shows and where it lies, in one vector, so that one distance weighs both."""

from dataclasses import dataclass

import torch

from leanseg.core import kcenter
from leanseg.core.tokens import Grid, VisualTokens
from leanseg.errors import SpecError, unknown_name
from leanseg.shapes import Float, Tensor

EPSILON = 1e-6
LAMBDA_RULES = ("inverse_std", "match_std", "fixed")
NORMALIZATIONS = ("center_scale", "zscore", "l2")


@dataclass(frozen=True, eq=False)
class Embedding:
    """Tokens in the joint space, float64: `points` (B, N, D+2) = [v, lambda * (y, x)].

    On a grid of several frames (B, N, D+3) = [v, lambda * (y, x), lambda_t * t]. `spatial_weight` (B,) is lambda,
    `feature_std` (B,) is sigma_f, in [0, 1] for the default normalisation; `time_weight` (B,) is lambda_t, None where
    there is one frame only.
    """

    points: Float[Tensor, "b n e"]
    spatial_weight: Float[Tensor, " b"]
    feature_std: Float[Tensor, " b"]
    time_weight: Float[Tensor, " b"] | None = None

    @property
    def features(self) -> Float[Tensor, "b n d"]:
        """The v part of the points: normalised features without coordinates and time."""
        return self.points[..., : -2 if self.time_weight is None else -3]


@dataclass(frozen=True, eq=False)
class Sketch:
    """Tokens in the joint space up to one scale per row: enough to select by, and made without an embedding.

    Distances between rows of [`points`, `extra`] are those of the embedding times a factor; `points` (B, N, D) may be
    the features as they are, `extra` (B, N, C) float64 are weighted coordinates. `around` (B, N) are the distances to
    the mean of the row, on that scale.
    """

    points: Float[Tensor, "b n d"]
    extra: Float[Tensor, "b n c"]
    around: Float[Tensor, "b n"]


@dataclass(frozen=True, kw_only=True)
class JointSpace:
    """How features and coordinates are put together; the defaults are the reading that `EVTP` documents.

    `tau` weighs space against features. `spatial_weight` fixes lambda (0 = features only); None = by `lambda_rule`:
    `inverse_std` tau / (sigma_c sigma_f), `match_std` tau sigma(v) / sigma_c, `fixed` tau / sigma_c.
    `normalize`: `center_scale` v = (u - mean u) / sigma_f with u = x / rms norm; `zscore` each channel to mean 0 and
    variance 1/D; `l2` each token to length 1, then centred. Total variance of v is 1, except with `l2`.

    `time_weight` matters on grids of several frames only, where statistics are those of the whole window and t runs
    from 0 in its first frame to 1 in its last. It fixes lambda_t (0 = no time); None = time is weighed as space is: by
    `lambda_rule` with sigma_t, the spread of t, or by `spatial_weight` where that is given.
    """

    # Checked below, by errors that say what to do; run-time shape checks would speak first.
    __no_type_check__ = True

    tau: float = 1.0
    spatial_weight: float | None = None
    lambda_rule: str = "inverse_std"
    normalize: str = "center_scale"
    time_weight: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.tau) or not 0.0 < self.tau < float("inf"):
            raise SpecError(f"tau is {self.tau!r}; it must be a positive number (1 by default; 0.5 to 4 is usual)")
        for name in ("spatial_weight", "time_weight"):
            weight = getattr(self, name)
            if weight is not None and (not _is_number(weight) or not 0.0 <= weight < float("inf")):
                raise SpecError(f"{name} is {weight!r}; it must be a number of at least 0, or None for adaptive")
        if self.lambda_rule not in LAMBDA_RULES:
            raise SpecError(unknown_name("lambda_rule", str(self.lambda_rule), LAMBDA_RULES))
        if self.normalize not in NORMALIZATIONS:
            raise SpecError(unknown_name("normalize", str(self.normalize), NORMALIZATIONS))

    def embed(self, tokens: VisualTokens) -> Embedding:
        """Return the tokens in the joint space; each row as if it were alone."""
        features = tokens.features.detach()
        if features.device.type == "mps":  # has no float64
            features = features.cpu()
        places = _places(tokens.grid, features.device)
        rows = [self._embed_row(row, places) for row in features]
        points, weights, deviations = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return Embedding(points, weights[:, 0], deviations, weights[:, 1] if len(places) > 1 else None)

    def sketch(self, tokens: VisualTokens) -> Sketch:
        """Return the tokens as selection needs them.

        With `center_scale`, v = (x - mean x) / s, where s is the spread of x: [x, s lambda c] is the joint space, moved
        and s times as large. One pass over the features tells s, sigma_f and the distances to the mean.
        """
        features = tokens.features.detach()
        # Squares of all but float64 fit into float64. On other devices nothing is read back to decide.
        if self.normalize == "center_scale" and features.device.type == "cpu" and features.dtype != torch.float64:
            places = _places(tokens.grid, features.device)
            rows = [self._sketch_row(*found, places) for found in zip(*kcenter.around_mean(features), strict=True)]
            columns, around, deviation = (torch.stack(parts) for parts in zip(*rows, strict=True))
            if bool((deviation >= EPSILON).all()):
                return Sketch(features, columns, around)
        points = self.embed(tokens).points
        return Sketch(points, points[..., :0].to(torch.float64), kcenter.around_mean(points)[1])

    def _sketch_row(
        self, mean: Float[Tensor, " d"], around: Float[Tensor, " n"], places: list[Tensor]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"], Float[Tensor, ""]]:
        spread = around.square().mean().sqrt()
        size = torch.hypot(spread, mean.norm())
        deviation = spread / torch.where(size > 0.0, size, 1.0)
        weighed, _ = self._weighed(places, torch.ones_like(spread), deviation)
        columns = torch.cat(weighed, dim=1) * spread
        beside = (columns - columns.mean(dim=0)).square().sum(dim=1)
        return columns, (around.square() + beside).sqrt(), deviation

    def _embed_row(
        self, features: Float[Tensor, "n d"], places: list[Tensor]
    ) -> tuple[Float[Tensor, "n e"], Float[Tensor, " weights"], Float[Tensor, ""]]:
        values, deviation = self._normalized(features)
        weighed, weights = self._weighed(places, _spread(values), deviation)
        return torch.cat([values, *weighed], dim=1), weights, deviation

    def _weighed(
        self, places: list[Tensor], spread: Float[Tensor, ""], deviation: Float[Tensor, ""]
    ) -> tuple[list[Tensor], Float[Tensor, " weights"]]:
        """Return the places times their lambda, and the lambdas; `spread` is that of the v, `deviation` sigma_f."""
        fixed = (self.spatial_weight, self.spatial_weight if self.time_weight is None else self.time_weight)
        weights = [
            self._weight(place, spread, deviation) if weight is None else deviation.new_full((), weight)
            for place, weight in zip(places, fixed, strict=False)
        ]
        return [weight * place for weight, place in zip(weights, places, strict=True)], torch.stack(weights)

    def _weight(
        self, place: Float[Tensor, "n c"], spread: Float[Tensor, ""], deviation: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """Return the adaptive lambda of some coordinates: 1 where the tokens do not differ."""
        sigma_c = _spread(place).clamp_min(EPSILON)
        if self.lambda_rule == "inverse_std":
            weight = self.tau / (sigma_c * deviation.clamp_min(EPSILON))
        elif self.lambda_rule == "match_std":
            weight = self.tau * spread / sigma_c
        else:
            weight = self.tau / sigma_c
        return torch.where(deviation < EPSILON, 1.0, weight)

    def _normalized(self, features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Return v, zero where the tokens do not differ, and sigma_f: how far they differ, relative to their size."""
        n_tokens, width = features.shape
        # Scaled to a largest entry of 1 first, so that squares neither overflow nor vanish.
        peak = features.abs().amax().to(torch.float64)
        unit = features.to(torch.float64) / torch.where(peak > 0.0, peak, 1.0)
        if self.normalize == "l2":
            unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
            size = torch.ones_like(peak)
        else:
            rms = unit.norm() / n_tokens**0.5
            size = torch.where(rms > 0.0, rms, 1.0)
        around = unit - unit.mean(dim=0)
        spread = around.norm() / n_tokens**0.5
        deviation = spread / size
        flat = deviation < EPSILON
        if self.normalize == "l2":
            return around * torch.where(flat, 0.0, 1.0), deviation
        if self.normalize == "center_scale":
            return around * torch.where(flat, 0.0, 1.0 / spread), deviation
        channel = around.norm(dim=0) / n_tokens**0.5
        # A channel that does not vary says nothing, rather than its rounding noise.
        still = flat | (channel < EPSILON * size / width**0.5)
        return around * torch.where(still, 0.0, 1.0 / (channel * width**0.5)), deviation


def grid_spread(grid: Grid) -> float:
    """Return sigma_c, the root mean square distance of a grid's coordinates from their mean: 0.42366 for 27 x 27."""
    return float(_spread(grid.coordinates(torch.float64)))


def _places(grid: Grid, device: torch.device) -> list[Tensor]:
    """Return the coordinates (N, 2), and on a grid of several frames the times (N, 1)."""
    places = [grid.coordinates(torch.float64, device)]
    return places if grid.frames == 1 else [*places, grid.times(torch.float64, device)[:, None]]


def _spread(values: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    return (values - values.mean(dim=0)).square().sum(dim=1).mean().sqrt()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

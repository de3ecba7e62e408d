"""The first pick of greedy k-center: a choice that changes the set, hardly the radius, and so must be stated."""

import torch

from leanseg.core import VisualTokens, kcenter
from leanseg.errors import SpecError, unknown_name
from leanseg.pruners._chance import row_generator
from leanseg.shapes import Float, Int, Tensor

STARTS = ("mean", "first", "far", "random")


def check_start(start: object) -> None:
    """Raise `SpecError` unless `start` is one of `STARTS` or an index."""
    if isinstance(start, str):
        if start not in STARTS:
            raise SpecError(unknown_name("start", start, STARTS) + ", or the index of a token")
    elif isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise SpecError(f"start is {start!r}; it must be one of {', '.join(STARTS)}, or the index of a token")


def first_pick(
    start: int | str,
    seed: int,
    tokens: VisualTokens,
    points: Float[Tensor, "b n e"],
    around: Float[Tensor, "b n"] | None = None,
) -> Int[Tensor, " b"]:
    """Return the first token of each row; `around` are the points' distances to their mean, where they are known.

    `mean`: nearest to the mean of the points; `far`: farthest from it; `first`: token 0; `random`: drawn from `seed`
    and the row's content; a number: that token. The lowest index wins ties.
    """
    if start == "first":
        start = 0
    if isinstance(start, int):
        if start >= tokens.n_tokens:
            raise SpecError(f"start is token {start}; these grids have tokens 0..{tokens.n_tokens - 1}")
        return torch.full((tokens.batch,), start, device=points.device)
    if start == "random":
        draws = [torch.randint(tokens.n_tokens, (1,), generator=row_generator(seed, row)) for row in tokens.features]
        return torch.cat(draws).to(points.device)
    distance = kcenter.around_mean(points)[1] if around is None else around
    # A hair of slack, so that tokens which tie on paper (the four around a grid's centre) tie here too.
    slack = 1e-12 * distance.amax(dim=1, keepdim=True)
    if start == "mean":
        best = distance <= distance.amin(dim=1, keepdim=True) + slack
    else:
        best = distance >= distance.amax(dim=1, keepdim=True) - slack
    return best.to(torch.uint8).argmax(dim=1).to(points.device)

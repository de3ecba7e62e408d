"""The first pick of greedy k-center: a choice that changes the set, hardly the radius, and so must be stated."""

import torch

from leanseg.core import VisualTokens
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


def first_pick(start: int | str, seed: int, tokens: VisualTokens, points: Float[Tensor, "b n e"]) -> Int[Tensor, " b"]:
    """Return the first token of each row.

    `mean`: nearest to the mean of the points; `far`: farthest from it; `first`: token 0; `random`: drawn from `seed`
    and the row's content; a number: that token. The lowest index wins ties.
    """
    if start == "first":
        start = 0
    if isinstance(start, int):
        if start >= tokens.n_tokens:
            raise SpecError(f"start is token {start}; these grids have tokens 0..{tokens.n_tokens - 1}")
        return torch.full((tokens.batch,), start, device=points.device)
    picks = []
    for row, features in zip(points, tokens.features, strict=True):
        if start == "random":
            draw = torch.randint(tokens.n_tokens, (1,), generator=row_generator(seed, features))
            picks.append(draw[0].to(points.device))
            continue
        wide = row.to(torch.float64)
        distance = (wide - wide.mean(dim=0)).norm(dim=1)
        # A hair of slack, so that tokens which tie on paper (the four around a grid's centre) tie here too.
        slack = 1e-12 * distance.max()
        best = distance <= distance.min() + slack if start == "mean" else distance >= distance.max() - slack
        picks.append(best.to(torch.uint8).argmax())
    return torch.stack(picks)

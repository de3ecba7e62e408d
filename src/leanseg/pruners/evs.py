"""EVS: of a clip, the tokens that changed since the neighbouring frame."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens, kcenter
from leanseg.core.similarity import unit
from leanseg.pruners._greedy import NEGLIGIBLE
from leanseg.pruners._start import first_pick
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class EVS(Pruner):
    """Keep the whole key frame of a clip, then the tokens of other frames that differ most from what was there before.

    One joint row (1, T*N), `VisualTokens.key_frame` the frame that is segmented. A token's dissimilarity is
    1 - cos(x_t, x_t') with the token of the same cell in the neighbouring frame t' that is nearer to the key frame:
    the one before for frames behind the key frame, the one after for frames ahead of it. The key frame's tokens come
    first whatever they show; then all others by falling dissimilarity. A budget below one frame takes of the key
    frame only, farthest-first on its grid from the centre outwards, so that any count covers it. Nested.

    float64 inside; dissimilarities below 1e-12 are equal to 0; ties go to the lowest index: the earlier frame, then
    raster order. A token of zeros differs by 1 from everything, also from zeros. Cost O(T N D + min(K, N) N).

    Differs from the reference (vLLM): there the first frame is the anchor, every frame compares with the one before,
    and the first frame stays whole whatever the budget; here the key frame is the anchor, because a frame that is
    segmented must not lose tokens for looking like another one, and the count is exact. The paper's text also describes
    a comparison of pixels, which is not here.
    """

    name: ClassVar[str] = "evs"
    paper: ClassVar[str] = "arXiv 2510.14624 (EVS)"
    licence: ClassVar[str] = "Apache-2.0 (in vLLM)"
    nested: ClassVar[bool] = True
    scope: ClassVar[str] = "clip"

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Take the key frame's tokens, then the most dissimilar ones."""
        grid = tokens.grid
        n_frame = grid.frame.n_tokens
        first = tokens.key_frame * n_frame
        anchor = first + cover_outwards(grid.frame, min(k, n_frame)).to(tokens.features.device)
        orders = []
        for row in tokens.features:
            change = dissimilarity(row, grid, tokens.key_frame)
            change[first : first + n_frame] = -torch.inf  # they have come first already
            ranked = change.argsort(descending=True, stable=True)
            orders.append(torch.cat([anchor, ranked[: k - len(anchor)]]))
        return Selection.from_order(torch.stack(orders), tokens.n_tokens)


def cover_outwards(grid: Grid, k: int) -> Int[Tensor, " k"]:
    """Return `k` tokens of one frame's grid, the centre first, then each as far as possible from those before.

    >>> cover_outwards(Grid(3, 3), 5).tolist()
    [4, 0, 2, 6, 8]
    """
    places = grid.coordinates(torch.float64)[None]
    blank = VisualTokens(features=places, grid=grid)
    order, _ = kcenter.select(places, k, first_pick("mean", 0, blank, places))
    return order[0]


def dissimilarity(features: Float[Tensor, "n d"], grid: Grid, key_frame: int) -> Float[Tensor, " n"]:
    """Return 1 - cosine of each token and that of its cell in the neighbouring frame nearer to `key_frame`; there 0."""
    frames = unit(features).reshape(grid.frames, -1, features.shape[1])
    between = 1.0 - (frames[1:] * frames[:-1]).sum(dim=2)
    nothing = torch.zeros_like(frames[:1, :, 0])
    change = torch.cat([between[:key_frame], nothing, between[key_frame:]])
    return change.masked_fill(change <= NEGLIGIBLE, 0.0).flatten()

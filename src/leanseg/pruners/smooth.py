"""Temporal smoothing: what was kept in a frame is preferred in the next one, where its content has moved to."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.errors import SpecError
from leanseg.pruners.base import Pruner, Wrapper, picks
from leanseg.shapes import Float, Int, Tensor

# Cosines in float32 closer than this are a tie: then what moved least is the match.
TIE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Smooth(Wrapper):
    """Prefer in each frame what was kept in the one before, so that the kept tokens follow the scene and do not jump.

    Frames of a joint row (1, T*N) in time order. `inner` ranks the N tokens of each frame by itself; a kept token of
    the frame before is looked for in this one, at most `search` cells away in y and x: the place whose features have
    the largest cosine (block matching; ties: the nearest place, then the lowest index). Places so found are preferred:
    priority = rank - bonus N, smallest first, the lowest index among equals. The budget K of the clip is shared evenly:
    counts differ by one at most, and the key frame and those near it have more.

    `bonus` 0 is the frame-wise inner; at 1 no new token comes in before all places found are taken, so that what the
    first frame did not show may never be kept; 0.1 lets a place found pass tokens up to N / 10 ranks better. `search` 0
    = what stays in its cell. `inner` must be nested, as its order is the ranking, and for single frames. Not nested:
    another count carries other tokens on. Cost: inner's order of all N tokens, per frame, and O(K (2 search + 1)^2 D).

    Ours: it answers the paper's open point that frames are pruned without regard to each other. Not claimed: that
    steadier tokens give better masks; coverage of each frame is inner's or worse.
    """

    name: ClassVar[str] = "smooth"
    paper: ClassVar[str] = "ours; a frame-wise ranking with a bonus along block-matched motion"
    licence: ClassVar[str] = "not applicable"
    extension: ClassVar[bool] = True
    scope: ClassVar[str] = "clip"

    inner: Pruner
    bonus: float = 0.1
    search: int = 1

    def check_options(self) -> None:
        """Check the fields."""
        if not self.inner.nested or not self.inner.fixed_budget or self.inner.scope != "frame":
            raise SpecError(
                f"smooth needs a ranking of each frame, and {self.inner.spec()} is not nested, has no fixed budget or "
                "takes whole clips; choose a nested method for single frames, as evtp or kcenter (leanseg pruners "
                "tells which are)"
            )
        if not isinstance(self.bonus, float) or not 0.0 <= self.bonus <= 1.0:
            raise SpecError(f"bonus is {self.bonus!r}; it must lie in 0..1: a part of the ranking (0 = frame by frame)")
        if isinstance(self.search, bool) or not isinstance(self.search, int) or self.search < 0:
            raise SpecError(f"search is {self.search!r}; it must be a whole number of cells, at least 0")

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Select frame by frame, in time order."""
        frames, n_frame = tokens.grid.frames, tokens.grid.frame.n_tokens
        split = frames_of(tokens)
        rank = _ranks(self.inner, split)
        unit = torch.nn.functional.normalize(split.features.detach().float(), dim=2, eps=1e-12)
        kept: list[Tensor] = []
        for frame, count in enumerate(shares(k, frames, tokens.key_frame)):
            priority = rank[frame].to(torch.float64)
            if frame and self.bonus:
                carried = followed(unit[frame - 1], unit[frame], kept[-1], split.grid, self.search)
                priority[carried.unique()] -= self.bonus * n_frame
            kept.append(priority.argsort(stable=True)[:count])
        indices = torch.cat([frame * n_frame + cells.sort().values for frame, cells in enumerate(kept)])
        return Selection(indices[None], tokens.n_tokens)


def frames_of(tokens: VisualTokens) -> VisualTokens:
    """Return the frames of one joint row as a batch: the reverse of `VisualTokens.joined`, but for the guidance."""
    frames, grid = tokens.grid.frames, tokens.grid.frame

    def split(cue: Tensor | None) -> Tensor | None:
        return None if cue is None else cue[0].unflatten(0, (frames, grid.n_tokens))

    return VisualTokens(
        features=tokens.features[0].unflatten(0, (frames, grid.n_tokens)),
        grid=grid,
        attention=split(tokens.attention),
        keys=split(tokens.keys),
        guidance=None if tokens.guidance is None else tokens.guidance.expand(frames, -1),
    )


def shares(count: int, frames: int, key_frame: int = 0) -> list[int]:
    """Share `count` tokens among frames: counts differ by one at most, and those near the key frame have more.

    >>> shares(6, 4, key_frame=2)
    [1, 2, 2, 1]
    """
    nearest = sorted(range(frames), key=lambda frame: (abs(frame - key_frame), frame))
    base, more = divmod(count, frames)
    return [base + (frame in nearest[:more]) for frame in range(frames)]


def followed(
    before: Float[Tensor, "n d"], after: Float[Tensor, "n d"], cells: Int[Tensor, " k"], grid: Grid, search: int
) -> Int[Tensor, " k"]:
    """Return where the content of some cells has moved to, by the largest cosine; both frames' features of length 1."""
    reach = range(-search, search + 1)
    # Nearest places first, so that the first of equals is the nearest; then in order of their index.
    steps = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda step: (step[0] ** 2 + step[1] ** 2, step))
    row, column = cells // grid.width, cells % grid.width
    places, cosines = [], []
    for dy, dx in steps:
        inside = (row + dy >= 0) & (row + dy < grid.height) & (column + dx >= 0) & (column + dx < grid.width)
        place = torch.where(inside, cells + dy * grid.width + dx, cells)
        cosine = (before[cells] * after[place]).sum(dim=1)
        places.append(place)
        cosines.append(torch.where(inside, cosine, -torch.inf))
    cosine = torch.stack(cosines)
    first = (cosine >= cosine.amax(dim=0) - TIE).to(torch.uint8).argmax(dim=0)
    return torch.stack(places).gather(0, first[None])[0]


def _ranks(inner: Pruner, frames: VisualTokens) -> Int[Tensor, "t n"]:
    """Return the place of each token in inner's order of its frame; inner orders all but one, which is last."""
    n_tokens = frames.n_tokens
    if n_tokens == 1:
        return torch.zeros((frames.batch, 1), dtype=torch.int64, device=frames.features.device)
    order = picks(inner, frames, n_tokens - 1)
    last = torch.full((frames.batch, n_tokens), n_tokens - 1, device=order.device)
    return last.scatter(1, order, torch.arange(n_tokens - 1, device=order.device).expand(frames.batch, -1))

"""What the wrappers share: the picks of one method, filled up with those of another."""

import dataclasses
from collections.abc import Sequence

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.indexing import widened
from leanseg.errors import SelectionError, SpecError
from leanseg.pruners.base import Pruner
from leanseg.shapes import Int, Tensor


def check_share(name: str, share: object) -> None:
    """Raise `SpecError` unless `share` lies in 0..1."""
    if not isinstance(share, float) or not 0.0 <= share <= 1.0:
        raise SpecError(f"{name} is {share!r}; it must lie in 0..1: a part of the kept tokens")


def chosen(inner: Pruner, tokens: VisualTokens, k: int) -> Selection:
    """Return what `inner` selects at `k` tokens: everything where there are no more than that."""
    if k >= tokens.n_tokens:
        return Selection.identity(tokens.batch, tokens.n_tokens, tokens.features.device)
    selection = inner.select(tokens, k)
    if selection.k > k:
        raise SelectionError(
            f"{inner.spec()} keeps {selection.k} tokens where {k} are asked for; inside another method it takes one "
            "that keeps any count"
        )
    return selection


def ranked(selection: Selection) -> Int[Tensor, "b k"]:
    """Return the kept tokens by rank: in the order of picking, or so that every prefix is spread over the raster."""
    if selection.order is not None:
        return selection.order
    # Counting with the bits reversed visits halves, quarters, eighths.
    bits = (selection.k - 1).bit_length()
    spread = sorted(range(selection.k), key=lambda place: f"{place:0{bits}b}"[::-1])
    return selection.indices[:, spread]


def filled(tokens: VisualTokens, first: Selection, second: Selection, k: int) -> Selection:
    """Return all of `first`, and as many of the best ranked others of `second` as there is room for among `k`.

    A token has the merged feature, and owns what it owns, by `first` if that keeps it, else by `second`, else as it
    is. What belongs to a slot of `second` for which there is no room is dropped.
    """
    rows = []
    for mine, others in zip(ranked(first), ranked(second), strict=True):
        taken = torch.zeros(tokens.n_tokens, dtype=torch.bool, device=mine.device).index_fill_(0, mine, True)
        rows.append(torch.cat([mine, others[~taken[others]][: k - len(mine)]]))
    if len({len(row) for row in rows}) > 1:
        raise SelectionError(
            f"the rows keep {[len(row) for row in rows]} tokens, as a method inside has no fixed budget; prune row by "
            "row"
        )
    return _carried(tokens, Selection.from_order(torch.stack(rows), tokens.n_tokens), (first, second))


def _carried(tokens: VisualTokens, kept: Selection, sources: Sequence[Selection]) -> Selection:
    """Return `kept` with merged features and owners taken over from the `sources`; the first of them prevails."""
    features = kept.gather(tokens.features.detach()) if any(each.features is not None for each in sources) else None
    owner = torch.full_like(kept.indices[:, :1], -1).repeat(1, kept.n_tokens)
    slots = torch.arange(kept.k, device=kept.device).repeat(kept.batch, 1)
    slot_of = owner.scatter(1, kept.indices, slots)
    for source in reversed(sources):
        if source.features is not None and features is not None:
            positions = torch.arange(source.k, device=kept.device).repeat(kept.batch, 1)
            theirs = torch.full_like(owner, -1).scatter(1, source.indices, positions).gather(1, kept.indices)
            carried = source.features.gather(1, widened(theirs.clamp_min(0), source.features))
            features = torch.where((theirs >= 0)[..., None], carried, features)
        if source.owner is not None:
            # Token -> slot there -> that slot's token -> its slot here, if it has one.
            here = slot_of.gather(1, source.indices).gather(1, source.owner.clamp_min(0))
            owner = torch.where((source.owner >= 0) & (here >= 0), here, owner)
    if all(source.owner is None for source in sources):
        return dataclasses.replace(kept, features=features)
    return dataclasses.replace(kept, features=features, owner=owner.scatter(1, kept.indices, slots))

"""Who stands for a dropped token: the kept token nearest to it in EVTP's joint space."""

import dataclasses

import torch

from leanseg.core.distances import nearest_kept_index
from leanseg.core.joint import JointSpace
from leanseg.core.selection import Selection
from leanseg.core.tokens import VisualTokens
from leanseg.errors import SelectionError


def with_owners(tokens: VisualTokens, selection: Selection, space: JointSpace | None = None) -> Selection:
    """Return `selection` with an `owner` for every token: the nearest kept token of its row in `space`.

    Nearest in features and place together (EVTP's joint space by default), the lowest slot among equals; a kept token
    owns itself. A selection that has owners already, or keeps everything, comes back unchanged. O(N K D), float64.
    """
    if (selection.batch, selection.n_tokens) != (tokens.batch, tokens.n_tokens):
        raise SelectionError(
            f"the selection is over {selection.batch} rows of {selection.n_tokens} tokens, the tokens are "
            f"{tokens.batch} rows of {tokens.n_tokens}; find owners among the tokens from which it was made"
        )
    if selection.k == 0:
        raise SelectionError("the selection keeps no token, so that no token can be owned")
    if selection.owner is not None or selection.k == selection.n_tokens:
        return selection
    embedding = (space or JointSpace()).embed(tokens)
    indices = selection.indices.to(embedding.points.device)
    rows = [nearest_kept_index(points, kept) for points, kept in zip(embedding.points, indices, strict=True)]
    return dataclasses.replace(selection, owner=torch.stack(rows).to(selection.device))

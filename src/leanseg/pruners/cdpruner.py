"""CDPruner: the tokens that span the largest volume, by greedy search, as relevant as guidance asks for."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg.core import Selection, VisualTokens
from leanseg.core.similarity import precise, unit
from leanseg.errors import SpecError, TokensError
from leanseg.pruners._cues import cue
from leanseg.pruners._greedy import NEGLIGIBLE, first_of_best
from leanseg.pruners.base import Pruner
from leanseg.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class CDPruner(Pruner):
    """Keep tokens that differ from one another: the likeliest set of a determinantal point process, found greedily.

    The kernel is L = diag(r) S diag(r), with S the cosine similarity of the tokens' features; each pick is the token
    that makes log det L of the kept set the largest. By an incremental Cholesky factorisation that token is the one
    whose residual variance d_i = L_ii - sum_t c_ti^2 is the largest, and one pick costs one row of the factor:
    O(N^2 D + N K^2) in all.

    `conditioned=False`: r = 1, no text is needed; all tokens have length 1, so that the first pick is token 0.
    `conditioned=True`: r is the NEGATIVE cosine similarity of features and `VisualTokens.guidance`, brought to 0..1
    over the row's tokens (r = 1 where they do not differ): as in the paper's code, tokens unlike the text count as
    relevant to it. Guidance must be as wide as the features.

    float64 inside; residuals that differ by less than 1e-12 of the largest are a tie and go to the lowest index, also
    when none is left (K above the rank of L).

    Differs from the paper: its relevance is the mean over a text's embeddings from the tower's own text encoder; here
    it is one vector, whatever the model gives as guidance. Its kernel is of projected features; here of the features at
    the site where tokens are pruned.
    """

    name: ClassVar[str] = "cdpruner"
    paper: ClassVar[str] = "arXiv 2506.10967 (CDPruner, NeurIPS 2025)"
    licence: ClassVar[str] = "no licence file found, code not opened"
    nested: ClassVar[bool] = True

    conditioned: bool = False

    def check(self) -> None:
        """Check the option; relevance needs guidance."""
        if not isinstance(self.conditioned, bool):
            raise SpecError(f"conditioned is {self.conditioned!r}; it must be True (needs guidance) or False")
        self._declare(cues=("guidance",) if self.conditioned else ())

    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Search greedily in each row."""
        rows = []
        for index, features in enumerate(tokens.features):
            directions = unit(features)
            if self.conditioned:
                directions = directions * relevance(directions, self._guidance(tokens)[index])[:, None]
            rows.append(largest_volume(directions @ directions.T, k))
        return Selection.from_order(torch.stack(rows), tokens.n_tokens)

    def _guidance(self, tokens: VisualTokens) -> Float[Tensor, "b d"]:
        guidance = cue(tokens, "guidance")
        width, given = tokens.features.shape[2], guidance.shape[1]
        if width != given:
            raise TokensError(
                f"{self.spec()} compares features {width} wide with guidance {given} wide; give guidance in the space "
                "of the features (prune behind the projector if it lives there), or choose conditioned=False"
            )
        return guidance


def relevance(directions: Float[Tensor, "n d"], guidance: Float[Tensor, " g"]) -> Float[Tensor, " n"]:
    """Return the negative cosine of unit rows and `guidance`, brought to 0..1; 1 where they do not differ."""
    unlike = -(directions @ unit(guidance[None])[0])
    low, high = unlike.amin(), unlike.amax()
    spread = high - low
    flat = spread <= NEGLIGIBLE
    return torch.where(flat, 1.0, (unlike - low) / torch.where(flat, 1.0, spread))


def largest_volume(kernel: Float[Tensor, "n n"], k: int) -> Int[Tensor, " k"]:
    """Return `k` indices, each the one that makes the determinant of the picked rows and columns the largest.

    >>> largest_volume(torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]]), 2).tolist()
    [0, 2]
    """
    residual = precise(kernel.diagonal()).clone()
    slack = NEGLIGIBLE * residual.amax()
    factor = residual.new_zeros((k, len(residual)))
    taken = torch.zeros(len(residual), dtype=torch.bool, device=kernel.device)
    picks = []
    for step in range(k):
        pick = first_of_best(residual.masked_fill(taken, -torch.inf), slack)
        picks.append(pick)
        taken.index_fill_(0, pick, True)
        left = residual.index_select(0, pick)
        known = factor[:step]
        row = kernel.index_select(0, pick)[0] - known.index_select(1, pick)[:, 0] @ known
        # A pick without residual adds no volume; its row would be rounding noise divided by its own root.
        row = row * torch.where(left > slack, left.clamp_min(torch.finfo(left.dtype).tiny).rsqrt(), 0.0)
        factor[step] = row
        residual = residual - row.square()
        residual.masked_fill_(residual <= slack, 0.0)
    return torch.cat(picks)

"""Bipartite soft matching: pairs of similar tokens become one (ToMe, arXiv 2210.09461, section 3 and appendix D)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from leanseg.core.indexing import widened
from leanseg.core.selection import Selection
from leanseg.core.similarity import cosines, precise, unit
from leanseg.errors import BudgetError, SelectionError, unknown_name
from leanseg.shapes import Float, Int, Shaped, Tensor

MODES = ("mean", "sum", "amax")


@dataclass(frozen=True, eq=False)
class Match:
    """Which of N tokens merge into which, and how the M that are left are arranged; made by `match`.

    `source` (B, R): tokens that are merged away, the most similar first; `target` (B, R): what each is merged into.
    `position` (B, M): the token that each slot of the output stems from. `slot` (B, N): the slot each token goes to.
    """

    source: Int[Tensor, "b r"]
    target: Int[Tensor, "b r"]
    position: Int[Tensor, "b m"]
    slot: Int[Tensor, "b n"]


def match(
    metric: Float[Tensor, "b n d"], r: int, *, class_token: bool = False, distillation_token: bool = False
) -> Match:
    """Pair off `r` tokens, at most half of those that are not protected.

    Tokens alternate between a set A (places 0, 2, ..) and a set B (1, 3, ..); each of A looks for the most similar of B
    by cosine, and the `r` best pairs of all merge into their token of B. The output holds the rest of A, in order of
    decreasing similarity, then B. With a class token (token 0) the rest of A keeps its order; with a distillation token
    (token 1) the first of each set come first. Neither is merged nor merged into. r = 0 leaves everything in its place.

    float64 inside, ties to the lowest index, each row as if it were alone. Cost O(N^2 D).

    Differs from the reference: a row of zeros has similarity 0 to every other, where the reference's is NaN; sorts are
    stable; equal similarities are ties whatever the rounding of the product; of three tokens none is merged into the
    distillation token.
    """
    batch, n_tokens, _ = metric.shape
    reducible = (n_tokens - int(class_token) - int(distillation_token)) // 2
    if n_tokens // 2 <= int(distillation_token):  # B holds nothing that may be merged into
        reducible = 0
    removed = min(r, reducible)
    if removed <= 0:
        every = torch.arange(n_tokens, device=metric.device).repeat(batch, 1)
        return Match(every[:, :0], every[:, :0], every, every)
    best, nearest = _nearest_partners(metric, class_token, distillation_token)
    ranked = best.argsort(dim=1, descending=True, stable=True)
    source, rest = ranked[:, :removed], ranked[:, removed:]
    if class_token:
        rest = rest.sort(dim=1).values
    target = nearest.gather(1, source)
    set_b = torch.arange(1, n_tokens, 2, device=metric.device).repeat(batch, 1)
    rest, source, target = 2 * rest, 2 * source, 2 * target + 1
    parts = [rest, set_b]
    if distillation_token:
        parts = [rest[:, :1], set_b[:, :1], rest[:, 1:], set_b[:, 1:]]
    position = torch.cat(parts, dim=1)
    slots = torch.arange(position.shape[1], device=metric.device).repeat(batch, 1)
    slot = torch.zeros((batch, n_tokens), dtype=torch.int64, device=metric.device).scatter_(1, position, slots)
    return Match(source, target, position, slot.scatter(1, source, slot.gather(1, target)))


def _nearest_partners(
    metric: Float[Tensor, "b n d"], class_token: bool, distillation_token: bool
) -> tuple[Float[Tensor, "b a"], Int[Tensor, "b a"]]:
    """Return for each token of A its best similarity to one of B, and which one."""
    best, nearest = [], []
    # Row by row, so that a row's numbers cannot depend on the batch it stands in.
    for row in metric:
        directions = unit(row)
        scores = cosines(directions[0::2], directions[1::2])
        if class_token:
            scores[0, :] = -torch.inf
        if distillation_token:
            scores[:, 0] = -torch.inf
        nearest.append(scores.argmax(dim=1))
        best.append(scores.amax(dim=1))
    return torch.stack(best), torch.stack(nearest)


def merge(values: Float[Tensor, "b n *rest"], pairs: Match, mode: str = "mean") -> Float[Tensor, "b m *rest"]:
    """Bring `values` (B, N, ...) to the slots: each is the mean, sum or largest of what was merged into it.

    Summed in float64, whatever the dtype, and returned in the dtype of the values.
    """
    if mode not in MODES:
        raise SelectionError(unknown_name("mode of merging", mode, MODES))
    batch, n_slots = pairs.position.shape
    if n_slots == pairs.slot.shape[1]:
        return values
    wide = precise(values)
    if mode == "amax":
        blank = wide.new_zeros((batch, n_slots, *values.shape[2:]))
        merged = blank.scatter_reduce(1, widened(pairs.slot, wide), wide, mode, include_self=False)
        return merged.to(values.dtype)
    merged = torch.stack([_summed(*row) for row in zip(wide, pairs.position, pairs.source, pairs.slot, strict=True)])
    if mode == "mean":
        ones = torch.ones_like(pairs.slot)
        counts = torch.zeros_like(pairs.position).scatter_add_(1, pairs.slot, ones)
        merged = merged / counts.reshape(batch, n_slots, *(1,) * (values.ndim - 2))
    return merged.to(values.dtype)


def _summed(
    values: Float[Tensor, " n *rest"], position: Int[Tensor, " m"], source: Int[Tensor, " r"], slot: Int[Tensor, " n"]
) -> Float[Tensor, " m *rest"]:
    """Return the sums of one row: only what is merged away is added, whole tokens at a time."""
    return values[position].index_add(0, slot[source], values[source])


def merge_average(
    values: Float[Tensor, "b n d"], sizes: Float[Tensor, "b n"], pairs: Match
) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m"]]:
    """Average `values` by slot, each weighted by how many tokens it stands for already; return them and the new sizes.

    x' = sum(size x) / sum(size), so that the average over all tokens does not change, however often one merges.
    """
    if pairs.position.shape[1] == values.shape[1]:
        return values, sizes
    merged_sizes = merge(precise(sizes), pairs, "sum")
    averages = merge(precise(values) * precise(sizes)[..., None], pairs, "sum") / merged_sizes[..., None]
    return averages.to(values.dtype), merged_sizes.to(sizes.dtype)


def unmerge(merged: Shaped[Tensor, "b m *rest"], pairs: Match) -> Shaped[Tensor, "b n *rest"]:
    """Give every token the value of the slot it went to.

    Differs from the reference: also with a distillation token, whose place in the merged order its unmerge forgets.
    """
    return merged.gather(1, widened(pairs.slot, merged))


@dataclass(frozen=True, eq=False)
class Merged:
    """Tokens after any number of merges, in the order in which the matching leaves them.

    `features` (B, M, D); `sizes` (B, M) float32: how many of the N tokens each stands for; `position` (B, M): the
    original token whose place it has, the target of its merges; `owner` (B, N): the slot each original token went to.
    """

    features: Float[Tensor, "b m d"]
    sizes: Float[Tensor, "b m"]
    position: Int[Tensor, "b m"]
    owner: Int[Tensor, "b n"]

    @classmethod
    def start(cls, features: Float[Tensor, "b n d"]) -> "Merged":
        """Return tokens of which none is merged."""
        batch, n_tokens, _ = features.shape
        every = torch.arange(n_tokens, device=features.device).repeat(batch, 1)
        return cls(features, torch.ones((batch, n_tokens), device=features.device), every, every)

    def then(self, pairs: Match) -> "Merged":
        """Merge the pairs found among these tokens; features are averaged by size."""
        features, sizes = merge_average(self.features, self.sizes, pairs)
        position = self.position.gather(1, pairs.position)
        return Merged(features, sizes, position, pairs.slot.gather(1, self.owner))

    def with_features(self, features: Float[Tensor, "b m d"]) -> "Merged":
        """Return the same merges with other features of these tokens."""
        return replace(self, features=features)

    def selection(self) -> Selection:
        """Return the tokens as a selection: slots in ascending order of their positions, merged features along."""
        ranked = self.position.argsort(dim=1)
        slots = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
        rank = torch.empty_like(ranked).scatter_(1, ranked, slots)
        return Selection(
            self.position.gather(1, ranked),
            self.owner.shape[1],
            owner=rank.gather(1, self.owner),
            features=self.features.gather(1, widened(ranked, self.features)),
        )


def merge_schedule(r: int | Sequence[int] | tuple[int, float], n_layers: int) -> list[int]:
    """Return how many tokens each of `n_layers` layers merges away.

    A number: so many in each. A list: one per layer, none in further ones. A tuple (r, inflection): r on average,
    changing evenly from r (1 - inflection) to r (1 + inflection), rounded down; (r, -1.0) falls from 2r to 0.

    >>> merge_schedule((8, -1.0), 5), merge_schedule([3, 2], 4)
    ([16, 12, 8, 4, 0], [3, 2, 0, 0])
    """
    if isinstance(r, tuple):
        mean, inflection = r
        least = int(mean * (1.0 - inflection))
        step = (2 * mean - 2 * least) / (n_layers - 1) if n_layers > 1 else 0.0
        return [int(least + step * layer) for layer in range(n_layers)]
    if isinstance(r, int):
        return [r] * n_layers
    return [*r, *[0] * (n_layers - len(r))]


def exact_schedule(n_tokens: int, keep: int, n_layers: int) -> list[int]:
    """Return how many of `n_tokens` tokens each layer merges away so that exactly `keep` are left: evenly, early first.

    A layer can merge away half of its tokens at most, so that small budgets merge more in the early layers.

    >>> exact_schedule(729, 146, 27) == [22] * 16 + [21] * 11
    True
    """
    if not 1 <= keep <= n_tokens:
        raise BudgetError(f"keep is {keep}; it must be a whole number in 1..{n_tokens}, the number of tokens")
    if n_tokens > keep * 2**n_layers:
        fewest = -(-n_tokens // 2**n_layers)
        raise BudgetError(
            f"{n_layers} layers that merge half of their tokens leave {fewest} of {n_tokens}, not {keep}; "
            "keep more tokens or merge in more layers"
        )
    schedule = []
    for layers in range(n_layers, 0, -1):
        even = -(-(n_tokens - keep) // layers)
        # What the layers behind this one, each halving, could not merge away any more.
        schedule.append(max(even, n_tokens - keep * 2 ** (layers - 1)))
        n_tokens -= schedule[-1]
    return schedule

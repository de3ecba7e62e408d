"""What SAM's image encoder costs under any method: from the tokens that each block ran on, and the method's own work.

The first part is the same for all, so that methods can be set beside one another at equal cost; one whose count depends
on the picture is counted on what it kept there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leanseg.costs import formulas, sam_exact
from leanseg.costs.cost import Counts
from leanseg.costs.sam_exact import POLICIES, SamSizes
from leanseg.errors import BudgetError, InputError, unknown_name

Kept = Sequence[int | Sequence[int]]

# Of the networks that the methods bring: models.vltp.baselines has them, and tests compare.
POLICY_WIDTH, POLICY_WIDEST = 32, 8
HEAD_LAYERS, HEAD_HIDDEN_RATIO = 3, 4


@dataclass(frozen=True, kw_only=True)
class MethodCost(Counts):
    """Multiply-adds of the image encoder for one picture and one instruction; `shares`: of tokens, block by block."""

    size: str
    method: str
    shares: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; every figure but `flops` is in 1e12 multiply-adds."""
        return {
            "model": "sam",
            "size": self.size,
            "method": self.method,
            "shares": list(self.shares),
            "parts": self.parts,
            "total": self.total,
            "flops": self.flops,
            "readings": dict(self.readings),
        }


def sam_method(size: Any, method: str, kept: Kept, stages: Sequence[int] = (), *, policy: str = "drop") -> MethodCost:
    """Return what an image encoder costs whose blocks ran on the `kept` tokens: their numbers, or how many, per block.

    `stages`: after which blocks the method has its stages, or its heads (dtop), or from which on its gates (svit).
    Where only a number is given, tokens fall into windows as a uniform choice has it on average. `prune` is the
    method's own work: prune decoder, k-center as if every distance were computed, policy network, heads or gates.

    >>> whole = [4096] * 32
    >>> sam_method("h", "svit", whole, [8]).parts["prune"] < 0.02 * sam_method("h", "random", whole).total
    True
    """
    if method not in OWN_WORK:
        raise InputError(unknown_name("encoder method", str(method), OWN_WORK))
    if policy not in POLICIES:
        raise InputError(unknown_name("policy", str(policy), POLICIES))
    sizes = SamSizes.of(size)
    numbers = _checked(kept, stages, sizes)
    parts: dict[str, float] = {
        "patch": formulas.convolution(sizes.n_tokens, sizes.patch_size, 3, sizes.width),
        "window_blocks": 0,
        "global_blocks": 0,
        "rel_pos": 0,
        "prune": OWN_WORK[method](sizes, numbers, sorted(stages)),
        "neck": sam_exact.neck(sizes),
    }
    for index, tokens in enumerate(kept):
        part, work, places = sam_exact.block(sizes, index, tokens, policy)
        parts[part] += work
        parts["rel_pos"] += places
    return MethodCost(
        size=size if isinstance(size, str) else "custom",
        method=method,
        shares=tuple(number / sizes.n_tokens for number in numbers),
        counts=tuple(parts.items()),
        readings=(("policy", policy), ("stages", tuple(sorted(stages)))),
    )


def _checked(kept: Kept, stages: Sequence[int], sizes: SamSizes) -> list[int]:
    """Return how many tokens each block ran on."""
    numbers = [tokens if isinstance(tokens, int) else len(set(tokens)) for tokens in kept]
    named = [index for tokens in kept if not isinstance(tokens, int) for index in tokens]
    repeats = [tokens for tokens in kept if not isinstance(tokens, int) and len(set(tokens)) < len(tokens)]
    if (
        len(kept) != sizes.depth
        or repeats
        or not all(0 <= index < sizes.n_tokens for index in named)
        or not all(0 <= number <= sizes.n_tokens for number in numbers)
    ):
        raise BudgetError(
            f"kept holds {numbers} different tokens for {len(kept)} blocks; expected {sizes.depth} entries, each a "
            f"number up to {sizes.n_tokens} or different tokens in 0..{sizes.n_tokens - 1}: what the blocks ran on"
        )
    if not all(0 <= place < sizes.depth for place in stages):
        raise BudgetError(f"stages lie after blocks {list(stages)}; expected numbers in 0..{sizes.depth - 1}")
    return numbers


def _prune_decoders(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    return len(stages) * sam_exact.prune_decoder(sizes)


def _nothing(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    return 0


def _k_center(places: int) -> Callable[[SamSizes, list[int], list[int]], int]:
    """Distances of features beside so many coordinates; a stage that keeps everything looks at none."""

    def work(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
        picks = sum(kept[stage] for stage in stages if kept[stage] < sizes.n_tokens)
        return formulas.farthest_first(sizes.n_tokens, picks, sizes.width + places)

    return work


def _projections(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    return len(stages) * formulas.linear(sizes.n_tokens, sizes.width, sizes.dim)


def _policy(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    """The policy network, and the patches of the picture at half its size where anything is shared."""
    squares = sizes.side // 2
    pixels, given, made, total = 2 * sizes.patch_size * squares, 3, POLICY_WIDTH, 0
    for stride in _prime_factors(2 * sizes.patch_size):
        pixels //= stride
        total += formulas.convolution(pixels**2, stride + 2, given, made)
        given, made = made, min(2 * made, POLICY_WIDEST * POLICY_WIDTH)
    total += formulas.convolution(squares**2, 1, given, 2)
    if min(kept) < sizes.n_tokens:
        total += formulas.convolution(squares**2, sizes.patch_size, 3, sizes.width)
    return total


def _prime_factors(number: int) -> list[int]:
    for candidate in range(2, number + 1):
        if number % candidate == 0:
            return [candidate, *_prime_factors(number // candidate)]
    return []


def _heads(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    """One query reads the tokens that are left, at half their width."""
    dim, total = sizes.width // 2, 0
    for stage in stages:
        left = kept[stage - 1] if stage else sizes.n_tokens
        reading = 2 * formulas.linear(1 + left, dim, dim) + formulas.attention(1, left, dim)
        layer = formulas.self_attention(1, dim) + reading + formulas.feed_forward(1, dim, HEAD_HIDDEN_RATIO * dim)
        total += formulas.linear(left, sizes.width, dim) + HEAD_LAYERS * layer + formulas.linear(1, dim, 2)
    return total


def _gates(sizes: SamSizes, kept: list[int], stages: list[int]) -> int:
    """Two linear layers on every token before each block from the first stage on."""
    if not stages:
        return 0
    hidden = sizes.width // 4
    gate = formulas.linear(sizes.n_tokens, sizes.width, hidden) + formulas.linear(sizes.n_tokens, hidden, 2)
    return (sizes.depth - min(stages)) * gate


OWN_WORK: dict[str, Callable[[SamSizes, list[int], list[int]], int]] = {
    "vltp": _prune_decoders,
    "random": _nothing,
    "evtp": _k_center(2),
    "kcenter": _k_center(0),
    "guidance_similarity": _projections,
    "cts": _policy,
    "dtop": _heads,
    "svit": _gates,
}

"""What SAM's image encoder costs with VLTP's stages: by the paper's rule, and by what is really run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leanseg.core.budget import check_ratio, keep_count
from leanseg.costs.cost import Counts
from leanseg.costs.sam_exact import POLICIES, SamSizes, encoder
from leanseg.errors import BudgetError, InputError, unknown_name

SAM_MODES = ("paper", "exact")
# The paper's own figures for an encoder that keeps everything, and for one call of its prune decoder.
PAPER_TOTALS = {"l": 1491e9, "h": 2976e9}
PAPER_CALL = 6e9
# The paper's best: from the middle on, and once more at three quarters, a fifth of the tokens.
DEFAULT_KEEP = 0.2


@dataclass(frozen=True, kw_only=True)
class SamCost(Counts):
    """Multiply-adds of the image encoder for one picture and one instruction; `counts` holds (part, multiply-adds)."""

    size: str
    mode: str
    stages: tuple[tuple[int, float], ...]
    model: str = "sam"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; every figure but `flops` is in 1e12 multiply-adds."""
        return {
            "model": self.model,
            "size": self.size,
            "mode": self.mode,
            "stages": [{"after_block": place, "keep_ratio": ratio} for place, ratio in self.stages],
            "parts": self.parts,
            "total": self.total,
            "flops": self.flops,
            "readings": dict(self.readings),
        }


def sam(
    size: Any = "h",
    stages: Mapping[int, float] | None = None,
    mode: str = "paper",
    *,
    count_calls: bool = False,
    policy: str = "drop",
    instructions: int = 1,
    kept: Sequence[Sequence[int]] | None = None,
) -> SamCost:
    """Return what SAM's image encoder costs with pruning stages: after how many blocks -> fraction of tokens KEPT.

    `stages`: None = the paper's best, a fifth after half and again after three quarters of the blocks; {} = SAM. Mode
    "paper": total / blocks * (sum over blocks of the fraction kept), with the paper's totals for l and h; `count_calls`
    adds its 6e9 per call of the prune decoder, which its tables mostly leave out. Mode "exact": what the library runs,
    under the `policy` for frozen tokens, per picture of which so many `instructions` are asked; `kept` = the kept
    tokens' numbers for each stage, None = as expected of a uniform choice.

    >>> round(sam("h", {16: 0.2, 24: 0.2}).total, 4), round(sam("h", {}, "exact").total, 6)
    (1.7856, 2.980541)
    """
    if mode not in SAM_MODES:
        raise InputError(unknown_name("mode", str(mode), SAM_MODES))
    sizes, name = SamSizes.of(size), size if isinstance(size, str) else "custom"
    chosen = _checked(_default(sizes) if stages is None else stages, sizes)
    if mode == "paper":
        _refuse(mode, {"policy": policy != "drop", "instructions": instructions != 1, "kept": kept is not None})
        counts = _paper(name, sizes, chosen, count_calls)
        readings: tuple[tuple[str, Any], ...] = (("count_calls", count_calls),)
    else:
        _refuse(mode, {"count_calls": count_calls})
        if policy not in POLICIES:
            raise InputError(unknown_name("policy", str(policy), POLICIES))
        if isinstance(instructions, bool) or not isinstance(instructions, int) or instructions < 1:
            raise InputError(f"instructions is {instructions!r}; expected a whole number of at least 1")
        if kept is not None:
            _check_kept(kept, chosen, sizes)
        counts = encoder(sizes, chosen, policy, kept, instructions)
        readings = (("policy", policy), ("instructions", instructions))
    return SamCost(size=name, mode=mode, stages=tuple(chosen.items()), counts=tuple(counts.items()), readings=readings)


def _default(sizes: SamSizes) -> dict[int, float]:
    return {sizes.depth // 2: DEFAULT_KEEP, 3 * sizes.depth // 4: DEFAULT_KEEP}


def _checked(stages: Mapping[int, float], sizes: SamSizes) -> dict[int, float]:
    for place in stages:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < sizes.depth:
            raise BudgetError(
                f"a stage lies after block {place!r}; expected a whole number in 0..{sizes.depth - 1}: stages are "
                "{after block: fraction of tokens to KEEP}, such as {16: 0.2, 24: 0.2}"
            )
    return {place: check_ratio(stages[place]) for place in sorted(stages)}


def _paper(name: str, sizes: SamSizes, stages: Mapping[int, float], count_calls: bool) -> dict[str, float]:
    if name not in PAPER_TOTALS:
        raise InputError(
            f"the paper has no figure for SAM of size {name}; expected {' or '.join(sorted(PAPER_TOTALS))}; ask for "
            'mode="exact"'
        )
    keep, total = 1.0, 0.0
    for block in range(sizes.depth):
        keep = stages.get(block, keep)
        total += keep
    counts = {"encoder": PAPER_TOTALS[name] * total / sizes.depth}
    return counts | ({"prune": PAPER_CALL * len(stages)} if count_calls else {})


def _refuse(mode: str, given: Mapping[str, bool]) -> None:
    for name, is_given in given.items():
        if is_given:
            other = "exact" if mode == "paper" else "paper"
            raise InputError(f"{name} belongs to mode {other}, and mode is {mode}; drop it or ask for mode {other}")


def _check_kept(kept: Sequence[Sequence[int]], stages: Mapping[int, float], sizes: SamSizes) -> None:
    expected = [keep_count(sizes.n_tokens, ratio, dropped=True) for ratio in stages.values()]
    found = [len(set(each)) for each in kept]
    outside = [index for each in kept for index in each if not 0 <= index < sizes.n_tokens]
    if found != expected or outside:
        raise BudgetError(
            f"kept holds {found} different tokens for the stages, {len(outside)} of them outside of "
            f"0..{sizes.n_tokens - 1}; expected {expected}; give the selections that these stages made"
        )

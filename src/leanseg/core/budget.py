"""How many tokens a keep ratio leaves: the one place where a ratio becomes a count."""

import math
from numbers import Real

from leanseg.errors import BudgetError


def check_ratio(keep_ratio: object) -> float:
    """Return `keep_ratio` as a float if it lies in (0, 1]; raise `BudgetError` otherwise."""
    if isinstance(keep_ratio, bool) or not isinstance(keep_ratio, Real):
        raise BudgetError(
            f"keep_ratio is {keep_ratio!r}; it must be a number in (0, 1]: the fraction of tokens to KEEP"
        )
    ratio = float(keep_ratio)
    if not 0.0 < ratio <= 1.0:
        hint = f"; for {ratio:g} % write {ratio / 100:g}" if 1.0 < ratio <= 100.0 else ""
        raise BudgetError(f"keep_ratio is {ratio:g}; it must lie in (0, 1]: the fraction of tokens to KEEP{hint}")
    return ratio


def keep_count(n: int, keep_ratio: float | int, dropped: bool = False) -> int:
    """Return how many of `n` tokens stay at `keep_ratio`.

    Python's round of `keep_ratio * n`, at least 1. With `dropped=True` what is dropped is rounded down instead, as the
    staged methods count it: `n - floor((1 - keep_ratio) * n)`, at least 1.

    >>> [keep_count(729, ratio) for ratio in (1, 0.5, 0.2, 0.1, 0.05)]
    [729, 364, 146, 73, 36]
    >>> keep_count(4096, 0.2, dropped=True), keep_count(64, 0.3, dropped=True)
    (820, 20)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise BudgetError(f"the number of tokens is {n!r}; it must be a whole number of at least 1")
    ratio = check_ratio(keep_ratio)
    if dropped:
        # The small constant keeps a product such as 0.8 * 4095.0000000001 from losing one token to float noise.
        return max(1, n - math.floor((1.0 - ratio) * n + 1e-9))
    return max(1, round(ratio * n))

"""What the greedy methods share: the first of the best, where rounding must not decide which is best."""

import torch

from leanseg.shapes import Float, Int, Tensor

# Gains that differ by less than this part of the largest first gain are a tie, and gains below it are none: the
# rounding of float64 is three orders below it, differences of real features far above.
NEGLIGIBLE = 1e-12


def first_of_best(gains: Float[Tensor, " n"], slack: Float[Tensor, ""]) -> Int[Tensor, " one"]:
    """Return the lowest index (1,) whose gain is the largest up to `slack`.

    >>> first_of_best(torch.tensor([1.0, 3.0, 3.0]), torch.tensor(0.0)).tolist()
    [1]
    """
    return (gains >= gains.amax() - slack).to(torch.uint8).argmax().reshape(1)

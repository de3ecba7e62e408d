"""Where greedy k-center may begin, compiled by numba: the most isolated point, and how far all lie from the mean.

numba keeps machine code by source file: after an edit of `compiled`, delete the `__pycache__` beside this file.
"""

from typing import Any

import numpy as np

from leanseg.core.kcenter.compiled import (
    FAR,
    abandon_at,
    distance,
    exact_square,
    filtered,
    margin,
    mean_of,
    prepared,
)
from leanseg.core.kcenter.compiling import compiled
from leanseg.core.kcenter.reference import TIE


@compiled()
def most_isolated(points: Any, extra: Any, scale: Any) -> Any:
    """Return the point whose nearest other point is farthest, by the same bounds and the same rule for ties."""
    n_points = len(points)
    given, copy, slack = prepared(points, extra, scale)
    share = margin(copy.shape[1])
    upper = np.full(n_points, np.inf)  # of the distance to the nearest other point
    exact = np.full(n_points, np.inf)
    cut = 0.0
    for i in range(n_points):
        close, limit = FAR, FAR
        for step in range(2, 2 * n_points):
            # Neighbours by index first, on both sides: they tend to be alike, and so they bound best.
            other = i + step // 2 if step % 2 == 0 else i - step // 2
            if other < 0 or other >= n_points:
                continue
            if upper[i] < cut or exact[i] == 0.0:
                break
            found = filtered(copy[i], copy[other], limit)
            if found >= limit:
                continue
            exact[i] = min(exact[i], distance(given, i, other))
            if found < close:
                close = found
                root = np.sqrt(np.float64(found))
                limit = abandon_at(root, share, slack[i])
                upper[i] = min(upper[i], root * (1.0 + share) + slack[i])
                upper[other] = min(upper[other], root * (1.0 + share) + slack[other])
        if upper[i] >= cut and exact[i] != np.inf:
            cut = max(cut, np.sqrt(exact[i]) * (1.0 - TIE))
    largest = 0.0
    for i in range(n_points):
        if upper[i] >= cut and exact[i] != np.inf:
            largest = max(largest, exact[i])
    for i in range(n_points):
        if upper[i] >= cut and exact[i] >= largest - TIE * largest:
            return i
    return 0


@compiled()
def around_mean(points: Any, scale: Any, mean: Any, found: Any) -> None:
    """Fill in the mean of the points and the scaled squared distance of each to it."""
    mean[:] = mean_of(points, scale)
    for i in range(len(points)):
        found[i] = exact_square(points[i], mean, scale)

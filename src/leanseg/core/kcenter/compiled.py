"""Greedy k-center compiled by numba: exact, lazy, one thread.

How it can be fast and exact at once. A float32 copy of the points, centred and scaled, is only a filter; whatever is
returned was decided by float64 differences of the points as they were given. With u = 2^-24, s the scale, y_i the copy
and f the computed |y_i - y_c|^2:

* the copy: each entry is rounded once, so |y_i - s (x_i - m)| <= u |y_i|, and as |y_c| <= |y_i| + |y_i - y_c|, the true
  distance d differs from |y_i - y_c| by at most u (2 |y_i| + |y_i - y_c|);
* the sum: no term passes more than 128 additions in its block and D / 128 + 1 behind it, in whatever order a block is
  summed and however wide the SIMD, so f = |y_i - y_c|^2 (1 + e) with |e| <= (132 + D / 128) u to first order;
* underflow: entries and squares below 2^-126 may count as zero, at most sqrt(D) 2^-62 of a distance.

Hence sqrt(f) (1 - r) - a_i <= d <= sqrt(f) (1 + r) + a_i with r = (136 + D / 128) u and
a_i = 12 u |y_i| + sqrt(D) 2^-62; 12 and not 2, so that a distance which counts as zero by
`leanseg.core.distances.NOISE` also lies within a_i of zero.

A point's bound is stale until it has met every pick; it is brought up to date only while its upper bound reaches the
lower bound of the best. An inner sum is abandoned once the pick cannot be the point's nearest. Points that the margins
cannot tell apart are compared in float64, and so are the picks of a point that may have two nearest ones. Memory is
what it waits for otherwise, so that the columns which vary most, and with them the coordinates, are looked at first.
"""

from typing import Any

import numpy as np

from leanseg.core.distances import NOISE
from leanseg.core.kcenter.compiling import compiled
from leanseg.core.kcenter.reference import TIE

_UNIT = 2.0**-24
_HEAD = 16
_BLOCK = 128
FAR = np.float32(3.0e38)
_SAMPLED_ROWS = 48
_LEADING = 32


# What is known of each point, beside the upper bound of its distance to the nearest pick.
_KNOWN = np.dtype(
    [
        ("best", np.float32),  # smallest filtered square so far
        ("limit", np.float32),  # a filtered square from here on is not the nearest's
        ("slack", np.float64),  # a_i above
        ("nearest", np.int64),  # the pick at `best`
        ("seen", np.int64),  # how many picks it has met
        ("confirmed", np.int64),  # how many of them `exact` has met
        ("exact", np.float64),  # squared distance to the nearest of those
        ("unclear", np.int64),  # whether another pick may be as near as the nearest
    ],
    align=True,
)


@compiled(reorder=True)
def filtered(a: Any, b: Any, limit: Any) -> Any:
    """Return |a - b|^2 in float32, or the part of it that reached `limit`."""
    total = np.float32(0.0)
    width = len(a)
    begin = 0
    while begin + _BLOCK <= width:
        part = np.float32(0.0)
        for j in range(begin, begin + _BLOCK):
            difference = a[j] - b[j]
            part += difference * difference
        total += part
        if total >= limit:
            return total
        begin += _BLOCK
    part = np.float32(0.0)
    for j in range(begin, width):
        difference = a[j] - b[j]
        part += difference * difference
    return total + part


@compiled(reorder=True)
def _part(a: Any, b: Any) -> Any:
    """Return what the first columns contribute to |a - b|^2, in float32."""
    part = np.float32(0.0)
    for j in range(_HEAD):
        difference = a[j] - b[j]
        part += difference * difference
    return part


@compiled()
def exact_square(a: Any, b: Any, scale: Any) -> Any:
    """Return |s a - s b|^2 in float64, in four partial sums, so that the order is the same on every machine."""
    s0 = s1 = s2 = s3 = 0.0
    whole = len(a) - len(a) % 4
    for j in range(0, whole, 4):
        d0 = a[j] * scale - b[j] * scale
        d1 = a[j + 1] * scale - b[j + 1] * scale
        d2 = a[j + 2] * scale - b[j + 2] * scale
        d3 = a[j + 3] * scale - b[j + 3] * scale
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    for j in range(whole, len(a)):
        d0 = a[j] * scale - b[j] * scale
        s0 += d0 * d0
    return (s0 + s1) + (s2 + s3)


@compiled()
def mean_of(points: Any, scale: Any) -> Any:
    """Return the mean in float64, summed in the order of the rows, scaled so that no sum overflows."""
    total = np.zeros(points.shape[1])
    for i in range(points.shape[0]):
        for j in range(points.shape[1]):
            total[j] += points[i, j] * scale
    return total / points.shape[0] / scale


@compiled()
def _leading(points: Any, mean: Any, scale: Any) -> Any:
    """Return the columns that vary most, as the order in which to swap them with columns 0, 1, 2, ...

    Sums that begin with them grow fast and are abandoned early. A guess from some rows will do: any order is right.
    """
    width = points.shape[1]
    spread = np.zeros(width)
    step = max(1, points.shape[0] // _SAMPLED_ROWS)
    for i in range(0, points.shape[0], step):
        for j in range(width):
            difference = (points[i, j] - mean[j]) * scale
            spread[j] += difference * difference
    swaps = np.empty(min(_LEADING, width), np.int64)
    for j in range(len(swaps)):
        widest = j + np.argmax(spread[j:])
        spread[j], spread[widest] = spread[widest], spread[j]
        swaps[j] = widest
    return swaps


@compiled(reorder=True)
def _norm(a: Any) -> Any:
    total = np.float32(0.0)
    for j in range(len(a)):
        total += a[j] * a[j]
    return np.sqrt(np.float64(total))


@compiled()
def prepared(points: Any, extra: Any, scale: Any) -> Any:
    """Return what `distance` reads, the float32 copy (centred, scaled, extra columns first), and the margins a_i."""
    n_points, n_extra, width = len(points), extra.shape[1], extra.shape[1] + points.shape[1]
    mean, extra_mean = mean_of(points, scale), mean_of(extra, scale)
    copy = np.empty((n_points, width), np.float32)
    swaps = _leading(points, mean, scale)
    slack = np.empty(n_points)
    nothing = np.zeros(width, np.float32)
    for i in range(n_points):
        row = copy[i]
        for j in range(n_extra):
            row[j] = np.float32(extra[i, j] * scale - extra_mean[j] * scale)
        for j in range(n_extra, width):
            row[j] = np.float32(points[i, j - n_extra] * scale - mean[j - n_extra] * scale)
        for j in range(len(swaps)):
            held = row[n_extra + j]
            row[n_extra + j] = row[n_extra + swaps[j]]
            row[n_extra + swaps[j]] = held
        slack[i] = np.sqrt(np.float64(filtered(row, nothing, FAR)))
    doubtful = 2.5 * NOISE * slack.max() ** 2
    slack = 12.0 * _UNIT * slack + np.sqrt(width) * 2.0**-62
    return (points, extra, scale, mean, extra_mean, doubtful), copy, slack


@compiled()
def distance(given: Any, i: Any, c: Any) -> Any:
    """Return the squared distance of two points in float64, zero where it is noise."""
    points, extra, scale, mean, extra_mean, doubtful = given
    found = exact_square(points[i], points[c], scale) + exact_square(extra[i], extra[c], scale)
    if 0.0 < found < doubtful:
        both = exact_square(points[i], mean, scale) + exact_square(extra[i], extra_mean, scale)
        both += exact_square(points[c], mean, scale) + exact_square(extra[c], extra_mean, scale)
        if found < NOISE * both:
            return 0.0
    return found


@compiled()
def margin(width: Any) -> Any:
    """Return r above."""
    return (_BLOCK + 8 + width // _BLOCK) * _UNIT


@compiled()
def abandon_at(root: Any, share: Any, slack: Any) -> Any:
    """Return the filtered square from which on another point cannot be the nearest, `root` being the nearest so far."""
    bound = (root * (1.0 + share) + 2.0 * slack) / (1.0 - share)
    return np.float32(bound * bound * (1.0 + 4.0 * _UNIT))


@compiled()
def _meet(copy: Any, known: Any, upper: Any, i: Any, picks: Any, cut: Any) -> Any:
    """Let point `i` meet the picks that it has not seen; stop once its upper bound is below `cut`."""
    share = margin(copy.shape[1])
    mine = known[i]
    point = copy[i]
    wide = len(point) >= _HEAD
    for c in range(mine.seen, len(picks)):
        other = copy[picks[c]]
        mine.seen = c + 1
        # Most picks are told apart by the leading columns alone, and without reading more of memory.
        if wide and _part(point, other) >= mine.limit:
            continue
        found = filtered(point, other, mine.limit)
        if found >= mine.limit:
            continue
        if found >= mine.best:
            mine.unclear = 1
            continue
        root = np.sqrt(np.float64(found))
        mine.limit = abandon_at(root, share, mine.slack)
        mine.unclear = 1 if mine.best < mine.limit else 0
        mine.best = found
        mine.nearest = picks[c]
        upper[i] = root * (1.0 + share) + mine.slack
        if upper[i] < cut:
            return


@compiled()
def _confirm(given: Any, copy: Any, known: Any, i: Any, picks: Any) -> Any:
    """Return the exact squared distance of point `i`, which has met all picks, to the nearest of them."""
    mine = known[i]
    if mine.unclear:
        for c in range(mine.confirmed, len(picks)):
            if filtered(copy[i], copy[picks[c]], mine.limit) < mine.limit:
                mine.exact = min(mine.exact, distance(given, i, picks[c]))
    else:
        mine.exact = distance(given, i, mine.nearest)
    mine.confirmed = len(picks)
    return mine.exact


@compiled()
def _contenders(copy: Any, known: Any, upper: Any, picks: Any, found: Any) -> Any:
    """Fill `found` with the points that may be the farthest from `picks`; return how many they are."""
    # The point with the largest stale bound first: it makes the cut that saves the others.
    top = np.argmax(upper)
    cut = 0.0
    count = 0
    for turn in range(-1, len(upper)):
        i = top if turn < 0 else turn
        if upper[i] < cut or turn == top:
            continue
        _meet(copy, known, upper, i, picks, cut)
        if known[i].seen == len(picks) and upper[i] >= cut:
            found[count] = i
            count += 1
            lower = np.sqrt(np.float64(known[i].best)) * (1.0 - margin(copy.shape[1])) - known[i].slack
            cut = max(cut, lower * (1.0 - TIE))
    kept = 0
    for position in range(count):
        if upper[found[position]] >= cut:
            found[kept] = found[position]
            kept += 1
    return kept


@compiled()
def farthest_first(points: Any, extra: Any, scale: Any, start: Any, order: Any, radius: Any) -> None:
    """Fill in the pick order and the radius after each pick of one row; `extra` are more columns, in float64."""
    given, copy, slack = prepared(points, extra, scale)
    known = np.zeros(len(points), _KNOWN)
    known["best"][:] = known["limit"][:] = FAR
    known["exact"][:] = np.inf
    known["slack"][:] = slack
    upper = np.full(len(points), np.inf)  # -1 for picked points
    found = np.empty(len(points), np.int64)
    order[0] = start
    upper[start] = -1.0
    for t in range(1, len(order) + 1):
        count = _contenders(copy, known, upper, order[:t], found)
        largest = 0.0
        for i in found[:count]:
            largest = max(largest, _confirm(given, copy, known, i, order[:t]))
        radius[t - 1] = np.sqrt(largest) / scale
        if t == len(order):
            return
        if largest == 0.0:  # all that is left lies on picked points: the lowest indices follow
            order[t:] = np.flatnonzero(upper >= 0.0)[: len(order) - t]
            radius[t:] = 0.0
            return
        chosen = len(points)
        for i in found[:count]:
            if known[i].exact >= largest - TIE * largest:
                chosen = min(chosen, i)
        order[t] = chosen
        upper[chosen] = -1.0

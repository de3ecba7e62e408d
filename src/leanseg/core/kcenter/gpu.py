"""Greedy k-center on CUDA: one Gram matrix and one persistent Triton kernel, with no word to the host in between.

Never run on a device so far, as no GPU was at hand. It was checked by Triton's interpreter on the processor, and by
compiling it for devices of compute capability 8.0, 9.0 and 10.0.

The Gram matrix of the centred, scaled points is float32 and only a filter, as in `leanseg.core.kcenter.compiled`. A
squared distance |a|^2 + |b|^2 - 2 a.b from it is off by at most e (|a|^2 + |b|^2) + t. Here e = (D + 16) 2^-24 covers a
sum in any order and the rounding of the copy and of the three terms (it is larger where torch may multiply in TF32 or
bfloat16), and t = D 2^-125 covers underflow. Each point keeps an upper and a lower bound of its distance to the nearest
pick. Where more than one point may be the farthest, they are compared by float64 differences of the points as given.
"""

import torch
import triton
import triton.language as tl

from leanseg.core.distances import NOISE
from leanseg.core.kcenter.reference import TIE
from leanseg.shapes import Float, Int, Tensor

# A row's bounds live in the registers of one program.
LARGEST = 8192
_COARSE = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}


def fits(points: Float[Tensor, "b n d"], extra: Float[Tensor, "b n e"]) -> bool:
    """Return whether these points are not too many for the kernel."""
    return points.shape[1] <= LARGEST and points.shape[2] + extra.shape[2] > 0


def farthest_first(
    points: Float[Tensor, "b n d"], extra: Float[Tensor, "b n e"], k: int, starts: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Return pick order and radius after each pick; NaN radii where a value is not finite or a start is no index."""
    batch, n_points, _ = points.shape
    given = torch.cat([points.to(torch.float64), extra], dim=2)
    sound = torch.isfinite(given).all(dim=2).all(dim=1) & (starts >= 0) & (starts < n_points)
    given = torch.where(sound[:, None, None], given, 0.0)
    exponent = torch.frexp(given.abs().amax(dim=(1, 2)))[1].clamp(-1000, 1000)
    given = torch.ldexp(given, -exponent[:, None, None]).contiguous()
    around = given - given.mean(dim=1, keepdim=True)
    norms = around.square().sum(dim=2)
    copy = around.to(torch.float32)
    gram = torch.bmm(copy, copy.mT)
    width = given.shape[2]
    error = (width + 16) * 2.0**-24 + _COARSE[torch.get_float32_matmul_precision()]
    # One pick more tells the last radius: it is how far that point lies.
    steps = min(k + 1, n_points)
    order = torch.empty((batch, steps), dtype=torch.int64, device=points.device)
    squares = torch.zeros((batch, k), dtype=torch.float64, device=points.device)
    sizes = {
        "BLOCK_N": triton.next_power_of_2(n_points),
        "BLOCK_K": triton.next_power_of_2(steps),
        "BLOCK_D": min(1024, triton.next_power_of_2(width)),
    }
    bounds = (error, width * 2.0**-125, TIE, NOISE)
    narrow = norms.to(torch.float32)
    first = starts.clamp(0, n_points - 1)
    warps = min(32, max(4, sizes["BLOCK_N"] // 256))  # eight points to a thread
    _picks[(batch,)](
        gram, narrow, given, norms, first, order, n_points, width, steps, *bounds, **sizes, num_warps=warps
    )
    if steps > 1:
        _squares[(batch, steps - 1)](gram, narrow, given, norms, order, squares, n_points, width, steps, k, *bounds[:2],
                                     NOISE, BLOCK_K=sizes["BLOCK_K"], BLOCK_D=sizes["BLOCK_D"])  # fmt: skip
    radius = torch.ldexp(squares.sqrt(), exponent[:, None])
    return order[:, :k].contiguous(), torch.where(sound[:, None], radius, torch.nan)


@triton.jit
def _exact(given, norms, i, other, width, NOISE: tl.constexpr, BLOCK_D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return a squared distance in float64, zero where it is noise."""
    columns = tl.arange(0, BLOCK_D)
    total = tl.zeros([BLOCK_D], tl.float64)
    begin = 0
    while begin < width:
        inside = begin + columns < width
        a = tl.load(given + i * width + begin + columns, mask=inside, other=0.0)
        b = tl.load(given + other * width + begin + columns, mask=inside, other=0.0)
        total += (a - b) * (a - b)
        begin += BLOCK_D
    found = tl.sum(total)
    noise = NOISE * (tl.load(norms + i) + tl.load(norms + other))
    return tl.where(found < noise, 0.0, found)


@triton.jit
def _nearest(  # type: ignore[no-untyped-def]
    gram, narrow, given, norms, i, picks, begin, end, known, n_points, width, error, tiny,
    NOISE: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Return the exact squared distance of point i to the nearest of picks[begin:end], or `known` if that is less."""
    places = tl.arange(0, BLOCK_K)
    asked = (places >= begin) & (places < end)
    line = tl.load(gram + i * n_points + picks, mask=asked, other=0.0)
    both = tl.load(narrow + i) + tl.load(narrow + picks, mask=asked, other=0.0)
    squares = both - 2.0 * line
    margin = error * both + tiny
    bound = tl.min(tl.where(asked, squares + margin, 3.0e38))
    maybe = asked & (squares - margin <= bound)
    left = tl.sum(maybe.to(tl.int32))
    while left > 0:
        place = tl.min(tl.where(maybe, places, BLOCK_K))
        other = tl.sum(tl.where(places == place, picks, 0))
        known = tl.minimum(known, _exact(given, norms, i, other, width, NOISE, BLOCK_D))
        maybe = maybe & (places != place)
        left = tl.where(known == 0.0, 0, left - 1)
    return known


@triton.jit
def _picks(  # type: ignore[no-untyped-def]
    gram, narrow, given, norms, starts, order, n_points, width, steps, error, tiny,
    TIE: tl.constexpr, NOISE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per row: the whole greedy loop, its state in registers."""
    row = tl.program_id(0).to(tl.int64)
    gram += row * n_points * n_points
    narrow += row * n_points
    given += row * n_points * width
    norms += row * n_points
    points = tl.arange(0, BLOCK_N)
    places = tl.arange(0, BLOCK_K)
    inside = points < n_points
    mine = tl.load(narrow + points, mask=inside, other=0.0)
    upper = tl.where(inside, 3.0e38, -1.0)
    lower = tl.where(inside, 3.0e38, -1.0)
    exact = tl.full([BLOCK_N], float("inf"), tl.float64)
    met = tl.zeros([BLOCK_N], tl.int32)
    picks = tl.zeros([BLOCK_K], tl.int32)
    pick = tl.load(starts + row).to(tl.int32)
    exhausted = 0
    step = 0
    while step < steps:
        picks = tl.where(places == step, pick, picks)
        line = tl.load(gram + pick * n_points + points, mask=inside, other=0.0)
        both = mine + tl.load(narrow + pick)
        squares = both - 2.0 * line
        margin = error * both + tiny
        upper = tl.where(points == pick, -1.0, tl.minimum(upper, tl.maximum(squares + margin, 0.0)))
        lower = tl.where(points == pick, -1.0, tl.minimum(lower, squares - margin))
        # A hair below the best lower bound, so that what ties with it is among the contenders.
        cut = tl.maximum(tl.max(lower), 0.0) * (1.0 - 1.0e-6)
        contenders = upper >= tl.where(exhausted == 1, 0.0, cut)
        pick = tl.min(tl.where(contenders, points, BLOCK_N))
        if (tl.sum(contenders.to(tl.int32)) > 1) & (exhausted == 0):
            waiting = contenders
            left = tl.sum(waiting.to(tl.int32))
            while left > 0:
                i = tl.min(tl.where(waiting, points, BLOCK_N))
                here = points == i
                value = _nearest(
                    gram, narrow, given, norms, i, picks, tl.sum(tl.where(here, met, 0)), step + 1,
                    tl.sum(tl.where(here, exact, 0.0)), n_points, width, error, tiny, NOISE, BLOCK_K, BLOCK_D,
                )  # fmt: skip
                exact = tl.where(here, value, exact)
                met = tl.where(here, step + 1, met)
                waiting = waiting & (points != i)
                left -= 1
            largest = tl.max(tl.where(contenders, exact, -1.0))
            exhausted = tl.where(largest == 0.0, 1, 0)
            pick = tl.min(tl.where(contenders & (exact >= largest - TIE * largest), points, BLOCK_N))
        pick = tl.minimum(pick, n_points - 1)
        step += 1
    tl.store(order + row * steps + places, picks.to(tl.int64), mask=places < steps)


@triton.jit
def _squares(  # type: ignore[no-untyped-def]
    gram, narrow, given, norms, order, squares, n_points, width, steps, k, error, tiny,
    NOISE: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per row and pick: how far the next pick lies from all up to this one."""
    row = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    places = tl.arange(0, BLOCK_K)
    picks = tl.load(order + row * steps + places, mask=places < steps, other=0).to(tl.int32)
    i = tl.sum(tl.where(places == step + 1, picks, 0))
    unknown = tl.full((), float("inf"), tl.float64)
    found = _nearest(
        gram + row * n_points * n_points, narrow + row * n_points, given + row * n_points * width,
        norms + row * n_points, i, picks, 0, step + 1, unknown, n_points, width, error, tiny,
        NOISE, BLOCK_K, BLOCK_D,
    )  # fmt: skip
    tl.store(squares + row * k + step, found)

"""Masks as bits, 64 pixels of a row to a word: what is compared, shifted and counted then is 1/8 of the bytes.

The lowest bit is the leftmost pixel; bits behind the last pixel of a row are 0.
"""

import math

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

WORD = 64


def pack(mask: npt.NDArray[np.bool_]) -> Bits:
    """Return masks (..., H, W) as words (..., H, ceil(W / 64)).

    >>> pack(np.array([[True, False, True]])).tolist()
    [[5]]
    """
    packed = np.packbits(mask, axis=-1, bitorder="little")
    rows = np.zeros((*mask.shape[:-1], -(-mask.shape[-1] // WORD) * 8), np.uint8)
    rows[..., : packed.shape[-1]] = packed
    return rows.view("<u8").astype(np.uint64, copy=False)


def unpack(bits: Bits, width: int) -> npt.NDArray[np.bool_]:
    """Return the masks (..., H, width) of `pack`."""
    rows = np.ascontiguousarray(bits.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(rows, axis=-1, count=width, bitorder="little").view(np.bool_)


def count(bits: Bits) -> Counts:
    """Return how many pixels are set, per mask (...)."""
    return np.asarray(np.bitwise_count(bits).sum(axis=(-2, -1), dtype=np.int64))


def from_left(bits: Bits, step: int) -> Bits:
    """Return at each pixel the one `step` to its left: the picture moved to the right; 0 enters."""
    words, shift = divmod(step, WORD)
    moved = np.zeros_like(bits)
    n = bits.shape[-1]
    if words < n:
        moved[..., words:] = bits[..., : n - words] << np.uint64(shift)
        if shift and words + 1 < n:
            moved[..., words + 1 :] |= bits[..., : n - words - 1] >> np.uint64(WORD - shift)
    return moved


def from_right(bits: Bits, step: int) -> Bits:
    """Return at each pixel the one `step` to its right: the picture moved to the left; 0 enters."""
    words, shift = divmod(step, WORD)
    moved = np.zeros_like(bits)
    n = bits.shape[-1]
    if words < n:
        moved[..., : n - words] = bits[..., words:] >> np.uint64(shift)
        if shift and words + 1 < n:
            moved[..., : n - words - 1] |= bits[..., words + 1 :] << np.uint64(WORD - shift)
    return moved


def boundary(bits: Bits, width: int) -> Bits:
    """Return which pixels differ from the one to their right, below, or below to the right.

    In the last row only the pixel to the right is asked, in the last column only the one below, in the last corner
    none: a mask has no boundary along the right and the lower border of the picture.
    """
    right = from_right(bits, 1)
    lower, lower_right = np.zeros_like(bits), np.zeros_like(bits)
    lower[..., :-1, :], lower_right[..., :-1, :] = bits[..., 1:, :], right[..., 1:, :]
    edges = (bits ^ right) | (bits ^ lower) | (bits ^ lower_right)
    edges[..., -1, :] = bits[..., -1, :] ^ right[..., -1, :]
    last = np.uint64(1) << np.uint64((width - 1) % WORD)
    column = (bits[..., -1] ^ lower[..., -1]) & last
    column[..., -1] = 0
    edges[..., -1] = (edges[..., -1] & ~last) | column
    return edges


def dilate(bits: Bits, radius: int) -> Bits:
    """Return which pixels have a set one within `radius` (Euclidean, in pixels); bits behind the width may be set.

    The disk is a stack of row segments: dy rows away it reaches isqrt(radius^2 - dy^2) to both sides. Rows are widened
    from one reach to the next, so that each row is shifted O(number of reaches) times.
    """
    height = bits.shape[-2]
    wide, reached = bits, 0
    total = np.zeros_like(bits)
    for dy in range(radius, -1, -1):
        reach = math.isqrt(radius * radius - dy * dy)
        while reached < reach:
            step = min(reach - reached, 2 * reached + 1)
            wide = wide | from_left(wide, step) | from_right(wide, step)
            reached += step
        if dy == 0:
            total |= wide
        elif dy < height:
            total[..., dy:, :] |= wide[..., :-dy, :]
            total[..., :-dy, :] |= wide[..., dy:, :]
    return total

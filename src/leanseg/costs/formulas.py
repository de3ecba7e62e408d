"""Multiply-adds of the building blocks that every model is made of; no model is known here.

One multiply-add (MAC) is one multiplication and one addition: half of what others count as two FLOPs. Counted are
matrix products and convolutions. Biases, norms, activations, softmax, resizing and other elementwise work are not.
"""

from __future__ import annotations


def linear(rows: int, width_in: int, width_out: int) -> int:
    """A linear layer on `rows` vectors.

    >>> linear(2, 3, 4)
    24
    """
    return rows * width_in * width_out


def convolution(pixels: int, kernel: int, channels_in: int, channels_out: int) -> int:
    """A convolution with a square kernel and `pixels` places in its output."""
    return pixels * kernel**2 * channels_in * channels_out


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted sum of all heads together, `width` = heads x head size; causal masks save nothing here."""
    return 2 * queries * keys * width


def feed_forward(rows: int, width: int, hidden: int) -> int:
    """Two linear layers, `width` to `hidden` and back."""
    return 2 * rows * width * hidden


def self_attention(rows: int, width: int) -> int:
    """Query, key, value and output projections around an attention of the rows to themselves."""
    return 4 * linear(rows, width, width) + attention(rows, rows, width)


def transformer_layer(rows: int, width: int, hidden: int) -> int:
    """Self-attention and feed-forward of one layer."""
    return self_attention(rows, width) + feed_forward(rows, width, hidden)


def farthest_first(n_tokens: int, kept: int, width: int) -> int:
    """Greedy k-center: one distance of every token to each pick."""
    return n_tokens * kept * width


def windows(side: int, window: int) -> int:
    """Tokens of a square map padded to whole windows.

    >>> windows(32, 12)
    1296
    """
    return (-(-side // window) * window) ** 2

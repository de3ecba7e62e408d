"""Made-up visual tokens to time selection on: smooth ones, much like an encoder's, and pure noise, the hard case."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from leanseg.core import Grid, VisualTokens
from leanseg.core.joint import JointSpace
from leanseg.errors import InputError, unknown_name
from leanseg.shapes import Float, Tensor

KINDS = ("smooth", "normal")
WIDTH = 1152  # of SigLIP-so400m
KEYS_WIDTH = 72
GUIDANCE_WIDTH = 256
_WAVES = 48
_CYCLES = 3.0  # spread of the waves' frequencies: cycles per picture


def tokens(kind: str, grid: Grid, width: int = WIDTH, seed: int = 0) -> VisualTokens:
    """Return one row of tokens with every cue.

    `smooth`: 48 plane waves over the picture (and slowly over time), the later ones weaker, are mixed at random into
    the channels; each channel has an offset of its own, and noise of 0.3 on top. `normal`: independent standard normal.
    """
    if kind not in KINDS:
        raise InputError(unknown_name("kind of points", kind, KINDS))
    random = np.random.default_rng(seed)
    shape = (grid.n_tokens, width)
    if kind == "normal":
        features = random.normal(size=shape)
    else:
        places = np.column_stack([grid.coordinates(torch.float64).numpy(), 0.1 * grid.times(torch.float64).numpy()])
        waves = np.cos(
            2.0 * math.pi * (places @ random.normal(0.0, _CYCLES, (3, _WAVES)) + random.uniform(0.0, 1.0, _WAVES))
        ) / np.sqrt(1.0 + np.arange(_WAVES) / 4.0)
        features = waves @ random.normal(size=(_WAVES, width)) / 2.0
        features += 2.0 * random.normal(size=width) + 0.3 * random.normal(size=shape)
    attention = random.dirichlet(np.full(grid.n_tokens, 0.5))
    keys = features[:, :KEYS_WIDTH] + random.normal(size=(grid.n_tokens, min(KEYS_WIDTH, width)))
    return VisualTokens(
        features=_row(features), grid=grid, attention=_row(attention), keys=_row(keys),
        guidance=_row(random.normal(size=GUIDANCE_WIDTH)),
    )  # fmt: skip


def _row(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values).to(torch.float32)[None]


def joint_points(kind: str, grid: Grid, width: int = WIDTH, seed: int = 0) -> Float[Tensor, "n e"]:
    """Return the tokens in EVTP's joint space, float32: with coordinates, and with time where there are frames."""
    return JointSpace().embed(tokens(kind, grid, width, seed)).points[0].to(torch.float32)

"""Small visual tokens for tests: separated, tied, constant."""

import torch

from leanseg.core import Grid, VisualTokens
from leanseg.errors import InputError, unknown_name

KINDS = ("random", "constant", "duplicated", "zero", "ties")


def sample_tokens(
    grid: Grid,
    *,
    batch: int = 1,
    width: int = 8,
    kind: str = "random",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> VisualTokens:
    """Return tokens with every cue, drawn by a private generator.

    `kind`: "random" normal features; "constant" all tokens equal; "duplicated" a quarter as many distinct ones; "zero";
    "ties" features of few whole numbers. The cues follow: equal tokens have equal cues.
    """
    if kind not in KINDS:
        raise InputError(unknown_name("kind of sample tokens", kind, KINDS))
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, grid.n_tokens, width)
    if kind == "zero":
        features = torch.zeros(shape)
    elif kind == "constant":
        features = torch.full(shape, 0.5)
    elif kind == "ties":
        features = torch.randint(0, 2, shape, generator=generator).float()
    else:
        features = torch.randn(shape, generator=generator)
    if kind == "duplicated":
        distinct = max(1, grid.n_tokens // 4)
        features = features[:, torch.arange(grid.n_tokens) % distinct]
    features = features.to(dtype)
    # Sums of the features themselves, so that a row's cues do not depend on the other rows either.
    attention = torch.stack([row.float().square().sum(dim=1).softmax(dim=0) for row in features])
    guidance = torch.stack([row.float().mean(dim=0) for row in features])
    return VisualTokens(
        features=features,
        grid=grid,
        attention=attention.to(dtype),
        keys=features.flip(-1).contiguous(),
        guidance=guidance.to(dtype),
    )

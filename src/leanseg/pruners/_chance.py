"""Private random generators whose draw depends on a seed and on the tokens themselves."""

import hashlib

import torch

from leanseg.errors import SpecError
from leanseg.shapes import Float, Tensor


def row_generator(seed: int, features: Float[Tensor, "n d"]) -> torch.Generator:
    """Return a generator for one row: the same row gives the same draw in any batch, and frames differ.

    The content is read as float32, so that the same values in another precision give the same draw.
    """
    # Adding zero makes -0.0 and 0.0 one value.
    content = (features.detach().to(device="cpu", dtype=torch.float32) + 0.0).contiguous().numpy().tobytes()
    digest = hashlib.blake2b(content, digest_size=8, key=str(seed).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))


def check_seed(seed: object) -> None:
    """Raise `SpecError` unless `seed` is a whole number of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SpecError(f"seed is {seed!r}; it must be a whole number of at least 0")

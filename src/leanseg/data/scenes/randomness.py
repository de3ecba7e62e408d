"""Random choices that depend on the seed alone.

Python promises that `random.Random(seed).random()` stays the same from version to version and numpy promises the same
of a bit generator's raw output; neither promises it of choices, shuffles and distributions. Those are therefore made
here, from these two streams only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draw:
    """A private stream of random choices from one integer seed."""

    def __init__(self, seed: int) -> None:
        self._stream = random.Random(seed)
        self._seed = seed
        self._bits: np.random.PCG64 | None = None

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self._stream.random()

    def log_uniform(self, low: float, high: float) -> float:
        """Return a number whose logarithm is uniform, rounded so that the platform's logarithm cannot show."""
        return round(math.exp(self.uniform(math.log(low), math.log(high))), 6)

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both ends included."""
        return low + int((high - low + 1) * self._stream.random())

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._stream.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[int(len(options) * self._stream.random())]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """Return one of the options, in proportion to the weights."""
        point = self._stream.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            point -= weight
            if point < 0:
                return option
        return options[-1]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` different positions of `options`, in random order."""
        pool = list(options)
        for place in range(count):
            other = place + int((len(pool) - place) * self._stream.random())
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order."""
        return self.sample(options, len(options))

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Return `count` uniform random bytes from a numpy bit generator of the same seed."""
        if self._bits is None:
            self._bits = np.random.PCG64(self._seed)
        words = self._bits.random_raw((count + 7) // 8)
        return np.asarray(words, dtype="<u8").view(np.uint8)[:count]

"""How functions are compiled: by numba, at their first call, and kept for later processes."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def compiled(*, reorder: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for one thread, without the global lock; sums may be reordered only where asked for."""
    relaxed = {"reassoc", "contract", "nsz"} if reorder else False

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plain = inspect.unwrap(function)  # without the run-time type checks of the tests
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=relaxed)(plain)
        except RuntimeError:  # no folder that the machine code could be kept in
            return numba.njit(nogil=True, error_model="numpy", fastmath=relaxed)(plain)

    return decorate

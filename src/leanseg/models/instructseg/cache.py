"""What a frame's features are kept in, so that nothing is computed twice: bounded memory, oldest use out first."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from leanseg.errors import InputError
from leanseg.models.instructseg.postprocess import reference_frames

T = TypeVar("T")
DEFAULT_BYTES = 512 * 1024**2


class FrameCache:
    """A least-recently-used store of tensors, at most `max_bytes` of them; a larger value is computed and not kept.

    Keys name a frame by its content, so that an image asked about twice, or a static clip, is encoded once. One cache
    serves one set of weights: make a new one after they change. Safe for several threads; two that miss at once both
    compute.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < 0:
            raise InputError(f"max_bytes={max_bytes}; expected 0 (nothing is kept) or more bytes")
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of the tensors that are kept."""
        return self._used_bytes

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of `key`, computing it where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                self.hits += 1
                return cast(T, self._values[key][0])
            self.misses += 1
        value = compute()
        size = tensor_bytes(value)
        with self._lock:
            if size <= self.max_bytes and key not in self._values:
                self._values[key] = (value, size)
                self._used_bytes += size
                while self._used_bytes > self.max_bytes:
                    _, (_, freed) = self._values.popitem(last=False)
                    self._used_bytes -= freed
        return value

    def clear(self) -> None:
        """Forget everything, as after a change of the weights."""
        with self._lock:
            self._values.clear()
            self._used_bytes = 0


def tensor_bytes(value: object) -> int:
    """Return the bytes of all tensors in a value: a tensor, or a nest of tuples, lists, mappings and dataclasses.

    >>> tensor_bytes((torch.zeros(2), [torch.zeros(3)]))
    20
    """
    if isinstance(value, torch.Tensor):
        return value.element_size() * value.nelement()
    if is_dataclass(value):
        return sum(tensor_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return sum(tensor_bytes(each) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(tensor_bytes(each) for each in value)
    return 0


def frame_digest(frame: NDArray[np.uint8]) -> bytes:
    """Return a key for a frame's content: equal for equal pixels of equal shape only."""
    digest = hashlib.blake2b(repr(frame.shape).encode(), digest_size=20)
    digest.update(np.ascontiguousarray(frame).data)
    return digest.digest()


def with_references(frames: Iterable[T], count: int) -> Iterator[tuple[T, tuple[T, ...]]]:
    """Yield each frame with its `count` reference frames, looking at most `count` frames ahead and back.

    The choice is `reference_frames`: half before and half after the key frame, more from one side at the clip's ends.
    The clip's length need not be known: away from its end the choice does not depend on it.

    >>> [references for _, references in with_references(range(6), 4)][:3]
    [(1, 2, 3, 4), (0, 2, 3, 4), (0, 1, 3, 4)]
    """
    source = iter(frames)
    window: OrderedDict[int, T] = OrderedDict()
    n_read, key, ended = 0, 0, False
    while True:
        ahead = max(key + count - count // 2, count)
        while not ended and n_read <= ahead:
            try:
                window[n_read] = next(source)
                n_read += 1
            except StopIteration:
                ended = True
        if key >= n_read:
            return
        chosen = reference_frames(key, n_read, count)
        yield window[key], tuple(window[index] for index in chosen)
        key += 1
        while window and next(iter(window)) < key - count:
            window.popitem(last=False)

"""Guidance kept on disk: [SEG] embeddings by instruction or task, so that the guide need not be asked again.

Training the stages, as VLTP does it, reads one embedding per task and never runs the language model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from leanseg.errors import InputError, WeightsError, unknown_name
from leanseg.models.instructseg import files
from leanseg.models.vltp.guide import SegStates
from leanseg.shapes import Float

# A file that claims more than this is no guidance: a million embeddings of SAM's width are a gibibyte.
MAX_FILE_BYTES = 4 * 1024**3
MOST_ROWS = 64


class GuidanceCache(Mapping[str, Tensor]):
    """Projected [SEG] embeddings (S, C) by key, an instruction or a task's id; S = 0 where nothing was named.

    It is what `segment(..., guidance=cache)` takes. `save` and `load`: one safetensors file, nothing of it is run.

    >>> cache = GuidanceCache(dim=4)
    >>> cache["cut the bread"] = torch.ones(1, 4)
    >>> cache.batch(["cut the bread", "cut the bread"]).conversation.tolist()
    [0, 1]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._rows: dict[str, Tensor] = {}

    def __getitem__(self, key: str) -> Float[Tensor, "s c"]:
        return self._rows[key]

    def __setitem__(self, key: str, rows: Tensor) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.dim or rows.shape[0] > MOST_ROWS or not rows.is_floating_point():
            raise InputError(
                f"guidance for {key!r} is {rows.dtype} {tuple(rows.shape)}; expected floating point (S, {self.dim}) "
                f"with at most {MOST_ROWS} rows"
            )
        if not key:
            raise InputError("guidance was given without a key; expected an instruction or a task's id")
        self._rows[key] = rows.detach().to("cpu", copy=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, keys: Sequence[str]) -> SegStates:
        """Return the embeddings (R, C) of several keys, one after the other, and the number of each one's key (R,)."""
        for key in keys:
            if key not in self._rows:
                raise InputError(unknown_name("guidance", key, self._rows))
        counts = torch.tensor([len(self._rows[key]) for key in keys], dtype=torch.int64)
        rows = [torch.zeros((0, self.dim)), *(self._rows[key].float() for key in keys)]
        return SegStates(torch.cat(rows), torch.arange(len(keys)).repeat_interleave(counts))

    def save(self, path: str | Path) -> None:
        """Write all embeddings to one safetensors file, which replaces an older one at once."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        tensors = {key: rows.contiguous() for key, rows in self._rows.items()}
        save_file(tensors, temporary, metadata={"format": "pt"})
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path, dim: int = 256) -> GuidanceCache:
        """Read a file of embeddings `dim` wide; every shape is checked before anything is read."""
        path = Path(path)
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise WeightsError(
                f"{path} is no file of at most {MAX_FILE_BYTES} bytes; expected guidance that GuidanceCache.save wrote"
            )
        stored = files.tensors_of_file(path)
        wrong = [
            f"{name!r} {list(each.shape)}"
            for name, each in stored.items()
            if each.shape[1:] != (dim,) or each.shape[0] > MOST_ROWS
        ]
        if wrong:
            raise WeightsError(
                f"{path} holds {len(wrong)} tensors that are no embeddings (S, {dim}): {', '.join(wrong[:5])}; give "
                "the dim of the model that made them"
            )
        cache = cls(dim)
        for key, rows in files.read_tensors(stored, torch.device("cpu")):
            cache[key] = rows
        return cache

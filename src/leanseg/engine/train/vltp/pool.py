"""Pictures that the guide and SAM's first blocks have seen already: training the stages runs neither of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from leanseg.engine.train.vltp.pictures import Batch, Picture, make_batch
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.staged_encoder import StagedEncoder

PICTURES_AT_ONCE = 8
POOL_FILE = "{stage}.pool.safetensors"
"""Where a stage keeps its pool, in the folder of its run."""


@dataclass(frozen=True, kw_only=True)
class PooledBatch:
    """B pictures of a pool: their pixels, SAM's tokens (B, h, w, D) before the first stage, guidance (R, C), owners."""

    batch: Batch
    tokens: Tensor
    guidance: Tensor
    owner: Tensor


class Pool:
    """Tokens before the first stage (float16) and guidance of pictures, made once and kept in a file."""

    def __init__(self, pictures: Sequence[Picture], config: VLTPConfig, tokens: Tensor, guidance: Tensor) -> None:
        self.pictures, self.config, self.tokens, self.guidance = tuple(pictures), config, tokens, guidance
        counts = [len(each.texts) for each in pictures]
        self._first = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, count: int, key: tuple[int, ...], device: torch.device) -> PooledBatch:
        """Return `count` different pictures and all their instructions; the same key, the same pictures."""
        chosen = np.random.default_rng(key).permutation(len(self))[:count]
        return self.take([int(index) for index in chosen], device)

    def take(self, chosen: Sequence[int], device: torch.device) -> PooledBatch:
        """Return the pictures of these numbers."""
        rows = [np.arange(self._first[index], self._first[index + 1]) for index in chosen]
        owner = torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(each) for each in rows]))
        return PooledBatch(
            batch=make_batch([self.pictures[index] for index in chosen], self.config),
            tokens=self.tokens[list(chosen)].to(device).float(),
            guidance=self.guidance[np.concatenate(rows)].to(device),
            owner=owner.to(device),
        )


def make_pool(model: VLTP, pictures: Sequence[Picture], path: Path | None = None, *, first: int | None = None) -> Pool:
    """Run the guide and SAM's first blocks on all pictures, or read `path` if it is of this model and these pictures.

    A pool with a path is written some pictures at a time and read memory-mapped: it takes room on disk, not in memory.
    `first`: how many blocks; None = those before the configuration's first stage.
    """
    first = first_stage(model.config) if first is None else first
    looks = _looks(model, pictures, first)
    if path is None:
        tokens, guidance = (torch.cat(parts) for parts in zip(*looks, strict=True))
        return Pool(pictures, model.config, tokens, guidance)
    key = _fingerprint(model, pictures, first)
    if _key_of(path) != key:
        sam, n_texts = model.config.sam, sum(len(each.texts) for each in pictures)
        tokens_shape = (len(pictures), sam.grid.height, sam.grid.width, sam.width)
        _write(path, key, looks, tokens_shape, (n_texts, sam.dim))
    with safe_open(path, framework="pt") as file:  # its tensors are maps of the file, and outlive the handle
        return Pool(pictures, model.config, file.get_tensor("tokens"), file.get_tensor("guidance"))


def _looks(model: VLTP, pictures: Sequence[Picture], first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield tokens (B, h, w, D) in float16 and guidance (R, C) in float32 of some pictures at a time."""
    eye = model.sam.image_encoder
    encoder = StagedEncoder(eye.blocks[:first], (), embed=eye.embed)
    for start in range(0, len(pictures), PICTURES_AT_ONCE):
        batch = make_batch(pictures[start : start + PICTURES_AT_ONCE], model.config)
        with torch.no_grad():
            tokens = encoder.prefix(batch.sam.to(model.device)).tokens.half().cpu()
            guidance = [
                model.guidance(pixels[None], picture.texts).states.float().cpu()
                for picture, pixels in zip(batch.pictures, batch.clip, strict=True)
            ]
        yield tokens, torch.cat(guidance)


def _key_of(path: Path) -> str | None:
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        key: str | None = (file.metadata() or {}).get("of")
    return key


def _write(
    path: Path,
    key: str,
    looks: Iterator[tuple[Tensor, Tensor]],
    tokens_shape: tuple[int, ...],
    guidance_shape: tuple[int, ...],
) -> None:
    """Write a safetensors file as its content is made (the library's writer wants whole tensors), and put it at `path`.

    Its format: the header's length in 8 bytes, the header in JSON, the tensors' bytes.
    """
    middle = 4 * math.prod(guidance_shape)
    parts = {
        "__metadata__": {"of": key},
        "guidance": {"dtype": "F32", "shape": guidance_shape, "data_offsets": (0, middle)},
        "tokens": {
            "dtype": "F16",
            "shape": tokens_shape,
            "data_offsets": (middle, middle + 2 * math.prod(tokens_shape)),
        },
    }
    header = json.dumps(parts).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        ends = [file.tell() + middle, file.tell()]
        for made in looks:
            for number, tensor in enumerate(made):
                file.seek(ends[number])
                file.write(tensor.contiguous().numpy().data)
                ends[number] = file.tell()
    os.replace(temporary, path)


def _fingerprint(model: VLTP, pictures: Sequence[Picture], first: int) -> str:
    """Return what a pool depends on, hashed: guide's and encoder's last words, the first stage, pictures and texts."""
    digest = hashlib.sha256(repr(first).encode())
    for tensor in (model.sam.image_encoder.pos_embed, *model.seg_projector.parameters(), model.mllm.lm_head.weight):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    for picture in pictures:
        digest.update(picture.image.tobytes())
        digest.update("\n".join(picture.texts).encode())
    return digest.hexdigest()


def first_stage(config: VLTPConfig) -> int:
    """Return after how many blocks guidance is needed for the first time."""
    return min((place for place, _ in config.stages), default=0)

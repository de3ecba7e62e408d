"""SAM's image encoder timed part by part, as it is and with VLTP's stages; and what each part multiplies and adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from leanseg.core import Grid
from leanseg.costs import SamSizes, formulas, sam_exact
from leanseg.engine.bench.stages import noise_clip
from leanseg.engine.bench.timing import Laps
from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.model import Sam
from leanseg.models.sam.pictures import sam_pixels
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder, StagedOutput
from leanseg.pruners.staged.vltp import LearnedPruner
from leanseg.shapes import Float, Tensor

PATCHES, PRUNE, NECK = "patches", "prune decoder", "neck"
GIGA = 1e9


@dataclass(frozen=True, eq=False)
class Subject:
    """A SAM of random weights with a prune decoder, a picture of noise, and a [SEG] embedding of noise."""

    sam: Sam
    scorer: PruneScorer
    pixels: Float[Tensor, "1 3 s s"]
    guidance: Float[Tensor, "1 c"]

    @classmethod
    def of(cls, config: SamConfig, device: torch.device) -> Subject:
        """Make the same one each time; torch's own random numbers go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sam, decoder = Sam(config).eval(), PruneDecoder(config).eval()
            for name, parameter in sam.named_parameters():
                if "rel_pos" in name or "pos_embed" in name:
                    torch.nn.init.normal_(parameter, std=0.02)
            guidance = torch.randn(1, config.dim)
        pixels, _ = sam_pixels(noise_clip(1)[0], size=config.image_size)
        sam.to(device)
        scorer = PruneScorer(decoder.to(device), sam.prompt_encoder)
        return cls(sam, scorer, pixels[None].to(device), guidance.to(device))

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.pixels.device


def spans(after: Sequence[int], depth: int) -> Iterator[tuple[str, int, int]]:
    """Yield the blocks between stages: what they are called, counted from 1, and where they begin and end.

    >>> list(spans((6, 11), 12))
    [('blocks 1 to 6', 0, 6), ('blocks 7 to 11', 6, 11), ('block 12', 11, 12)]
    """
    for first, last in pairwise((0, *after, depth)):
        yield f"blocks {first + 1} to {last}" if last > first + 1 else f"block {last}", first, last


def plain_run(subject: Subject, after: Sequence[int]) -> tuple[Laps, Tensor]:
    """Encode all tokens to the end, with a lap wherever a stage would be."""
    encoder, laps = subject.sam.image_encoder, Laps(subject.device)
    tokens = encoder.embed(subject.pixels)
    laps.lap(PATCHES)
    for name, first, last in spans(after, subject.sam.config.depth):
        for block in encoder.blocks[first:last]:
            tokens = block(tokens)
        laps.lap(name)
    embedding = encoder.to_embedding(tokens)
    laps.lap(NECK)
    return laps, embedding


def staged_run(subject: Subject, after: Sequence[int], dropped: float) -> tuple[Laps, StagedOutput]:
    """Encode with a share of the tokens dropped at each stage, and the prune decoder apart.

    Choosing the highest logits, laying out windows, taking rows out and putting them back count as the blocks' time.
    """
    encoder, laps = subject.sam.image_encoder, Laps(subject.device)
    names = iter([name for name, _, _ in spans(after, subject.sam.config.depth)])

    def embed(pixels: Tensor) -> Tensor:
        tokens = encoder.embed(pixels)
        laps.lap(PATCHES)
        return tokens

    def score(features: Tensor, grid: Grid, guidance: Tensor) -> Tensor:
        laps.lap(next(names))
        logits: Tensor = subject.scorer(features, grid, guidance)
        laps.lap(PRUNE)
        return logits

    def neck(tokens: Tensor) -> Tensor:
        laps.lap(next(names))
        return encoder.to_embedding(tokens)

    pruner = LearnedPruner(keep_ratio=round(1 - dropped, 9), scorer=score)
    staged = StagedEncoder(encoder.blocks, [Stage(place, pruner) for place in after], embed=embed, neck=neck)
    output = staged(subject.pixels, subject.guidance)
    laps.lap(NECK)
    return laps, output


def multiply_adds(config: Any, after: Sequence[int], kept: Mapping[int, Sequence[int]]) -> dict[str, float]:
    """Return 1e9 multiply-adds by the names of the laps; `kept`: the tokens kept after a block, nothing = all."""
    sizes = SamSizes.of(config)
    counts: dict[str, float] = {PATCHES: formulas.convolution(sizes.n_tokens, sizes.patch_size, 3, sizes.width)}
    active: int | Sequence[int] = sizes.n_tokens
    for name, first, last in spans(after, sizes.depth):
        active = kept.get(first, active)
        counts[name] = sum(sum(sam_exact.block(sizes, index, active)[1:]) for index in range(first, last))
    if kept:
        counts[PRUNE] = len(kept) * sam_exact.prune_decoder(sizes)
    counts[NECK] = sam_exact.neck(sizes)
    return {name: count / GIGA for name, count in counts.items()}


def paired(first: Callable[[], Any], second: Callable[[], Any], repeat: int) -> tuple[Any, Any]:
    """Run both, the second before the first in every other repeat, so that a machine's drift favours neither."""
    if repeat % 2:
        later = second()
        return first(), later
    return first(), second()

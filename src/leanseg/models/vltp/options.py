"""How to segment with VLTP: the options of one call, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from leanseg.core.budget import check_ratio
from leanseg.errors import InputError, unknown_name
from leanseg.models.vltp.active import POLICIES
from leanseg.models.vltp.conversation import ANSWER
from leanseg.models.vltp.encoders import PrunedEncoder
from leanseg.models.vltp.staged_encoder import SEVERAL
from leanseg.pruners import Pruner

VISUALS = ("all", "blind")


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment; every field stands in the result's protocol.

    `stages`, `pruner`, `policy`, `reactivate`, `confidence` as in `VLTP.encoder`; `keep_ratio` replaces that of every
    stage.
    `encoder` is used instead of all of them: another method's, or one's own. `several`: one pass for each [SEG]
    ("per_prompt"), or one that keeps what any of them wants ("union"); None = the model's. `answer` is put into the
    guide's mouth; with `generate` it answers freely, with several [SEG] or none. `guidance`: projected [SEG] embeddings
    (S, C) by instruction, for which the guide is not asked. `visual` "blind": the guide does not see the picture, SAM
    does. Below `no_object_threshold` on the score the mask is empty (None = never). `soft` adds the probabilities.
    `model_name` is what the protocol calls the model.
    """

    pruner: Pruner | str | partial[Pruner] | None = None
    stages: Sequence[tuple[int, float]] | None = None
    keep_ratio: float | None = None
    policy: str | None = None
    reactivate: bool | None = None
    confidence: float | None = None
    encoder: PrunedEncoder | None = None
    several: str | None = None
    answer: str = ANSWER
    generate: bool = False
    guidance: Mapping[str, Tensor] | None = None
    visual: str = "all"
    no_object_threshold: float | None = None
    soft: bool = False
    model_name: str = "vltp"

    # Checked below, by errors that say what to do; run-time type checks would speak first.
    __no_type_check__ = True

    def __post_init__(self) -> None:
        for name, known in (("visual", VISUALS), ("several", SEVERAL), ("policy", POLICIES)):
            value = getattr(self, name)
            if value not in known and not (value is None and name != "visual"):
                raise InputError(unknown_name(name, str(value), known))
        if self.pruner is not None and not isinstance(self.pruner, Pruner | str | partial):
            raise InputError(f"pruner is {self.pruner!r}; expected a Pruner, or a spec such as 'evtp(keep_ratio=0.2)'")
        if isinstance(self.pruner, Pruner):
            check_pruner(self.pruner)
        if self.stages is not None and not _are_pairs(self.stages):
            raise InputError(f"stages are {self.stages!r}; expected pairs (after_block, keep_ratio), or () for none")
        if self.keep_ratio is not None:
            check_ratio(self.keep_ratio)
        if self.confidence is not None and not isinstance(self.confidence, int | float):
            raise InputError(f"confidence is {self.confidence!r}; expected a number in 0.5 to 1, such as 0.95")
        if self.encoder is not None:
            beside = [name for name in ENCODER_OPTIONS if getattr(self, name) is not None]
            if not isinstance(self.encoder, PrunedEncoder) or beside:
                raise InputError(
                    f"encoder is a {type(self.encoder).__name__}, beside {beside or 'nothing else'}; expected one with "
                    "prefix and rest, as leanseg.models.vltp.encoders.pruned_encoder makes, and no other choice"
                )
        if self.no_object_threshold is not None and not 0 <= self.no_object_threshold <= 1:
            raise InputError(f"no_object_threshold={self.no_object_threshold}; a score lies in 0..1: give one or None")
        if not isinstance(self.answer, str):
            raise InputError(f"answer is {self.answer!r}; expected text such as {ANSWER!r}, or generate=True beside it")


ENCODER_OPTIONS = ("pruner", "stages", "keep_ratio", "policy", "reactivate", "confidence")


def check_pruner(given: Pruner) -> None:
    """Refuse a method that looks at what no stage inside SAM has."""
    lacking = [cue for cue in given.cues if cue != "guidance"]
    if lacking or given.scope != "frame":
        wants = " and ".join(lacking) or "a clip's frames in one row"
        raise InputError(
            f"{given.spec()} wants {wants}; inside SAM a method sees one picture's features, grid and guidance: "
            "choose another"
        )


def _are_pairs(stages: Any) -> bool:
    return isinstance(stages, Sequence) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in stages)


def read_options(given: Mapping[str, Any]) -> SegmentOptions:
    """Build the options from keyword arguments, refusing an unknown one with close matches."""
    known = [each.name for each in fields(SegmentOptions)]
    for name in given:
        if name not in known:
            raise InputError(unknown_name("option of segment", name, known))
    return SegmentOptions(**given)


def known_guidance(options: SegmentOptions, instruction: str, dim: int) -> Tensor | None:
    """Return the embeddings that were given for an instruction, checked, or None."""
    found = None if options.guidance is None else options.guidance.get(instruction)
    if found is None:
        return None
    if not isinstance(found, Tensor) or found.shape[1:] != (dim,) or not bool(torch.isfinite(found).all()):
        given = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"guidance for {instruction!r} is {given}; expected finite [SEG] embeddings (S, {dim}), as the model's "
            "guidance(...) returns"
        )
    return found

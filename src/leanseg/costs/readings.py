"""The named options of both modes, checked where they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from leanseg.costs.sizes import Sizes
from leanseg.errors import InputError, unknown_name

MOST_TOKENS = 100_000
Readings = TypeVar("Readings", bound="PaperReadings | ExactReadings")


@dataclass(frozen=True, kw_only=True)
class PaperReadings:
    """How to read what the paper's closed forms leave open; the defaults are those that its headline figures fit.

    `seq_reading`: the visual tokens of the sequence on clips, "VF" = K per frame times frames (the text) or "V" = K
    (the formula as printed). `vision_times_frames`: the vision encoder runs once per frame, or once. `teff`: the text
    tokens of VMTF, "T", "T+fix" or "S". `temporal_on_images`: the temporal term with one frame, or nothing.
    `prune_reading`: clips are pruned "per_frame", "joint" over all frames, or "once" for one frame; "auto" = per_frame
    where `seq_reading` counts frames, else once. `prune_at_full`: count pruning also where every token is kept, as the
    formula does. `mask_reading`: the visual tokens of mask decoder and VMTF on clips, "V" or "VF".
    """

    seq_reading: str = "VF"
    teff: str = "T"
    vision_times_frames: bool = True
    temporal_on_images: bool = True
    prune_reading: str = "auto"
    prune_at_full: bool = True
    mask_reading: str = "V"

    def __post_init__(self) -> None:
        _check_choice(self, "seq_reading", ("VF", "V"))
        _check_choice(self, "teff", ("T", "T+fix", "S"))
        _check_choice(self, "prune_reading", ("auto", "per_frame", "once", "joint"))
        _check_choice(self, "mask_reading", ("V", "VF"))


@dataclass(frozen=True, kw_only=True)
class ExactReadings:
    """What is run, and on what.

    `cached`: True = as this library, every frame is encoded, pruned and condensed once, layers that nobody reads are
    not run; False = as released, everything anew for each answer. `site`: before_projector or after_projector.
    `selection`: "evtp" = greedy k-center on features and places, "free" = a method without matrix work. `instructions`
    asked of each frame share what is cached. `text_tokens`: those of the instruction, None = the data set's.
    `template_tokens`: those around it, None = 69 for images and 80 for clips, which is what the release's template has
    under its tokenizer. `sizes`: those of the model, None = released; any object with `InstructSegConfig`'s fields.
    """

    cached: bool = True
    site: str = "before_projector"
    selection: str = "evtp"
    instructions: int = 1
    text_tokens: int | None = None
    template_tokens: int | None = None
    sizes: Any = None

    def __post_init__(self) -> None:
        _check_choice(self, "site", ("before_projector", "after_projector"))
        _check_choice(self, "selection", ("evtp", "free"))
        for name, least in (("instructions", 1), ("text_tokens", 0), ("template_tokens", 0)):
            given = getattr(self, name)
            if given is not None and not least <= given <= MOST_TOKENS:
                raise InputError(f"{name} is {given}; expected {least} to {MOST_TOKENS}")
        object.__setattr__(self, "sizes", Sizes.of(self.sizes))
        if not self.cached and self.instructions > 1:
            raise InputError(
                f"instructions={self.instructions} with cached=False; as released nothing is shared between "
                "instructions: leave it at 1"
            )


READINGS: dict[str, type[PaperReadings] | type[ExactReadings]] = {"paper": PaperReadings, "exact": ExactReadings}


def read(kind: type[Readings], given: Mapping[str, Any]) -> Readings:
    """Build the readings of a mode from keyword arguments, refusing an unknown one with close matches."""
    known = {each.name: each.default for each in fields(kind)}
    for name, value in given.items():
        if name not in known:
            raise InputError(unknown_name("reading", name, known))
        if isinstance(known[name], bool) and not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}; expected True or False")
        is_count = name in ("instructions", "text_tokens", "template_tokens")
        if is_count and value is not known[name] and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{name} is {value!r}; expected a whole number")
        if isinstance(known[name], str) and not isinstance(value, str):
            raise InputError(f"{name} is {value!r}; expected text such as {known[name]!r}")
    return kind(**given)


def stated(readings: PaperReadings | ExactReadings) -> tuple[tuple[str, Any], ...]:
    """Return the readings as (name, value), without the sizes."""
    return tuple((each.name, getattr(readings, each.name)) for each in fields(readings) if each.name != "sizes")


def _check_choice(readings: object, name: str, known: Iterable[str]) -> None:
    given = getattr(readings, name)
    if given not in known:
        raise InputError(unknown_name(name, str(given), known))

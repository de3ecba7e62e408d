"""How to segment: the options of one call, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from leanseg.errors import InputError, unknown_name
from leanseg.models.instructseg.assembly import POSITION_IDS
from leanseg.models.instructseg.prompt import TEMPLATES, find_task
from leanseg.pruners import Pruner, ToMe

SITES = ("before_projector", "after_projector", "inside_encoder")
VISUALS = ("all", "ovp_only", "blind")


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment; every field stands in the result's protocol.

    `pruner` chooses the visual tokens that stay, on the key frame and on every reference frame (None = all stay);
    `site` says whether it looks at the vision tower's output or at the projector's, or acts inside the tower (`tome`:
    a share of the tokens is merged in every layer). A pruner of scope "clip" chooses among a key frame's and its
    references' tokens together, in time order. `mass_preserving` (ours) adds log(tokens that a kept one stands for) to
    its attention logits in the language model. `task` None means referring; the
    names `referring` and `reasoning` take their form for clips when there is more than one frame. `position_ids` and
    `template` (None = the model's own) as in `InstructSeg.assemble` and `prompt_text`. `visual`: `all`; `ovp_only` =
    the key frame's tokens do not enter the language model, temporal tokens do; `blind` = neither does, and the vision
    tower is not run. Below `no_object_threshold` on the score the mask is empty (None = never, as released). `soft`
    adds the winning mask's probabilities, `coverage` measures every selection. `instructions_per_pass` bounds the
    batch of the language model. `model_name` is what the protocol calls the model.
    """

    pruner: Pruner | None = None
    task: str | None = None
    site: str = "before_projector"
    mass_preserving: bool = False
    position_ids: str = "compact"
    template: str | None = None
    visual: str = "all"
    no_object_threshold: float | None = None
    soft: bool = False
    coverage: bool = True
    instructions_per_pass: int = 8
    model_name: str = "instructseg"

    def __post_init__(self) -> None:
        if self.task is not None:
            find_task(self.task)
        for name, known in (("site", SITES), ("position_ids", POSITION_IDS), ("visual", VISUALS)):
            if getattr(self, name) not in known:
                raise InputError(unknown_name(name, str(getattr(self, name)), known))
        if self.template is not None and self.template not in TEMPLATES:
            raise InputError(unknown_name("template", self.template, TEMPLATES))
        if self.no_object_threshold is not None and not 0 <= self.no_object_threshold <= 1:
            raise InputError(f"no_object_threshold={self.no_object_threshold}; a score lies in 0..1: give one or None")
        if self.instructions_per_pass < 1:
            raise InputError(f"instructions_per_pass={self.instructions_per_pass}; expected at least 1")
        if self.site == "inside_encoder" and not isinstance(self.pruner, ToMe):
            given = "no pruner" if self.pruner is None else self.pruner.spec()
            raise InputError(f"site inside_encoder with {given}; expected tome, the one that merges layer by layer")
        if self.site == "inside_encoder" and isinstance(self.pruner, ToMe) and self.pruner.metric != "keys":
            raise InputError(
                f"site inside_encoder with {self.pruner.spec()}; expected metric='keys': layers match by their keys"
            )
        if "guidance" in self.language_cues and self.site != "after_projector":
            raise InputError(
                f"{self.pruner.spec() if self.pruner else ''} is steered by the instruction's embedding, which has the "
                f"language model's width; expected site='after_projector', not {self.site!r}"
            )

    @property
    def tower_cues(self) -> tuple[str, ...]:
        """The cues that the pruner asks of the vision tower: `attention`, `keys`."""
        if self.pruner is None or self.site == "inside_encoder":
            return ()
        asked = self.pruner.cues
        return tuple(cue for cue in ("attention", "keys") if cue in asked and cue not in self.language_cues)

    @property
    def language_cues(self) -> tuple[str, ...]:
        """The cues that depend on the instruction, so that each instruction has a choice of tokens of its own."""
        if self.pruner is None:
            return ()
        from_language = self.pruner.attention_from == "language"
        return tuple(c for c in self.pruner.cues if c == "guidance" or (c == "attention" and from_language))

    def task_for(self, is_clip: bool) -> str:
        """Return the full task name for an image or a clip."""
        named = find_task(self.task or "referring").name
        return f"video_{named}" if is_clip and not named.startswith("video_") else named


def read_options(given: Mapping[str, Any]) -> SegmentOptions:
    """Build the options from keyword arguments, refusing an unknown one with close matches."""
    known = [each.name for each in fields(SegmentOptions)]
    for name in given:
        if name not in known:
            raise InputError(unknown_name("option of segment", name, known))
    pruner = given.get("pruner")
    if pruner is not None and not isinstance(pruner, Pruner):
        raise InputError(
            f"pruner is {pruner!r}; expected a Pruner such as EVTP(keep_ratio=0.2); "
            "turn a spec string into one with leanseg.pruner(...)"
        )
    return SegmentOptions(**given)

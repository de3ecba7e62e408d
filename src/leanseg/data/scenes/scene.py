"""The data that a generated scene or clip consists of, and the knobs of the generator."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leanseg.errors import InputError, unknown_name

KINDS = (
    "noun", "all", "attribute", "position", "color", "relation", "category", "affordance", "except", "ordinal",
)  # fmt: skip
"""The kinds of instruction that a scene emits, uniformly over those that it offers."""

TASK_KINDS = ("affordance", "category", "noun", "all")
"""Kinds that name what is wanted by its use or its kind, as data sets of tasks do."""

EXTRA_KINDS = ("motion", "no_target")
"""Kinds that must be asked for: motion needs a clip, no_target has an empty answer."""

LAYOUTS = ("mixed", "repeated", "tinted", "affordance", "category", "school")
REDUNDANCIES = ("static", "slow", "fast")


@dataclass(frozen=True)
class SceneOptions:
    """What to generate. Sizes are fractions of the canvas side; ranges include both ends.

    `items`, `phrasings` and `relations` say whether the held-out drawings, sentences and (name, relation) pairs are
    used ("heldout") or avoided ("train"). `frames` and `redundancy` matter to clips only.
    """

    canvas: int = 192
    n_instructions: int = 8
    objects: tuple[int, int] = (2, 6)
    sizes: tuple[float, float] = (0.16, 0.46)
    layout: str = "mixed"
    kinds: tuple[str, ...] = KINDS
    items: str = "train"
    phrasings: str = "train"
    relations: str = "train"
    frames: int = 8
    redundancy: str = "slow"

    def __post_init__(self) -> None:
        """Refuse values that cannot make a scene."""
        for kind in self.kinds:
            if kind not in KINDS + EXTRA_KINDS:
                raise InputError(unknown_name("instruction kind", kind, KINDS + EXTRA_KINDS))
        if self.layout not in LAYOUTS:
            raise InputError(unknown_name("layout", self.layout, LAYOUTS))
        if self.redundancy not in REDUNDANCIES:
            raise InputError(unknown_name("redundancy", self.redundancy, REDUNDANCIES))
        for name in ("items", "phrasings", "relations"):
            if getattr(self, name) not in ("train", "heldout"):
                raise InputError(unknown_name(f"choice of {name}", getattr(self, name), ("train", "heldout")))
        if not 32 <= self.canvas <= 4096:
            raise InputError(f"canvas is {self.canvas} pixels; expected 32 to 4096; choose another canvas side")
        if not 1 <= self.objects[0] <= self.objects[1] <= 30:
            raise InputError(f"objects is {self.objects}; expected 1 <= low <= high <= 30; choose another range")
        if not 0.02 <= self.sizes[0] <= self.sizes[1] <= 0.9:
            raise InputError(f"sizes is {self.sizes}; expected 0.02 <= low <= high <= 0.9; choose another range")
        if self.n_instructions < 1 or self.frames < 1 or not self.kinds:
            raise InputError(
                f"n_instructions {self.n_instructions}, frames {self.frames}, {len(self.kinds)} kinds; expected at "
                "least one of each; raise them"
            )


@dataclass(frozen=True)
class SceneObject:
    """One drawn thing. `center` is (y, x) in [0, 1], `size` the longest side as a fraction of the canvas side."""

    item: str
    item_index: int
    tint: str | None
    center: tuple[float, float]
    size: float
    angle: float = 0.0
    mirrored: bool = False
    usable: bool = True
    """Whether enough of it can be seen for an instruction to mean it."""


@dataclass(frozen=True)
class SceneInstruction:
    """One sentence and the indices of the objects that it asks for; the answer is the union of their masks."""

    text: str
    kind: str
    targets: tuple[int, ...]
    task: str


@dataclass(frozen=True)
class Scene:
    """A picture: `image` uint8 (H, W, 3), `masks` bool (n, H, W) of what is visible of each object."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: tuple[SceneObject, ...]
    instructions: tuple[SceneInstruction, ...]
    seed: int

    def target(self, instruction: SceneInstruction) -> NDArray[np.bool_]:
        """Return the answer to an instruction, bool (H, W)."""
        return np.asarray(self.masks[list(instruction.targets)].any(axis=0))


@dataclass(frozen=True)
class ClipScene:
    """A clip: `frames` uint8 (T, H, W, 3), `masks` bool (T, n, H, W); objects as they are in the first frame."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: tuple[SceneObject, ...]
    instructions: tuple[SceneInstruction, ...]
    seed: int
    redundancy: str = "slow"
    tracks: tuple[tuple[tuple[float, float], ...], ...] = field(default=())
    """For each object its centre (y, x) in every frame."""

    def target(self, instruction: SceneInstruction) -> NDArray[np.bool_]:
        """Return the answer to an instruction, bool (T, H, W)."""
        return np.asarray(self.masks[:, list(instruction.targets)].any(axis=1))

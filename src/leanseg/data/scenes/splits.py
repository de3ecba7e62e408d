"""The named sets of scenes and clips: what each holds, which seeds it owns, and the hash that pins it.

Training owns every seed below 2**40; each evaluation split owns a range above, so they can never share a scene.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np

from leanseg.data.sample import Sample
from leanseg.data.scenes.clips import generate_clip
from leanseg.data.scenes.generate import generate_scene
from leanseg.data.scenes.scene import KINDS, TASK_KINDS, ClipScene, Scene, SceneOptions
from leanseg.errors import DataError, InputError, unknown_name

TRAIN_SCENES = 1_000_000
PREFIX = 3
_FIRST_SEED = 2**40
_SEEDS_PER_SPLIT = 2**32
_CACHED_SCENES = 8


@dataclass(frozen=True)
class Split:
    """A named set: `mixture` lists the redundancy of each clip in turn; an empty one means pictures."""

    name: str
    about: str
    scenes: int
    first_seed: int
    options: SceneOptions
    mixture: tuple[str, ...] = ()

    @property
    def is_clip(self) -> bool:
        """Whether the split holds clips."""
        return bool(self.mixture)

    def scene(self, index: int) -> Scene | ClipScene:
        """Return scene or clip number `index`."""
        if not 0 <= index < self.scenes:
            raise IndexError(f"split {self.name!r} has {self.scenes} scenes; there is no number {index}")
        if not self.mixture:
            return generate_scene(self.first_seed + index, self.options)
        redundancy = self.mixture[index % len(self.mixture)]
        return generate_clip(self.first_seed + index, replace(self.options, redundancy=redundancy))


_EVALUATED = SceneOptions(n_instructions=4)
_CLIP = replace(_EVALUATED, kinds=(*KINDS, "motion"))
_TASKS = SceneOptions(n_instructions=1, kinds=TASK_KINDS)
_MIXED = ("static", "slow", "fast")
_TABLE: tuple[tuple[str, str, int, SceneOptions, tuple[str, ...]], ...] = (
    ("validation", "like training", 500, _EVALUATED, ()),
    ("test", "like training", 1000, _EVALUATED, ()),
    ("heldout_items", "asks for drawings that training never shows", 500, replace(_EVALUATED, items="heldout"), ()),
    ("heldout_phrasings", "sentences that training never uses", 500, replace(_EVALUATED, phrasings="heldout"), ()),
    (
        "heldout_relations",
        "pairs of name and relation that training never asks for",
        500,
        replace(_EVALUATED, layout="repeated", relations="heldout", kinds=("relation",)),
        (),
    ),
    (
        "school",
        "6 to 9 things, nearly all of one name",
        300,
        replace(_EVALUATED, layout="school", objects=(6, 9), sizes=(0.14, 0.28)),
        (),
    ),
    (
        "tiny",
        "4 to 8 things of 8 to 12 % of the side",
        300,
        replace(_EVALUATED, objects=(4, 8), sizes=(0.08, 0.12)),
        (),
    ),
    ("no_target", "asks for what is not there", 300, replace(_EVALUATED, kinds=("no_target",)), ()),
    ("clips_validation", "clips, a third each static, slow and fast", 150, _CLIP, _MIXED),
    ("clips_test", "clips, a third each static, slow and fast", 300, _CLIP, _MIXED),
    ("fast", "clips of fast things with motion blur", 200, _CLIP, ("fast",)),
    ("clips_no_target", "clips, asks for what is not there", 150, replace(_CLIP, kinds=("no_target",)), _MIXED),
    ("tasks", "asks for what is of use or of a kind, one thing or all", 1000, _TASKS, ()),
    ("tasks_phrasings", "tasks in sentences that training never uses", 500, replace(_TASKS, phrasings="heldout"), ()),
)

SPLITS: dict[str, Split] = {
    "train": Split("train", "pictures without end", TRAIN_SCENES, 0, SceneOptions()),
    "clips_train": Split(
        "clips_train",
        "clips without end, static : slow : fast as 1 : 2 : 1",
        TRAIN_SCENES,
        TRAIN_SCENES,
        SceneOptions(kinds=(*KINDS, "motion")),
        ("static", "slow", "fast", "slow"),
    ),
} | {
    name: Split(name, about, scenes, _FIRST_SEED + number * _SEEDS_PER_SPLIT, options, mixture)
    for number, (name, about, scenes, options, mixture) in enumerate(_TABLE)
}


class SceneDataset:
    """The samples of a split, one per scene and instruction, scene by scene."""

    def __init__(self, part: Split) -> None:
        self.split = part
        self._recent: OrderedDict[int, Scene | ClipScene] = OrderedDict()

    def __len__(self) -> int:
        return self.split.scenes * self.split.options.n_instructions

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"split {self.split.name!r} has {len(self)} samples; there is no number {index}")
        number, which = divmod(index, self.split.options.n_instructions)
        scene = self._scene(number)
        instruction = scene.instructions[which]
        target = scene.target(instruction)
        clip = scene.frames if isinstance(scene, ClipScene) else scene.image[None]
        meta: dict[str, Any] = {
            "split": self.split.name,
            "seed": scene.seed,
            "scene": number,
            "kind": instruction.kind,
            "task": instruction.task,
            "targets": list(instruction.targets),
            "objects": [asdict(item) for item in scene.objects],
        }
        if isinstance(scene, ClipScene):
            meta["redundancy"] = scene.redundancy
        name = f"{self.split.name}/{number:06d}/{which}"
        return Sample(name, clip, instruction.text, target if target.ndim == 3 else target[None], meta)

    def _scene(self, number: int) -> Scene | ClipScene:
        if number not in self._recent:
            self._recent[number] = self.split.scene(number)
            if len(self._recent) > _CACHED_SCENES:
                self._recent.popitem(last=False)
        self._recent.move_to_end(number)
        return self._recent[number]


def split(name: str, *, scenes: int | None = None) -> SceneDataset:
    """Return the data set of this name, or its first `scenes` scenes only."""
    part = find(name)
    if scenes is not None:
        if not 1 <= scenes <= part.scenes:
            raise InputError(f"{scenes} scenes asked of split {name!r}; expected 1 to {part.scenes}; ask for fewer")
        part = replace(part, scenes=scenes)
    return SceneDataset(part)


def find(name: str) -> Split:
    """Return the description of a split."""
    if name not in SPLITS:
        raise InputError(unknown_name("split", name, SPLITS))
    return SPLITS[name]


def content_hash(scenes: Iterator[Scene | ClipScene]) -> str:
    """Return the SHA-256 of scenes in turn: pixels, masks, and the texts, kinds, tasks and targets as JSON."""
    digest = hashlib.sha256()
    for scene in scenes:
        pixels = scene.frames if isinstance(scene, ClipScene) else scene.image
        words = [[one.text, one.kind, one.task, list(one.targets)] for one in scene.instructions]
        digest.update(repr((pixels.shape, scene.masks.shape)).encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        digest.update(np.packbits(scene.masks).tobytes())
        digest.update(json.dumps(words, separators=(",", ":")).encode())
    return digest.hexdigest()


def measure(name: str, *, scenes: int | None = None) -> str:
    """Return the content hash of a split's first scenes (default: all)."""
    part = find(name)
    return content_hash(part.scene(k) for k in range(part.scenes if scenes is None else scenes))


def pins() -> dict[str, dict[str, str]]:
    """Return the pinned hashes: for each evaluation split that of its first `PREFIX` scenes and that of the whole."""
    source = files("leanseg") / "assets" / "scenes" / "pins.json"
    if not source.is_file():
        raise DataError(
            "the file of pinned hashes, leanseg/assets/scenes/pins.json, is missing; expected it in the installed "
            "package; reinstall leanseg"
        )
    found: dict[str, dict[str, str]] = json.loads(source.read_text(encoding="utf-8"))
    return found


def measure_all() -> dict[str, dict[str, str]]:
    """Return what `pins` should say for this generator (about two minutes)."""
    names = [name for name in SPLITS if name not in ("train", "clips_train")]
    return {name: {"prefix": measure(name, scenes=PREFIX), "whole": measure(name)} for name in names}

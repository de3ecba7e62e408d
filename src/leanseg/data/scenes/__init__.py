"""The generated benchmark: scenes and clips of emoji with exact masks, instructions and pinned splits."""

from leanseg.data.scenes.clips import generate_clip
from leanseg.data.scenes.generate import generate_scene
from leanseg.data.scenes.scene import (
    EXTRA_KINDS,
    KINDS,
    TASK_KINDS,
    ClipScene,
    Scene,
    SceneInstruction,
    SceneObject,
    SceneOptions,
)
from leanseg.data.scenes.splits import SPLITS, SceneDataset, Split, split

__all__ = [
    "EXTRA_KINDS",
    "KINDS",
    "SPLITS",
    "TASK_KINDS",
    "ClipScene",
    "Scene",
    "SceneDataset",
    "SceneInstruction",
    "SceneObject",
    "SceneOptions",
    "Split",
    "generate_clip",
    "generate_scene",
    "split",
]

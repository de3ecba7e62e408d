"""The one interface that command line, evaluation and web page see, and how a model is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

import torch

from leanseg.core.tokens import Grid
from leanseg.engine.overlay import TokenLayout, token_layout
from leanseg.errors import InputError, unknown_name
from leanseg.models.instructseg.cache import DEFAULT_BYTES, FrameCache
from leanseg.models.instructseg.files import CONFIG_FILE, is_hub_id, model_folder, read_json
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.options import read_options
from leanseg.models.output import Segmentation

if TYPE_CHECKING:
    from leanseg.models.vltp.model import VLTP

DEFAULT_MODEL = "instructseg-nano"
RELEASE = "weic22/InstructSeg"
# What config.json calls them; a file that says anything else is of the first, whose release has another word.
FAMILIES = ("instructseg", "vltp")


@runtime_checkable
class Segmenter(Protocol):
    """Something that turns a clip and an instruction into masks.

    `segment` takes an image (H, W, 3) or a clip (T, H, W, 3), RGB uint8, and one instruction or a list;
    `segment_stream` takes any iterable of frames and yields one frame's answer at a time. Options are those of the
    model's family; all have `pruner`, `visual`, `no_object_threshold`, `soft`.
    """

    @property
    def name(self) -> str:
        """What results call the model."""
        ...

    @property
    def layout(self) -> TokenLayout:
        """Where the visual tokens lie on a picture, for overlays."""
        ...

    @overload
    def segment(self, clip: Any, instruction: str, **options: Any) -> Segmentation: ...
    @overload
    def segment(self, clip: Any, instruction: list[str], **options: Any) -> list[Segmentation]: ...

    @overload
    def segment_stream(self, frames: Iterable[Any], instruction: str, **options: Any) -> Iterator[Segmentation]: ...
    @overload
    def segment_stream(
        self, frames: Iterable[Any], instruction: list[str], **options: Any
    ) -> Iterator[list[Segmentation]]: ...


@dataclass(frozen=True, eq=False)
class ModelSegmenter:
    """A model with a name and a bounded cache, so that a picture asked about again is not encoded again.

    `layout`: where its visual tokens lie on a picture.
    """

    name: str
    model: InstructSeg | VLTP
    layout: TokenLayout
    cache: FrameCache = field(default_factory=FrameCache)

    @property
    def config(self) -> Any:
        """The model's sizes."""
        return self.model.config

    @overload
    def segment(self, clip: Any, instruction: str, **options: Any) -> Segmentation: ...
    @overload
    def segment(self, clip: Any, instruction: list[str], **options: Any) -> list[Segmentation]: ...
    def segment(self, clip: Any, instruction: Any, **options: Any) -> Any:
        """Segment an image or a clip; options in the `SegmentOptions` of the model's family."""
        return self.model.segment(clip, instruction, **self._with_defaults(options))

    @overload
    def segment_stream(self, frames: Iterable[Any], instruction: str, **options: Any) -> Iterator[Segmentation]: ...
    @overload
    def segment_stream(
        self, frames: Iterable[Any], instruction: list[str], **options: Any
    ) -> Iterator[list[Segmentation]]: ...
    def segment_stream(self, frames: Iterable[Any], instruction: Any, **options: Any) -> Any:
        """Yield one frame's answer at a time with memory independent of the clip's length; options as in `segment`."""
        return self.model.segment_stream(frames, instruction, **self._with_defaults(options))

    def _with_defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"cache": self.cache, "model_name": self.name, **options}


def load(
    name_or_path: str | Path = DEFAULT_MODEL,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    revision: str | None = None,
    local_files_only: bool = False,
    cache_bytes: int = DEFAULT_BYTES,
) -> ModelSegmenter:
    """Load a model: by the name of one in the package, from a folder, or from the Hugging Face hub.

    `load()` is the small model in the package and needs no network; `load("instructseg", path_or_hub_id)` the released
    layout from a folder or the hub; `load(folder)` any saved model, of whichever family its config.json is. `device` is
    `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:n`. `revision` pins a hub repository;
    `local_files_only` never asks the network. No code of a repository is run. `cache_bytes` bounds what is remembered
    of frames between calls; 0 turns that off.

    Raises:
        InputError: an unknown name (with close matches), a missing folder, a device that is not there.
        WeightsError: weights that are missing, corrupt or of another shape.
    """
    source = _resolve(name_or_path, weights)
    folder = model_folder(source, revision=revision, local_files_only=local_files_only)
    family = _family_of_folder(folder)
    if str(name_or_path) in FAMILIES and str(name_or_path) != family:
        raise InputError(
            f"{folder} holds a model of the family {family}; expected one of {name_or_path}; load it as {family!r}"
        )
    name = str(name_or_path) if weights is None else f"{name_or_path}:{weights}"
    cache = FrameCache(cache_bytes)
    if family == "vltp":
        from leanseg.models.vltp.model import VLTP

        guided = VLTP.from_pretrained(folder, dtype=dtype, device=device)
        return ModelSegmenter(name, guided, TokenLayout(guided.config.sam.grid, padded=True), cache)
    model = InstructSeg.from_pretrained(folder, dtype=dtype, device=device)
    vision = model.config.vision
    layout = token_layout(Grid(vision.side, vision.side), vision.image_size, vision.patch_size)
    return ModelSegmenter(name, model, layout, cache)


def family_of(name_or_path: str | Path, weights: str | Path | None = None) -> str:
    """Return the family of a model as far as its name or a local folder says, without loading it."""
    for place in (name_or_path, weights):
        if str(place) in FAMILIES[1:]:
            return str(place)
        folder = None if place is None else local_folder(place)
        if folder is not None and (folder / CONFIG_FILE).is_file():
            return _family_of_folder(folder)
    return FAMILIES[0]


def check_options(family: str, options: Mapping[str, Any]) -> None:
    """Raise the error that `segment` of a model of this family would raise for its options."""
    if family == "vltp":
        from leanseg.models.vltp.options import read_options as read_vltp_options

        read_vltp_options(options)
    else:
        read_options(options)


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models inside the package."""
    folder = assets_folder()
    names = [each.name for each in folder.iterdir() if (each / "config.json").is_file()] if folder.is_dir() else []
    return tuple(sorted(names))


def local_folder(name_or_path: str | Path) -> Path | None:
    """Return the folder of a model in the package, by its name, or on this machine; None if there is none."""
    if str(name_or_path) in shipped_models():
        return assets_folder() / str(name_or_path)
    return Path(name_or_path) if Path(name_or_path).is_dir() else None


def assets_folder() -> Path:
    """Return where the package keeps its models and pictures."""
    return Path(str(resources.files("leanseg") / "assets"))


def _family_of_folder(folder: Path) -> str:
    given = read_json(folder / CONFIG_FILE).get("model_type")
    return given if given in FAMILIES else FAMILIES[0]


def _resolve(name_or_path: str | Path, weights: str | Path | None) -> str | Path:
    """Return the folder or hub id to load."""
    if weights is not None:
        if str(name_or_path) not in (*FAMILIES, *shipped_models()):
            raise InputError(unknown_name("model", str(name_or_path), (*FAMILIES, *shipped_models())))
        return weights
    name = str(name_or_path)
    if name == FAMILIES[0]:
        raise InputError(
            f"the model {name!r} has no weights in this package; give a folder or hub id of the released layout, "
            f"such as {RELEASE!r} (7.4 GB): --weights {RELEASE}, or load({name!r}, weights={RELEASE!r}) in Python"
        )
    if name in FAMILIES:
        raise InputError(
            f"the model {name!r} needs weights; give a folder that VLTP.save_pretrained wrote: --weights FOLDER, or "
            f"load({name!r}, weights=FOLDER) in Python; docs/vltp.md says how a LISA checkpoint becomes one"
        )
    folder = local_folder(name_or_path)
    if folder is not None:
        return folder
    is_plain_path = isinstance(name_or_path, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    if is_plain_path:
        raise InputError(f"no such model folder: {name}; expected one with config.json and safetensors files")
    if is_hub_id(name):
        return name
    raise InputError(unknown_name("model", name, (*FAMILIES, *shipped_models())))

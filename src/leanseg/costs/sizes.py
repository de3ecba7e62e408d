"""The sizes that an exact count needs, taken from any object that has InstructSegConfig's fields."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

from leanseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """InstructSeg's sizes, flat; the defaults are the released ones, which a test compares with `presets.FULL`.

    >>> Sizes().n_tokens, Sizes().levels
    (729, (1024, 4096, 16384))
    """

    vision_width: int = 1152
    vision_hidden: int = 4304
    vision_layers: int = 27
    vision_layers_run: int = 26
    vision_channels: int = 3
    vision_patch: int = 14
    vision_side: int = 27
    vision_head: bool = True
    width: int = 2560
    hidden: int = 10240
    layers: int = 32
    heads: int = 32
    key_value_heads: int = 32
    swin_width: int = 128
    swin_depths: tuple[int, ...] = (2, 2, 18, 2)
    swin_window: int = 12
    swin_mlp_ratio: float = 4.0
    queries: int = 100
    mask_width: int = 256
    mask_heads: int = 8
    mask_layers: int = 9
    mask_hidden: int = 2048
    mask_dim: int = 256
    encoder_layers: int = 6
    encoder_hidden: int = 1024
    encoder_points: int = 4
    ovp_queries: int = 128
    ovp_depth: int = 3
    ovp_inner: int = 1024
    ovp_factor: int = 2
    vmtf_width: int = 1024
    vmtf_depth: int = 3
    vmtf_inner: int = 1024
    vmtf_factor: int = 2
    image_side: int = 1024
    reference_frames: int = 4

    @property
    def n_tokens(self) -> int:
        """Visual tokens of one frame."""
        return self.vision_side**2

    @property
    def map_sides(self) -> tuple[int, int, int, int]:
        """Sides of Swin's maps at strides 4, 8, 16 and 32, rounded up at each step."""
        first = -(-self.image_side // 4)
        second = -(-first // 2)
        third = -(-second // 2)
        return first, second, third, -(-third // 2)

    @property
    def levels(self) -> tuple[int, int, int]:
        """Pixels of the maps at strides 32, 16 and 8, in the mask decoder's order."""
        _, eight, sixteen, thirty_two = self.map_sides
        return thirty_two**2, sixteen**2, eight**2

    @property
    def mask_pixels(self) -> int:
        """Pixels of the map at stride 4, from which masks are read."""
        return self.map_sides[0] ** 2

    @classmethod
    def of(cls, config: Any) -> Sizes:
        """Return the sizes of a config: None = released, an instance of this class as it is, or InstructSegConfig."""
        if config is None or isinstance(config, cls):
            return config or cls()
        try:
            return cls(**_flat(config))
        except AttributeError as error:
            raise InputError(
                f"sizes is {type(config).__name__} ({error}); expected an InstructSegConfig or leanseg.costs.Sizes"
            ) from error

    def __post_init__(self) -> None:
        for each in fields(self):
            given, default = getattr(self, each.name), each.default
            if default is MISSING or isinstance(default, bool):
                continue
            numbers = given if isinstance(default, tuple) and isinstance(given, tuple) else (given,)
            if not numbers or not all(_is_size(number) for number in numbers):
                raise InputError(f"size {each.name} is {given!r}; expected a positive number such as {default!r}")
        if len(self.swin_depths) != 4:
            raise InputError(f"size swin_depths is {self.swin_depths!r}; expected four numbers, one per stage")


def _is_size(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < 1e9


def _flat(config: Any) -> dict[str, Any]:
    vision, language, swin = config.vision, config.language, config.swin
    mask, ovp, vmtf = config.mask, config.ovp, config.vmtf
    return {
        "vision_width": vision.hidden_size,
        "vision_hidden": vision.intermediate_size,
        "vision_layers": vision.num_hidden_layers,
        "vision_layers_run": vision.n_layers_run,
        "vision_channels": vision.num_channels,
        "vision_patch": vision.patch_size,
        "vision_side": vision.side,
        "vision_head": vision.use_head,
        "width": language.hidden_size,
        "hidden": language.intermediate_size,
        "layers": language.num_hidden_layers,
        "heads": language.num_attention_heads,
        "key_value_heads": language.num_key_value_heads,
        "swin_width": swin.embed_dim,
        "swin_depths": tuple(swin.depths),
        "swin_window": swin.window_size,
        "swin_mlp_ratio": swin.mlp_ratio,
        "queries": mask.num_queries,
        "mask_width": mask.hidden_dim,
        "mask_heads": mask.num_heads,
        "mask_layers": mask.decoder_layers,
        "mask_hidden": mask.feedforward,
        "mask_dim": mask.mask_dim,
        "encoder_layers": mask.encoder_layers,
        "encoder_hidden": mask.encoder_feedforward,
        "encoder_points": mask.n_points,
        "ovp_queries": ovp.num_queries,
        "ovp_depth": ovp.depth,
        "ovp_inner": ovp.heads * ovp.head_dim,
        "ovp_factor": ovp.feedforward_factor,
        "vmtf_width": vmtf.width,
        "vmtf_depth": vmtf.depth,
        "vmtf_inner": vmtf.heads * vmtf.head_dim,
        "vmtf_factor": vmtf.feedforward_factor,
        "image_side": config.mask_image_size,
        "reference_frames": config.reference_frames,
    }

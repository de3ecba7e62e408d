"""Sizes of SAM as frozen data: the three released ones by name, any others by their numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from leanseg.core.tokens import Grid
from leanseg.errors import WeightsError, unknown_name

# Sizes that no weight's shape bounds tightly, so that a stranger's file could ask for any amount of memory: attention
# grows with the fourth power of a side. SAM's own grid has a side of 64 and its windows 14, whatever the grid.
LARGEST_IMAGE = 4096
LARGEST_SIDE = 80
RELEASED_WINDOW = 14


@dataclass(frozen=True, kw_only=True)
class SamConfig:
    """SAM's sizes; the defaults are those of ViT-H. `global_blocks` count from 0; all other blocks attend in windows.

    `width`, `depth`, `heads`: the image encoder's; `dim`: of image embedding, prompts and both decoders; `decoder_*`:
    the two-way transformer's; `multimasks`: masks beside the single one; `mask_channels`: of a mask prompt's encoder.
    """

    image_size: int = 1024
    patch_size: int = 16
    width: int = 1280
    depth: int = 32
    heads: int = 16
    window: int = RELEASED_WINDOW
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    mlp_ratio: int = 4
    dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    score_hidden: int = 256
    multimasks: int = 3
    mask_channels: int = 16

    def __post_init__(self) -> None:
        for each in fields(self):
            given = getattr(self, each.name)
            if each.name != "global_blocks" and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise WeightsError(f"SAM's {each.name} is {given!r}; expected a whole number of at least 1")
        if self.image_size % self.patch_size or self.image_size > LARGEST_IMAGE:
            raise WeightsError(
                f"SAM's image_size is {self.image_size}; expected a multiple of the patch size {self.patch_size}, at "
                f"most {LARGEST_IMAGE}"
            )
        self._check_grid()
        for width, heads, owner in (
            (self.width, self.heads, "image encoder"),
            (self.dim, 2 * self.decoder_heads, "decoder, at half its width,"),
        ):
            if width % heads:
                raise WeightsError(f"SAM's {owner} is {width} wide; expected a multiple of its {heads} parts")
        if self.dim % 8 or self.mask_channels % 4:
            raise WeightsError(
                f"SAM's dim is {self.dim} and mask_channels {self.mask_channels}; expected multiples of 8 and of 4"
            )
        outside = [index for index in self.global_blocks if not 0 <= index < self.depth]
        if outside:
            raise WeightsError(f"SAM's global_blocks hold {outside}; expected indices in 0..{self.depth - 1}")

    def _check_grid(self) -> None:
        side = self.grid.height
        if side > LARGEST_SIDE:
            raise WeightsError(
                f"SAM's image_size {self.image_size} in patches of {self.patch_size} is a grid of {side} x {side} "
                f"tokens; expected at most {LARGEST_SIDE} x {LARGEST_SIDE}; correct config.json"
            )
        if self.window > max(side, RELEASED_WINDOW):
            raise WeightsError(
                f"SAM's window is {self.window} on a grid of {side} x {side} tokens; expected at most "
                f"{max(side, RELEASED_WINDOW)}; correct config.json"
            )

    @property
    def grid(self) -> Grid:
        """The grid of the image tokens."""
        return Grid(self.image_size // self.patch_size, self.image_size // self.patch_size)

    @property
    def head_dim(self) -> int:
        """Width of one head of the image encoder."""
        return self.width // self.heads

    @classmethod
    def named(cls, size: str) -> SamConfig:
        """Return a released size: b, l or h.

        >>> SamConfig.named("b").width, SamConfig.named("h").grid.n_tokens
        (768, 4096)
        """
        if size not in SIZES:
            raise WeightsError(unknown_name("SAM size", str(size), SIZES))
        return SIZES[size]


_HUGE = SamConfig()
SIZES: dict[str, SamConfig] = {
    "b": replace(_HUGE, width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "l": replace(_HUGE, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "h": _HUGE,
}

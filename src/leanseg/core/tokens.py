"""The visual tokens of one picture or of the frames of a clip, and the grid on which they lie."""

from dataclasses import dataclass

import torch

from leanseg.errors import TokensError
from leanseg.shapes import Float, Tensor


@dataclass(frozen=True)
class Grid:
    """A raster of `height` x `width` tokens, numbered row by row, and frame by frame where it spans several `frames`.

    >>> Grid(2, 3).n_tokens, Grid(2, 3, frames=4).n_tokens
    (6, 24)
    >>> Grid(2, 3).coords.tolist()[4]
    [1.0, 0.5]
    """

    # Checked below, by errors that say what to do; run-time shape checks would speak first.
    __no_type_check__ = True

    height: int
    width: int
    frames: int = 1

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width), ("frames", self.frames)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise TokensError(f"Grid.{name} is {value!r}; it must be a whole number of at least 1")

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole grid, of all its frames."""
        return self.frames * self.height * self.width

    @property
    def frame(self) -> "Grid":
        """The grid of one frame."""
        return Grid(self.height, self.width)

    @property
    def coords(self) -> Float[Tensor, "n 2"]:
        """Position (y, x) of each token in [0, 1], float32; the first and last row and column lie on the border."""
        return self.coordinates()

    def coordinates(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Float[Tensor, "n 2"]:
        """Return `coords` in another precision or on another device."""
        rows = torch.arange(self.height, dtype=dtype, device=device) / max(self.height - 1, 1)
        columns = torch.arange(self.width, dtype=dtype, device=device) / max(self.width - 1, 1)
        frame = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
        return frame.repeat(self.frames, 1)

    def times(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Float[Tensor, " n"]:
        """Return each token's time in [0, 1]: 0 in the first frame, 1 in the last, 0 where there is but one.

        >>> Grid(1, 2, frames=3).times().tolist()
        [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
        """
        frames = torch.arange(self.frames, dtype=dtype, device=device) / max(self.frames - 1, 1)
        return frames.repeat_interleave(self.height * self.width)


@dataclass(frozen=True, eq=False, kw_only=True)
class VisualTokens:
    """Visual tokens with the evidence ("cues") that a method may ask for; for a clip the batch is its frames.

    `features` (B, N, D) in raster order of `grid`. `attention` (B, N): attention that each token receives.
    `keys` (B, N, Dk): attention keys. `guidance` (B, G): the embedding that steers a guided method. `key_frame`: which
    frame of a joint row (a grid of several frames) is the one to be segmented.
    Everything is floating point, finite and on one device, or the constructor raises `TokensError` naming the field.
    """

    # Checked below, by errors that say what to do; run-time shape checks would speak first.
    __no_type_check__ = True

    features: Float[Tensor, "b n d"]
    grid: Grid
    attention: Float[Tensor, "b n"] | None = None
    keys: Float[Tensor, "b n dk"] | None = None
    guidance: Float[Tensor, "b g"] | None = None
    key_frame: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise TokensError(f"grid is {type(self.grid).__name__}; it must be a leanseg.Grid(height, width)")
        self._check("features", self.features, "(B, N, D)", 3)
        batch, n_tokens, _ = self.features.shape
        if n_tokens != self.grid.n_tokens:
            frames = f"{self.grid.frames} x " if self.grid.frames > 1 else ""
            raise TokensError(
                f"features holds {n_tokens} tokens, but a grid of {frames}{self.grid.height} x {self.grid.width} has "
                f"{self.grid.n_tokens}; give the grid of these features, without class or register tokens"
            )
        key = self.key_frame
        if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < self.grid.frames:
            raise TokensError(
                f"key_frame is {key!r}; it must be a whole number in 0..{self.grid.frames - 1}: a frame of the grid"
            )
        for name, layout, leading in (
            ("attention", "(B, N)", (batch, n_tokens)),
            ("keys", "(B, N, Dk)", (batch, n_tokens)),
            ("guidance", "(B, G)", (batch,)),
        ):
            cue = getattr(self, name)
            if cue is None:
                continue
            if isinstance(cue, Tensor) and cue.device != self.features.device:
                raise TokensError(f"{name} is on {cue.device}, features on {self.features.device}; move them together")
            self._check(name, cue, layout, layout.count(",") + 1)
            if tuple(cue.shape[: len(leading)]) != leading:
                raise TokensError(f"{name} has shape {tuple(cue.shape)}; expected {layout} starting with {leading}")

    @staticmethod
    def _check(name: str, value: object, layout: str, n_axes: int) -> None:
        if not isinstance(value, Tensor):
            raise TokensError(f"{name} is {type(value).__name__}; it must be a torch tensor {layout}")
        if value.ndim != n_axes or value.numel() == 0:
            raise TokensError(f"{name} has shape {tuple(value.shape)}; expected a non-empty {layout}")
        if not value.is_floating_point():
            raise TokensError(f"{name} is {value.dtype}; it must be floating point")
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise TokensError(f"{name} holds {bad} values that are NaN or infinite; look for an overflow upstream")

    @property
    def batch(self) -> int:
        """Pictures, or frames of the clip."""
        return int(self.features.shape[0])

    @property
    def n_tokens(self) -> int:
        """Tokens of one picture or frame."""
        return self.grid.n_tokens

    def row(self, index: int) -> "VisualTokens":
        """Return the tokens of one picture or frame, as a batch of one."""
        if not -self.batch <= index < self.batch:
            raise TokensError(f"row {index} of a batch of {self.batch}")
        position = index % self.batch
        rows = slice(position, position + 1)
        return VisualTokens(
            features=self.features[rows],
            grid=self.grid,
            attention=None if self.attention is None else self.attention[rows],
            keys=None if self.keys is None else self.keys[rows],
            guidance=None if self.guidance is None else self.guidance[rows],
            key_frame=self.key_frame,
        )

    def joined(self, key_frame: int = 0) -> "VisualTokens":
        """Return the T frames of a clip, given as a batch, as one joint row (1, T*N); their guidance is averaged."""
        if self.grid.frames != 1:
            raise TokensError(
                f"the grid spans {self.grid.frames} frames already; expected frames as a batch, each on its own grid"
            )
        return VisualTokens(
            features=self.features.flatten(0, 1).unsqueeze(0),
            grid=Grid(self.grid.height, self.grid.width, frames=self.batch),
            attention=None if self.attention is None else self.attention.reshape(1, -1),
            keys=None if self.keys is None else self.keys.flatten(0, 1).unsqueeze(0),
            guidance=None if self.guidance is None else self.guidance.mean(dim=0, keepdim=True),
            key_frame=key_frame,
        )

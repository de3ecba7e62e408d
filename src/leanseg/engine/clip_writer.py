"""Writing clips: frames become an H.264 or VP9 file that browsers play, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from leanseg.engine.images import replacing
from leanseg.errors import InputError
from leanseg.limits import check_picture_size

_ENCODERS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}


class ClipWriter:
    """Write frames to an H.264 (mp4, mov, mkv) or VP9 (webm) file that browsers play, whole or not at all.

    Both codecs need even sides in yuv420p: an odd side gets its last row or column once more, so that no pixel is lost.
    The file appears under its name when the block ends well; after an exception nothing is left.

    >>> with ClipWriter("out.mp4", fps=25) as writer:  # doctest: +SKIP
    ...     writer.write(frame)
    """

    def __init__(self, path: str | Path, *, fps: float = 25.0, quality: int = 20) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _ENCODERS:
            known = ", ".join(sorted(_ENCODERS))
            raise InputError(
                f"cannot write a clip as {self.path.suffix or 'a file without suffix'}; use one of {known}"
            )
        if not 0 < fps <= 1000:
            raise InputError(f"fps={fps} frames per second; expected more than 0 and at most 1000")
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._quality = quality
        self._size: tuple[int, int] | None = None
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> ClipWriter:
        self._replacing = replacing(self.path)
        self._temporary = self._replacing.__enter__()
        return self

    def write(self, frame: NDArray[Any]) -> None:
        """Append one RGB uint8 frame (H, W, 3); all frames of a clip have the size of the first."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"frame of shape {frame.shape} and dtype {frame.dtype}; expected uint8 of shape (H, W, 3)")
        if self._size is None:
            check_picture_size(frame.shape[0], frame.shape[1], "frame")
            self._open(frame.shape[0], frame.shape[1])
        if frame.shape[:2] != self._size:
            raise InputError(f"frame of {frame.shape[:2]} pixels after frames of {self._size}; all must have one size")
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._container.mux(self._stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU601")))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            elif kind is None:
                raise InputError(f"no frame was written to {self.path}; a clip needs at least one")
        except BaseException as failure:
            self._replacing.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._replacing.__exit__(kind, error, trace)

    def _open(self, height: int, width: int) -> None:
        self._size = (height, width)
        suffix = self.path.suffix.lower()
        self._container = av.open(str(self._temporary), mode="w")
        options = {"crf": str(self._quality)} | ({"b": "0"} if suffix == ".webm" else {"preset": "fast"})
        self._stream = self._container.add_stream(_ENCODERS[suffix], rate=self._rate, options=options)
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"


def write_clip(path: str | Path, frames: Iterable[NDArray[Any]], *, fps: float = 25.0) -> Path:
    """Write all `frames` (RGB uint8, one size) as a clip and return its path."""
    with ClipWriter(path, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path

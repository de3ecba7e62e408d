"""Clips: any video file, animation, folder of pictures or single picture becomes a stream of RGB uint8 frames.

Decoding is sequential and one frame at a time: seeking to frames costs three times as much as decoding all of them, and
a whole clip in memory is what makes long videos fail elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from leanseg.engine.clip_writer import ClipWriter, write_clip
from leanseg.engine.images import IMAGE_SUFFIXES, decoded_pictures, is_picture, open_picture, read_image, to_rgb
from leanseg.errors import InputError
from leanseg.limits import check_picture_size

MAX_FRAMES = 200_000
MAX_CLIP_BYTES = 4 * 1024**3
_TRUNCATED_SECONDS = 1.0
__all__ = ["ClipInfo", "ClipWriter", "clip_info", "iter_frames", "read_clip", "write_clip"]
# FFmpeg follows playlists and scripts to other files and addresses: only containers are read, and only from files.
_SAFE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,gif,avi,mpeg,mpegts,flv,asf,ogg,mpegvideo,h264,hevc,ivf,dv",
}
_PILLOW_ANIMATIONS = frozenset({"WEBP", "PNG"})


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What a clip holds: its kind, the frames' size in pixels, their number, and frames per second where known."""

    path: Path
    kind: str
    height: int
    width: int
    frames: int
    fps: float | None = None

    @property
    def is_picture(self) -> bool:
        """Whether this is a single picture rather than a clip."""
        return self.kind == "picture"


def clip_info(path: str | Path) -> ClipInfo:
    """Read what a clip holds without decoding it; kinds are `picture`, `animation`, `folder` and `video`.

    A video's packets are counted, which reads the file once and finds a truncated one before any long work.

    Raises:
        InputError: the path is missing, unreadable, truncated, empty or too large.
    """
    path = Path(path)
    if path.is_dir():
        files = _folder_files(path)
        with open_picture(files[0]) as picture:
            return ClipInfo(path=path, kind="folder", height=picture.height, width=picture.width, frames=len(files))
    if not path.exists():
        raise InputError(f"no such file: {path}; give a picture, a video, or a folder of pictures")
    return _picture_info(path) or _video_info(path)


def iter_frames(path: str | Path, *, max_frames: int = MAX_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Return the frames of a clip as RGB uint8 (H, W, 3), upright, in order, decoded one at a time.

    A single picture is a clip of one frame; the pictures of a folder come in natural order (2 before 10).

    Raises:
        InputError: at once for what `clip_info` finds and for more than `max_frames` frames; on the way for a damaged
            frame or one of another size than the first.
    """
    info = clip_info(path)
    if info.frames > max_frames:
        raise InputError(f"{info.path} holds {info.frames} frames, at most {max_frames} are read; cut the clip first")
    if info.kind == "folder":
        return _same_size((read_image(file) for file in _folder_files(info.path)), info.path)
    if info.kind == "picture":
        return iter([read_image(info.path)])
    frames = _animation_frames(info.path) if info.kind == "animation" else _video_frames(info.path)
    return _same_size(frames, info.path)


def read_clip(path: str | Path, *, max_bytes: int = MAX_CLIP_BYTES) -> NDArray[np.uint8]:
    """Read a whole clip into memory as RGB uint8 (T, H, W, 3); `iter_frames` is the way for long ones.

    Raises:
        InputError: what `iter_frames` raises, and a clip of more than `max_bytes` bytes once decoded.
    """
    info = clip_info(path)
    size = info.frames * info.height * info.width * 3
    if size > max_bytes:
        raise InputError(
            f"{info.path} needs {size / 1e9:.1f} GB once decoded, at most {max_bytes / 1e9:.1f} are read; "
            "stream it with iter_frames"
        )
    return np.stack(list(iter_frames(path)))


def _folder_files(folder: Path) -> list[Path]:
    files = [
        file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise InputError(f"no pictures in the folder {folder}; expected files such as 00000.jpg, 00001.jpg")
    return sorted(files, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _picture_info(path: Path) -> ClipInfo | None:
    """Return the facts of a picture or animation that Pillow reads; None leaves the file to the video reader."""
    if not is_picture(path):
        if path.suffix.lower() in IMAGE_SUFFIXES - {".gif"}:
            raise InputError(f"not a picture that can be read: {path}; the file is empty, damaged or mislabelled")
        return None
    with open_picture(path) as picture:
        animated = bool(getattr(picture, "is_animated", False))
        if picture.format == "GIF" and animated:
            return None
        frames = int(getattr(picture, "n_frames", 1)) if animated and picture.format in _PILLOW_ANIMATIONS else 1
        kind = "animation" if frames > 1 else "picture"
        return ClipInfo(path=path, kind=kind, height=picture.height, width=picture.width, frames=frames)


def _video_info(path: Path) -> ClipInfo:
    """Count a video's packets; fewer than its header promises, or an earlier end, is a truncated file."""
    with _open_video(path) as (container, stream):
        try:
            counted = _count_packets(path, container, stream)
        except av.error.FFmpegError as error:
            raise _damaged(path, error) from None
        promised_frames, promised_seconds = stream.frames, _promised_seconds(container, stream)
        rate = stream.average_rate or stream.guessed_rate
    if counted.frames == 0:
        raise InputError(f"video {path} holds no frames; the file is empty or truncated")
    tolerance = 3 / float(rate) if rate else _TRUNCATED_SECONDS
    ends_early = counted.end_seconds + tolerance < promised_seconds
    if counted.packets < promised_frames or ends_early or (_is_gif(path) and not _gif_is_whole(path)):
        promised = (
            f"; its header promises {promised_frames or f'{promised_seconds:.2f} s'}" if not _is_gif(path) else ""
        )
        raise InputError(
            f"video {path} is truncated: {counted.frames} frames, {counted.end_seconds:.2f} s are left{promised}; "
            "copy or convert it again"
        )
    first = next(_video_frames(path), None)
    if first is None:
        raise InputError(f"video {path} holds no frame that can be decoded; convert it to H.264 first")
    height, width = first.shape[:2]
    fps = float(rate) if rate else None
    return ClipInfo(path=path, kind="video", height=height, width=width, frames=counted.frames, fps=fps)


@dataclass(frozen=True)
class _Packets:
    packets: int
    frames: int
    end_seconds: float


def _count_packets(path: Path, container: InputContainer, stream: VideoStream) -> _Packets:
    packets, frames, end_seconds = 0, 0, 0.0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise InputError(f"video {path} is truncated or damaged at frame {frames}; copy or convert it again")
        if packet.size:
            packets += 1
            frames += not packet.is_discard
            if packet.pts is not None and packet.time_base is not None:
                end_seconds = max(end_seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return _Packets(packets, frames, end_seconds)


def _promised_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Return the video's duration that the header states, 0 where it states none; sound may run on for longer."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    alone = len(container.streams) == 1 and container.duration
    return container.duration / av.time_base if alone and container.duration else 0.0


def _is_gif(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GIF8"


def _gif_is_whole(path: Path) -> bool:
    """Return whether a GIF ends with its trailer byte; its header promises no length."""
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), 2)
        return file.read().rstrip(b"\0\r\n ").endswith(b";")


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        container = av.open(str(path), container_options=_SAFE)
    except (av.error.FFmpegError, OSError, ValueError):
        raise InputError(
            f"not a picture or video that can be read: {path}; the file is damaged, truncated or of an unknown kind"
        ) from None
    with container:
        if not container.streams.video:
            raise InputError(f"no video in {path}; it may hold sound only")
        stream = container.streams.video[0]
        check_picture_size(stream.codec_context.height, stream.codec_context.width, f"video {path}")
        yield container, stream


def _video_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    with _open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                check_picture_size(frame.height, frame.width, f"a frame of {path}")
                pixels = frame.to_ndarray(format="rgb24")
                # Phones store the picture lying and a rotation beside it, in degrees counterclockwise.
                yield np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90) % 4))
        except av.error.FFmpegError as error:
            raise _damaged(path, error) from None


def _animation_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    with open_picture(path) as picture:
        for frame in decoded_pictures(picture, path):
            yield to_rgb(frame, path)


def _same_size(frames: Iterator[NDArray[np.uint8]], path: Path) -> Iterator[NDArray[np.uint8]]:
    size: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise InputError(
                f"frame {index} of {path} has {frame.shape[0]} x {frame.shape[1]} pixels, "
                f"the first {size[0]} x {size[1]}; all frames of a clip must have one size"
            )
        yield frame


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"video {path} is damaged: {' '.join(str(error).split())}; copy or convert it again")

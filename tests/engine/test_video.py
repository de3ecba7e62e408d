"""Clips come back frame by frame in order; damaged ones are refused; written ones play."""

import itertools

import av
import numpy as np
import pytest
from PIL import Image

from leanseg.engine.video import ClipWriter, clip_info, iter_frames, read_clip, write_clip
from leanseg.errors import InputError


def moving_square(frames=12, height=48, width=64):
    clip = np.full((frames, height, width, 3), 40, dtype=np.uint8)
    for index in range(frames):
        clip[index, 8:24, 2 + 3 * index : 18 + 3 * index] = (220, 60, 30)
    return clip


def encode(path, clip, codec="libx264", pixel_format="yuv420p", options=None):
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], pixel_format
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm"])
def test_a_written_clip_comes_back(tmp_path, suffix):
    clip = moving_square()
    path = write_clip(tmp_path / f"a.{suffix}", clip, fps=12.5)
    info = clip_info(path)
    assert (info.kind, info.frames, info.height, info.width) == ("video", 12, 48, 64) and not info.is_picture
    assert info.fps == pytest.approx(12.5)
    assert np.abs(read_clip(path).astype(int) - clip).mean() < 4


@pytest.mark.parametrize(("height", "width"), [(49, 64), (48, 63), (31, 17), (1, 1)])
def test_odd_sizes_are_padded_by_one(tmp_path, height, width):
    clip = moving_square(3, height, width)
    back = read_clip(write_clip(tmp_path / "a.mp4", clip))
    assert back.shape == (3, height + height % 2, width + width % 2, 3)
    assert np.abs(back[:, :height, :width].astype(int) - clip).mean() < 12


def test_the_written_clip_is_what_browsers_play(tmp_path):
    with av.open(str(write_clip(tmp_path / "a.mp4", moving_square(3)))) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_a_clip_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), ClipWriter(tmp_path / "a.mp4") as writer:
        writer.write(moving_square(1)[0])
        raise RuntimeError
    with pytest.raises(InputError, match="no frame was written"), ClipWriter(tmp_path / "a.mp4"):
        pass
    with pytest.raises(InputError, match="all must have one size"), ClipWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((4, 4, 3), dtype=np.uint8))
        writer.write(np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="expected uint8"), ClipWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((4, 4, 3)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"cannot write a clip as \.avi; use one of"):
        ClipWriter(tmp_path / "a.avi")
    with pytest.raises(InputError, match="frames per second"):
        ClipWriter(tmp_path / "a.mp4", fps=0)


def test_animations(tmp_path):
    clip = moving_square(5)
    frames = [Image.fromarray(frame) for frame in clip]
    for suffix, kind in {"gif": "video", "webp": "animation", "png": "animation"}.items():
        path = tmp_path / f"a.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, **options)
        info = clip_info(path)
        assert (info.kind, info.frames) == (kind, 5)
        assert np.abs(read_clip(path).astype(int) - clip).mean() < 3


def test_single_pictures_are_clips_of_one_frame(tmp_path):
    picture = moving_square(1)[0]
    for name in ("a.png", "a.gif"):
        Image.fromarray(picture).save(tmp_path / name)
        assert clip_info(tmp_path / name).is_picture
        assert read_clip(tmp_path / name).shape == (1, 48, 64, 3)


def test_folders_are_read_in_natural_order(tmp_path):
    for index in (10, 2, 1):
        Image.fromarray(np.full((4, 6, 3), index, dtype=np.uint8)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    assert [int(frame[0, 0, 0]) for frame in iter_frames(tmp_path)] == [1, 2, 10]
    assert clip_info(tmp_path).frames == 3 and clip_info(tmp_path).fps is None
    Image.fromarray(np.zeros((4, 7, 3), dtype=np.uint8)).save(tmp_path / "frame11.png")
    with pytest.raises(InputError, match=r"frame 3 of .* has 4 x 7 pixels, the first 4 x 6"):
        list(iter_frames(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in the folder"):
        clip_info(tmp_path / "empty")


def test_frames_are_decoded_one_at_a_time(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving_square(8))
    frames = iter_frames(path)
    assert not isinstance(frames, list)
    assert len(list(itertools.islice(frames, 3))) == 3


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
@pytest.mark.parametrize("suffix", ["mp4", "faststart.mp4", "webm", "mkv", "gif"])
def test_truncated_videos_are_refused_at_once(tmp_path, suffix, share, rng):
    clip = moving_square(30) + rng.integers(0, 20, (30, 48, 64, 3), dtype=np.uint8)
    codec, pixel_format = {"webm": ("libvpx-vp9", "yuv420p"), "gif": ("gif", "rgb8")}.get(
        suffix, ("libx264", "yuv420p")
    )
    whole = encode(
        tmp_path / f"a.{suffix}",
        clip,
        codec,
        pixel_format,
        {"movflags": "faststart"} if suffix == "faststart.mp4" else None,
    )
    assert clip_info(whole).frames == 30
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="truncated") as error:
        iter_frames(cut)
    assert "\n" not in str(error.value) and "cut." in str(error.value)


def test_what_is_no_video_is_refused(tmp_path, rng):
    (tmp_path / "noise.mp4").write_bytes(rng.bytes(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    for name in ("noise.mp4", "empty.mp4", "text.mp4"):
        with pytest.raises(InputError, match="not a picture or video") as error:
            iter_frames(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        iter_frames(tmp_path / "absent.mp4")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="not a picture"):
        iter_frames(tmp_path / "text.png")


@pytest.mark.parametrize("suffix", ["ffconcat", "mp4"])
def test_scripts_that_name_other_files_are_not_followed(tmp_path, suffix):
    write_clip(tmp_path / "a.mp4", moving_square(3))
    (tmp_path / f"script.{suffix}").write_text("ffconcat version 1.0\nfile a.mp4\n")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    for name in (f"script.{suffix}", "list.m3u8"):
        with pytest.raises(InputError, match="not a picture or video that can be read"):
            clip_info(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video in"):
        clip_info(tmp_path / "a.m4a")


def test_limits(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving_square(8))
    with pytest.raises(InputError, match="8 frames, at most 7"):
        iter_frames(path, max_frames=7)
    with pytest.raises(InputError, match="stream it with iter_frames"):
        read_clip(path, max_bytes=8 * 48 * 64 * 3 - 1)

from dataclasses import replace

import numpy as np
import pytest

from leanseg.data.scenes import KINDS, ClipScene, SceneOptions, generate_clip
from leanseg.data.scenes.clips import _smear
from leanseg.data.scenes.motion import Path
from leanseg.data.scenes.referring import Referring
from leanseg.data.scenes.sprites import Patch
from leanseg.errors import InputError

OPTIONS = SceneOptions(kinds=(*KINDS, "motion"), canvas=64)
LAYOUT_KINDS = ("attribute", "position", "relation", "ordinal")


@pytest.fixture(scope="module")
def clips() -> dict[str, list[ClipScene]]:
    return {
        name: [generate_clip(seed, replace(OPTIONS, redundancy=name)) for seed in range(900, 905)]
        for name in ("static", "slow", "fast")
    }


def change(clip: ClipScene) -> float:
    return float(np.abs(np.diff(clip.frames.astype(np.float32), axis=0)).mean())


def test_shapes_and_determinism(clips: dict[str, list[ClipScene]]):
    for name, group in clips.items():
        for clip in group:
            n = len(clip.objects)
            assert clip.frames.shape == (8, 64, 64, 3) and clip.frames.dtype == np.uint8
            assert clip.masks.shape == (8, n, 64, 64) and clip.masks.sum(axis=1).max() <= 1
            assert len(clip.instructions) == 8 and clip.redundancy == name and len(clip.tracks) == n
            assert all(one.task in ("video_referring", "video_reasoning") for one in clip.instructions)
    again = generate_clip(900, replace(OPTIONS, redundancy="fast"))
    assert np.array_equal(again.frames, clips["fast"][0].frames)
    assert again.instructions == clips["fast"][0].instructions


def test_redundancy_is_a_real_knob(clips: dict[str, list[ClipScene]]):
    changes = {name: float(np.mean([change(clip) for clip in group])) for name, group in clips.items()}
    assert changes["static"] == 0 < changes["slow"] < changes["fast"]


def test_masks_follow_the_tracks(clips: dict[str, list[ClipScene]]):
    checked = 0
    for clip in clips["fast"]:
        for k, item in enumerate(clip.objects):
            for time in (0, 4, 7):
                rows, columns = np.nonzero(clip.masks[time, k])
                if len(rows) >= 14:
                    y, x = clip.tracks[k][time]
                    assert abs(rows.mean() / 64 - y) < item.size and abs(columns.mean() / 64 - x) < item.size
                    checked += 1
    assert checked > 30


def test_places_and_sizes_have_one_answer_in_every_frame(clips: dict[str, list[ClipScene]]):
    checked = 0
    for clip in clips["slow"] + clips["fast"]:
        asked = [one for one in clip.instructions if one.kind in LAYOUT_KINDS]
        for time in range(8):
            moved = tuple(
                replace(item, center=track[time]) for item, track in zip(clip.objects, clip.tracks, strict=True)
            )
            answers = {(entry.kind, entry.targets) for entry in Referring(moved).layout_expressions()}
            for one in asked:
                assert (one.kind, one.targets) in answers
                checked += 1
    assert checked > 60


def test_motion_is_as_told(clips: dict[str, list[ClipScene]]):
    signs = {"left": (1, -1), "right": (1, 1), "up": (0, -1), "down": (0, 1)}
    checked = 0
    for clip in clips["slow"] + clips["fast"]:
        for one in clip.instructions:
            if one.kind != "motion":
                continue
            track = np.array(clip.tracks[one.targets[0]])
            steps = np.diff(track, axis=0)
            way = one.text.rsplit(" ", 1)[-1]
            if way in signs:
                axis, sign = signs[way]
                assert (sign * steps[:, axis] > 0).all()
            elif "still" in one.text or "not move" in one.text:
                assert not steps.any()
            else:
                assert np.hypot(*steps.T).sum() > 0.03
            checked += 1
    assert checked > 5


def test_a_path_is_reflected_by_the_rim():
    path = Path(start=(0.5, 0.8), velocity=(0.0, 0.1), spin=0.0, margin=0.1)
    assert path.center(1) == pytest.approx((0.5, 0.9)) and path.center(3) == pytest.approx((0.5, 0.7))
    assert path.way(2) == "right" and path.way(4) is None
    assert all(0.1 <= path.center(time)[1] <= 0.9 for time in range(40))


def test_blur_keeps_the_amount_of_paint_and_spreads_it():
    patch = Patch(4, 4, np.full((3, 3, 3), 90, np.float32), np.ones((3, 3, 1), np.float32))
    blurred = _smear(patch, (0.0, 8.0), 5)
    assert blurred.left == 0 and blurred.alpha.shape == (3, 11, 1)
    assert blurred.alpha.sum() == pytest.approx(9, abs=1e-4) and blurred.color.sum() == pytest.approx(2430, abs=0.1)


def test_frames_are_counted_and_seeds_checked():
    assert generate_clip(1, replace(OPTIONS, frames=3)).frames.shape[0] == 3
    assert generate_clip(1, replace(OPTIONS, frames=1, kinds=KINDS)).masks.shape[0] == 1
    empty = generate_clip(1, replace(OPTIONS, kinds=("no_target",)))
    assert not empty.target(empty.instructions[0]).any() and empty.target(empty.instructions[0]).shape == (8, 64, 64)
    with pytest.raises(InputError, match="seed is -3"):
        generate_clip(-3)
    with pytest.raises(InputError, match="no scene of kinds ordinal was found"):
        generate_clip(3, replace(OPTIONS, kinds=("ordinal",), objects=(1, 1)))

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leanseg.data import Dataset, Sample
from leanseg.data.scenes import SPLITS, generate_scene, split
from leanseg.data.scenes.atlas import SPRITE_SIDE, rebuild, sprites
from leanseg.data.scenes.items import ITEMS
from leanseg.data.scenes.splits import PREFIX, content_hash, measure, pins
from leanseg.errors import DataError, InputError

EVALUATED = [name for name in SPLITS if name not in ("train", "clips_train")]


def test_seeds_of_splits_are_disjoint():
    ranges = sorted((part.first_seed, part.first_seed + part.scenes) for part in SPLITS.values())
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))
    assert all(SPLITS[name].first_seed >= 2**40 for name in EVALUATED)


def test_every_evaluation_split_is_pinned():
    assert set(pins()) == set(EVALUATED)
    assert SPLITS["test"].scenes == 1000 and SPLITS["clips_test"].scenes == 300


@pytest.mark.parametrize("name", EVALUATED)
def test_the_first_scenes_are_the_pinned_ones(name: str):
    assert measure(name, scenes=PREFIX) == pins()[name]["prefix"]


def _measured_apart(name: str) -> str:
    code = f"from leanseg.data.scenes.splits import measure; print(measure({name!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def whole_hashes() -> dict[str, str]:
    # In processes of their own: two at a time, and without the tests' run-time check of types, which takes three times
    # as long as painting the scenes.
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(EVALUATED, pool.map(_measured_apart, EVALUATED), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATED)
def test_the_whole_split_is_the_pinned_one(name: str, whole_hashes: dict[str, str]):
    assert whole_hashes[name] == pins()[name]["whole"]


def test_the_hash_sees_pixels_masks_and_words():
    first, second = generate_scene(1), generate_scene(2)
    assert content_hash(iter([first, second])) != content_hash(iter([second, first]))
    whole = content_hash(iter([first]))
    first.image[0, 0, 0] ^= 1
    assert content_hash(iter([first])) != whole


def test_a_split_is_a_dataset_of_samples():
    data = split("test", scenes=3)
    assert isinstance(data, Dataset) and len(data) == 12
    sample = data[5]
    assert sample.id == "test/000001/1" and sample.clip.shape == (1, 192, 192, 3)
    assert sample.target.shape == (1, 192, 192) and sample.target.any()
    assert {"kind", "task", "seed", "scene", "targets", "objects", "split"} <= set(sample.meta)
    assert np.array_equal(data[5].clip, split("test")[5].clip)
    with pytest.raises(IndexError, match="split 'test' has 12 samples"):
        data[12]
    clip = split("clips_test", scenes=2)[5]
    assert clip.clip.shape[0] == 8 and clip.meta["redundancy"] == "slow"
    with pytest.raises(IndexError, match="has 300 scenes"):
        SPLITS["clips_test"].scene(300)


def test_wrong_names_and_counts_are_refused():
    with pytest.raises(InputError, match="unknown split 'tset'; did you mean 'test'"):
        split("tset")
    with pytest.raises(InputError, match="2000 scenes asked of split 'test'; expected 1 to 1000"):
        split("test", scenes=2000)


def test_a_sample_refuses_arrays_that_do_not_fit():
    clip, target = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.bool_)
    assert Sample("a", clip, "the dog", target).meta == {}
    with pytest.raises(DataError, match=r"clip of sample 'a' is uint8 \(4, 4, 3\)"):
        Sample("a", clip[0], "the dog", target)
    with pytest.raises(DataError, match=r"target of sample 'a' is bool \(4, 4\)"):
        Sample("a", clip, "the dog", target[0])


def test_the_atlas_holds_every_sprite():
    drawn = sprites()
    assert len(drawn) == len(ITEMS)
    for pixels in drawn:
        assert pixels.shape == (SPRITE_SIDE, SPRITE_SIDE, 4)
        rows, columns = np.nonzero(pixels[..., 3])
        assert max(np.ptp(rows), np.ptp(columns)) + 1 >= SPRITE_SIDE - 2
        assert (pixels[..., :3] <= pixels[..., 3:].astype(int) + 1).all()


def test_rebuild_needs_a_font(tmp_path: Path):
    with pytest.raises(InputError, match=r"font .*none.ttf' does not exist; expected NotoColorEmoji.ttf"):
        rebuild(tmp_path / "none.ttf", tmp_path)


def test_the_licences_are_beside_the_sprites():
    folder = Path(str(__import__("leanseg").__path__[0])) / "assets" / "scenes"
    assert "SIL OPEN FONT LICENSE" in (folder / "OFL-1.1.txt").read_text()
    assert "Apache License" in (folder / "Apache-2.0.txt").read_text()
    assert Image.open(folder / "sprites.png").mode == "L"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 700_000

"""`leanseg segment` and `leanseg.load` with a VLTP folder: told by its config.json, with its options and panels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.models.vltp_fixtures import picture as pixels
from tests.models.vltp_fixtures import tiny_vltp

import leanseg
from leanseg.engine.images import write_mask_png
from leanseg.engine.segmenter import Segmenter, family_of
from leanseg.errors import LeansegError

ASKED = "the red cup"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-vltp"
    tiny_vltp().save_pretrained(path)
    return path


def test_a_folder_is_loaded_by_what_its_config_says(folder: Path):
    model = leanseg.load(folder, device="cpu")
    assert isinstance(model, Segmenter) and isinstance(model.model, leanseg.models.VLTP)
    assert model.layout.padded and model.layout.grid == model.config.sam.grid
    expected = tiny_vltp().segment(pixels(), ASKED, soft=True)
    first, second = (model.segment(pixels(), ASKED, soft=True) for _ in range(2))
    assert np.array_equal(first.soft, expected.soft) and np.array_equal(second.soft, expected.soft)
    assert first.protocol["model"] == str(folder) and model.cache.hits > 0
    assert leanseg.load("vltp", folder).name == f"vltp:{folder}"
    assert [len(parts) for parts in model.segment_stream([pixels()] * 2, [ASKED, "a dog"])] == [2, 2]


def test_families_are_told_apart(folder: Path, tmp_path: Path):
    assert family_of(folder) == family_of("vltp", folder) == family_of("instructseg", folder) == "vltp"
    assert family_of("instructseg") == family_of(tmp_path) == family_of("somebody/weights") == "instructseg"
    with pytest.raises(LeansegError, match="holds a model of the family vltp; expected one of instructseg"):
        leanseg.load("instructseg", folder)
    with pytest.raises(LeansegError, match=r"the model 'vltp' needs weights; give a folder that VLTP.save_pretrained"):
        leanseg.load("vltp")


def test_a_picture_gets_a_mask_and_a_panel_for_each_stage(run, folder, picture, tmp_path):
    outcome = run("segment", picture, ASKED, "a dog", "--model", folder, "--out", tmp_path / "answer")
    assert outcome.code == 0, outcome.err
    document = json.loads((tmp_path / "answer/result.json").read_text())
    frame = document["results"][0]["frames"][0]
    assert [len(kept) for kept in frame["stages"]] == [25, 15] and frame["kept"] == frame["stages"][1]
    assert set(document["timings_s"]) == {"guidance", "prefix", "select", "blocks", "decode", "postprocess"}
    protocol = document["results"][0]["protocol"]
    assert protocol["stages"] == [[1, "vltp(keep_ratio=0.5)"], [3, "vltp(keep_ratio=0.3)"]]
    expected = tiny_vltp().segment(np.asarray(Image.open(picture)), ASKED)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "answer/1/mask.png")) > 0, expected.masks[0])
    # The picture of 40 x 60 is enlarged tenfold; two panels and a gap.
    with Image.open(tmp_path / "answer/1/overlay.png") as overlay:
        assert overlay.height == 400 and overlay.width > 2 * 600
    assert "15 of 49 tokens" in outcome.out


def test_a_clip_gets_the_last_stages_tokens(run, folder, clip, tmp_path):
    outcome = run("segment", clip, ASKED, "--model", folder, "--out", tmp_path / "answer")
    assert outcome.code == 0, outcome.err
    frames = json.loads((tmp_path / "answer/result.json").read_text())["results"][0]["frames"]
    assert [len(frame["kept"]) for frame in frames] == [15] * 6


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        (["--keep-ratio", 0.2], [10, 10]),
        (["--pruner", "random"], [25, 15]),
        (["--pruner", "random(seed=2)", "--keep-ratio", 0.4], [20, 20]),
        (["--pruner", "vltp(keep_ratio=0.1)"], [5, 5]),
        (["--pruner", "union(first=vltp(), second=evtp())", "--keep-ratio", 0.4], [20, 20]),
    ],
)
def test_tokens_are_chosen_as_asked(run, folder, picture, arguments, counts):
    outcome = run("segment", picture, ASKED, "--model", folder, "--json", *arguments)
    assert outcome.code == 0, outcome.err
    frame = json.loads(outcome.out)["results"][0]["frames"][0]
    assert [len(kept) for kept in frame["stages"]] == counts


@pytest.mark.parametrize("own_name", ["", '    name: ClassVar[str] = "first"\n'])
@pytest.mark.parametrize(
    ("spec", "options", "counts"),
    [
        ("First", [], [25, 15]),
        ("First", ["--keep-ratio", 0.4], [20, 20]),
        ("First(keep_ratio=0.1)", [], [5, 5]),
        ("First(inner=vltp())", [], [25, 15]),
    ],
)
def test_a_pruner_from_a_file_takes_the_ratios_of_the_stages(
    run, folder, picture, tmp_path, own_name, spec, options, counts
):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from leanseg import Pruner, Selection\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class First(Pruner):\n"
        f"{own_name}"
        "    inner: Pruner | None = None\n"
        "    def select(self, tokens, k):\n"
        "        import torch\n"
        "        return Selection(torch.arange(k).expand(tokens.batch, k).contiguous(), tokens.n_tokens)\n"
    )
    asked = ("segment", picture, ASKED, "--model", folder, "--json", "--pruner", f"{tmp_path / 'mine.py'}:{spec}")
    outcome = run(*asked, *options)
    assert outcome.code == 0, outcome.err
    stages = json.loads(outcome.out)["results"][0]["frames"][0]["stages"]
    assert stages == [list(range(count)) for count in counts]


def test_keeping_everything_draws_no_token(run, folder, picture, tmp_path):
    outcome = run("segment", picture, ASKED, "--model", folder, "--pruner", "identity", "--out", tmp_path / "all")
    assert outcome.code == 0, outcome.err
    frame = json.loads((tmp_path / "all/result.json").read_text())["results"][0]["frames"][0]
    assert len(frame["kept"]) == frame["n_tokens"] == 49


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "reasoning"], "VLTP takes no --task: its guide is asked in one way"),
        (["--task", "referring"], "drop it, or choose an InstructSeg model"),
        (["--site", "after_projector"], "VLTP takes no --site: its tokens are chosen at stages"),
        (["--position-ids", "original"], "VLTP takes no --position-ids: its language model reads all tokens"),
        (["--mass-preserving"], "VLTP takes no --mass-preserving: tokens that a stage drops are frozen"),
        (["--template", "paper"], "VLTP takes no --template: the template of its conversations is in the model"),
        (["--pruner", "vtlp"], "did you mean 'vltp'"),
        (["--pruner", "vltp(keep_ratio=0.1)", "--keep-ratio", 0.2], "contradict"),
        (["--keep-ratio", 1.5], "1.5"),
        (["--pruner", "tome"], "wants keys"),
        (["--pruner", "attention"], "wants attention"),
    ],
)
def test_unusable_requests_are_one_line_and_leave_nothing(run, folder, picture, tmp_path, arguments, said):
    before = sorted(tmp_path.iterdir())
    outcome = run("segment", picture, ASKED, "--model", folder, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err and outcome.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A mask of the picture of 40 x 60 pixels in two corners."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[:9, :5] = mask[-3:, -3:] = True
    return write_mask_png(tmp_path / "truth.png", mask)


def test_the_tokens_of_a_true_mask_are_outlined_on_every_panel(run, folder, picture, truth, tmp_path):
    for name, given in (("with", ["--truth", truth]), ("without", [])):
        outcome = run("segment", picture, ASKED, "--model", folder, "--out", tmp_path / name, *given)
        assert outcome.code == 0, outcome.err
    plain, outlined = (np.asarray(Image.open(tmp_path / name / "1/overlay.png")) for name in ("without", "with"))
    # 600 pixels in 7 cells of 85.7 each: the first column's upper two, and the last of the rows that the picture fills.
    assert outlined.shape == plain.shape
    changed = (outlined != plain).any(axis=2)
    assert np.isin(outlined[changed], (0, 255)).all()
    for panel in (changed[:, :600], changed[:, -600:]):
        assert panel[40, 84] and panel[170, 40] and not panel[85, 40] and not panel[40, 90]
        assert panel[380, 515] and not panel[:, 90:510].any() and not panel[175:340].any()


def test_each_instruction_has_its_own_true_mask(run, folder, picture, truth, tmp_path):
    empty = write_mask_png(tmp_path / "empty.png", np.zeros((40, 60), dtype=bool))
    asked = ("segment", picture, ASKED, "a dog", "--model", folder)
    assert run(*asked, "--out", tmp_path / "with", "--truth", empty, "--truth", truth).code == 0
    assert run(*asked, "--out", tmp_path / "without").code == 0
    same = [
        np.array_equal(*(np.asarray(Image.open(tmp_path / name / file)) for name in ("with", "without")))
        for file in ("1/overlay.png", "2/overlay.png")
    ]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"truth": "nowhere.png"}, "no such file: nowhere.png"),
        ({"truth": "small.png"}, "the mask small.png has 30 x 30 pixels, the picture 40 x 60; expected the same"),
        ({"truth": "picture.png"}, "picture.png is no mask: it holds several colours; expected one"),
        ({"source": "clip.mp4"}, "--truth is the mask of a picture, and the source is a clip; give one frame"),
        ({"asked": ("a dog", "a cup")}, "--truth is given 1 times for 2 instructions; expected a mask for each"),
        ({"model": "instructseg-nano"}, "panels of stages, and instructseg-nano has none; give a VLTP model with"),
        ({"model": "stageless"}, "panels of stages, and stageless has none; give a VLTP model with stages, such as"),
    ],
)
def test_true_masks_that_cannot_be_shown_are_one_line(run, folder, picture, clip, truth, tmp_path, changes, said):
    write_mask_png(tmp_path / "small.png", np.ones((30, 30), dtype=bool))
    tiny_vltp(stages=()).save_pretrained(tmp_path / "stageless")
    given = {"source": picture, "asked": (ASKED,), "model": folder, "truth": truth, **changes}
    before = sorted(tmp_path.iterdir())
    outcome = run("segment", given["source"], *given["asked"], "--model", given["model"], "--truth", given["truth"])
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err and outcome.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_folder_is_one_line(run, folder, picture, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:2000] if file.suffix == ".safetensors" else content)
    outcome = run("segment", picture, ASKED, "--model", broken)
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "no whole safetensors" in outcome.err

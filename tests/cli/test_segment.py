"""`leanseg segment`: what is written, what is said, and that bad input leaves nothing behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from leanseg.models.output import encode_mask


def test_picture_gives_masks_overlays_and_a_record(run, fake, picture, tmp_path):
    outcome = run("segment", picture, "the dog", "the red apple", "--out", tmp_path / "answer")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "answer"
    document = json.loads((folder / "result.json").read_text())
    assert document["kind"] == "picture"
    assert (document["frames"], document["height"], document["width"]) == (1, 40, 60)
    assert document["timings_s"] == {"language": 0.25}
    assert [result["instruction"] for result in document["results"]] == ["the dog", "the red apple"]
    for number, result in enumerate(document["results"], start=1):
        mask = np.asarray(Image.open(folder / f"{number}/mask.png")) > 0
        assert mask[:, :30].all()
        assert not mask[:, 30:].any()
        assert result["frames"][0]["segmentation"] == encode_mask(mask)
        assert result["frames"][0]["kept"] == [0, 1, 2]
        assert result["frames"][0]["coverage"] == {"spatial_max": 0.5}
        assert result["files"] == {"masks": [f"{number}/mask.png"], "overlay": f"{number}/overlay.png"}
        with Image.open(folder / f"{number}/overlay.png") as overlay:
            assert min(overlay.size) >= 384
    assert "the red apple" in outcome.out
    assert "3 of 16 tokens" in outcome.out
    assert "answer/2/overlay.png" in outcome.out


def test_clip_gives_one_mask_per_frame_and_an_overlay_clip(run, fake, clip, tmp_path):
    from leanseg.engine.video import clip_info

    outcome = run("segment", clip, "the dog", "--out", tmp_path / "answer")
    assert outcome.code == 0, outcome.err
    document = json.loads((tmp_path / "answer/result.json").read_text())
    assert document["kind"] == "video"
    assert [frame["frame"] for frame in document["results"][0]["frames"]] == list(range(6))
    assert document["timings_s"]["language"] == pytest.approx(6 * 0.25)
    assert sorted(path.name for path in (tmp_path / "answer/1/masks").iterdir()) == [f"{n:05d}.png" for n in range(6)]
    written = clip_info(tmp_path / "answer/1/overlay.mp4")
    assert written.frames == 6
    assert written.fps == pytest.approx(5)


def test_overlay_shows_the_frame_that_was_answered_although_the_model_reads_ahead(run, fake, clip, tmp_path):
    from leanseg.engine.video import iter_frames

    run("segment", clip, "the dog", "--out", tmp_path / "answer")
    shown = list(iter_frames(tmp_path / "answer/1/overlay.mp4"))
    # The right half is not tinted: its grey is the frame's own, away from the dots of kept tokens.
    greys = [float(frame[-40:, -40:].mean()) for frame in shown]
    assert greys == pytest.approx([20 * index for index in range(6)], abs=6)


def test_folder_of_frames_is_a_clip(run, fake, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        Image.fromarray(np.full((20, 30, 3), 50 * index, dtype=np.uint8)).save(frames / f"{index}.png")
    outcome = run("segment", frames, "the dog")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "out/frames/result.json").read_text())["kind"] == "folder"


def test_json_is_all_that_stands_on_stdout(run, fake, picture, tmp_path):
    outcome = run("segment", picture, "the dog", "--json", "--out", tmp_path / "answer")
    assert json.loads(outcome.out) == json.loads((tmp_path / "answer/result.json").read_text())


def test_options_reach_the_model(run, fake, picture, tmp_path):
    run(
        *("segment", picture, "the dog", "--pruner", "random(seed=3)", "--keep-ratio", 0.5, "--task", "reasoning"),
        *("--site", "after_projector", "--position-ids", "original", "--template", "paper"),
        *("--model", "instructseg", "--weights", "folder", "--device", "cpu", "--dtype", "bfloat16"),
    )
    assert fake.given["pruner"].spec() == "random(keep_ratio=0.5, seed=3)"
    assert {name: fake.given[name] for name in ("task", "site", "position_ids", "template")} == {
        "task": "reasoning",
        "site": "after_projector",
        "position_ids": "original",
        "template": "paper",
    }
    expected = {"device": "cpu", "dtype": "bfloat16", "local_files_only": False}
    assert fake.loads == [(("instructseg", "folder"), expected)]


def test_where_hub_weights_come_from_can_be_pinned(run, fake, picture):
    hub = ("--model", "instructseg", "--weights", "someone/weights")
    outcome = run("segment", picture, "the dog", *hub, "--revision", "v1", "--local-files-only")
    assert outcome.code == 0, outcome.err
    ((where, options),) = fake.loads
    assert where == ("instructseg", "someone/weights")
    assert (options["revision"], options["local_files_only"]) == ("v1", True)


def test_a_fifth_of_the_tokens_stays_by_default(run, fake, picture):
    run("segment", picture, "the dog")
    assert fake.given["pruner"].spec() == "evtp(keep_ratio=0.2)"


def test_an_earlier_result_is_replaced_and_anything_else_is_refused(run, fake, picture, tmp_path):
    folder = tmp_path / "answer"
    assert run("segment", picture, "the dog", "the cat", "--out", folder).code == 0
    assert run("segment", picture, "the dog", "--out", folder).code == 0
    assert sorted(path.name for path in folder.iterdir()) == [".leanseg.json", "1", "result.json"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    outcome = run("segment", picture, "the dog", "--out", precious)
    assert outcome.code == 2
    assert "did not write" in outcome.err
    assert (precious / "thesis.txt").read_text() == "years of work"
    outcome = run("segment", picture, "the dog", "--out", precious / "thesis.txt")
    assert (outcome.code, "is a file" in outcome.err) == (2, True)


@pytest.mark.parametrize("name", ["notes.txt", "1/chosen.png", "2/more/deep.txt"])
def test_a_file_that_somebody_put_beside_a_result_is_never_deleted(run, fake, picture, tmp_path, name):
    folder = tmp_path / "answer"
    assert run("segment", picture, "the dog", "--out", folder).code == 0
    earlier = (folder / "result.json").read_text()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    outcome = run("segment", picture, "the cat", "--out", folder)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"did not write: {name};" in outcome.err
    assert (folder / name).read_text() == "mine"
    assert (folder / "result.json").read_text() == earlier
    (folder / name).unlink()
    assert run("segment", picture, "the cat", "--out", folder).code == 0


def test_a_result_of_another_command_or_with_a_broken_record_is_refused(run, fake, picture, tmp_path):
    folder = tmp_path / "answer"
    assert run("segment", picture, "the dog", "--out", folder).code == 0
    assert run("scenes", "--count", 1, "--out", folder).code == 2
    (folder / ".leanseg.json").write_text("[")
    assert run("segment", picture, "the dog", "--out", folder).code == 2


def test_a_file_that_comes_while_the_model_runs_is_kept(run, fake, clip, tmp_path, monkeypatch):
    from leanseg.cli import segment

    folder = tmp_path / "answer"

    real = segment._answer

    def slow(*given):
        yield from real(*given)
        folder.mkdir()
        (folder / "late.txt").write_text("mine")

    monkeypatch.setattr(segment, "_answer", slow)
    assert run("segment", clip, "the dog", "--out", folder).code == 2
    assert [path.name for path in folder.iterdir()] == ["late.txt"]


def test_a_failure_on_the_way_leaves_nothing(run, fake, clip, tmp_path):
    before = sorted(tmp_path.iterdir())
    fake.fail_at = 3
    outcome = run("segment", clip, "the dog", "--out", tmp_path / "answer")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("error: frame 3 cannot be used")
    assert sorted(tmp_path.iterdir()) == before


def test_a_failure_leaves_the_earlier_result(run, fake, clip, tmp_path):
    run("segment", clip, "the dog", "--out", tmp_path / "answer")
    earlier = (tmp_path / "answer/result.json").read_text()
    fake.fail_at = 0
    assert run("segment", clip, "the cat", "--out", tmp_path / "answer").code == 2
    assert (tmp_path / "answer/result.json").read_text() == earlier
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name or "earlier" in path.name] == []


def _broken(tmp_path, name):
    path = tmp_path / name
    if name == "text.png":
        path.write_text("not a picture")
    elif name == "empty.png":
        path.write_bytes(b"")
    elif name == "truncated.mp4":
        path.write_bytes((tmp_path / "clip.mp4").read_bytes()[:600])
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("name", ["missing.png", "text.png", "empty.png", "truncated.mp4", "folder"])
def test_unusable_sources_are_one_line_and_code_2(run, fake, clip, tmp_path, name):
    source = _broken(tmp_path, name)
    before = sorted(tmp_path.iterdir())
    outcome = run("segment", source, "the dog")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert fake.loads == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["  "], "an instruction is empty"),
        (["the dog", ""], "an instruction is empty"),
        (["the dog", "--pruner", "evpt"], "did you mean 'evtp'"),
        (["the dog", "--pruner", "vltp"], "'vltp' is a stage method of VLTP models"),
        (["the dog", "--pruner", "evtp(keep_ratio=0)"], "keep_ratio"),
        (["the dog", "--keep-ratio", "1.5"], "1.5"),
        (["the dog", "--pruner", "evtp(keep_ratio=0.1)", "--keep-ratio", "0.2"], "contradict"),
        (["the dog", "--pruner", "evtp(taw=2)"], "did you mean 'tau'"),
        (["the dog", "--task", "refering"], "did you mean"),
        (["the dog", "--site", "inside"], "before_projector"),
        (["the dog", "--position-ids", "compct"], "did you mean 'compact'"),
        (["the dog", "--template", "none"], "released"),
    ],
)
def test_unusable_requests_are_told_before_a_model_is_loaded(run, fake, picture, tmp_path, arguments, said):
    before = sorted(tmp_path.iterdir())
    outcome = run("segment", picture, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert fake.loads == []


def test_unknown_model_and_missing_weights_are_one_line(run, picture, tmp_path):
    outcome = run("segment", picture, "the dog", "--model", "instructseg")
    assert outcome.code == 2
    assert "--weights" in outcome.err or "weights=" in outcome.err
    outcome = run("segment", picture, "the dog", "--model", "instructseg", "--weights", tmp_path / "nowhere")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_full_disk_is_not_the_request_s_fault(run, fake, picture, monkeypatch):
    from leanseg.cli import answers

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(answers, "write_mask_png", full)
    outcome = run("segment", picture, "the dog")
    assert outcome.code == 1
    assert "No space left on device" in outcome.err


def test_a_photograph_is_met_with_a_plain_word(run, fake, picture):
    outcome = run("segment", picture, "the red apple")
    assert "trained on generated scenes only" in outcome.err
    assert "--weights weic22/InstructSeg" in outcome.err
    document = json.loads(run("segment", picture, "the red apple", "--json").out)
    assert "generated scenes" in document["notes"][0]


def test_a_generated_scene_is_known_and_unknown_words_are_named(run, fake, tmp_path):
    from leanseg.data.scenes.export.files import write_picture

    for name in ("scene.png", "scene.jpg", "frames/0.png"):
        write_picture(tmp_path / name, np.zeros((32, 32, 3), dtype=np.uint8))
    for name in ("scene.png", "scene.jpg", "frames"):
        assert "note" not in run("segment", tmp_path / name, "the red apple").err
    said = run("segment", tmp_path / "scene.png", "The Red apple beneath the zeppelin.").err
    assert "'zeppelin'" in said
    assert "'The'" not in said
    other = run("segment", tmp_path / "scene.png", "the zeppelin", "--model", "instructseg", "--weights", "folder")
    assert "note" not in other.err
    other = run("segment", tmp_path / "scene.png", "the zeppelin", "--weights", "folder")
    assert (other.code, "note" in other.err) == (0, False), other.err


def test_words_of_place_size_and_colour_are_named_to_a_model_that_was_never_taught_them(run, fake, tmp_path):
    from leanseg.data.scenes.export.files import write_picture

    write_picture(tmp_path / "scene.png", np.zeros((32, 32, 3), dtype=np.uint8))
    asked = ["the Largest apple left of the zeppelin", "what you wear on your head", "the largest, red car"]
    outcome = run("segment", tmp_path / "scene.png", *asked, "--model", "vltp-nano", "--json")
    assert outcome.code == 0
    unseen, untaught = json.loads(outcome.out)["notes"]
    assert unseen == "vltp-nano has never seen the word 'zeppelin'; expect a guess"
    assert untaught.startswith("vltp-nano was taught to find things by name, kind or use, not by place, size or colour")
    assert "never the words 'largest', 'left', 'red'; expect a guess, or ask instructseg-nano" in untaught
    assert "vltp-nano was taught" in outcome.err
    for texts, model in ((asked[1:2], "vltp-nano"), (asked[2:], "instructseg-nano")):
        assert "note" not in run("segment", tmp_path / "scene.png", *texts, "--model", model).err


def test_a_huge_picture_is_no_generated_scene_and_no_crash(monkeypatch, tmp_path):
    from leanseg.cli.notes import is_generated
    from leanseg.data.scenes.export.files import write_picture

    path = tmp_path / "scene.png"
    write_picture(path, np.zeros((32, 32, 3), dtype=np.uint8))
    assert is_generated(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert not is_generated(path)


def test_brackets_in_an_instruction_are_not_markup(run, fake, picture):
    outcome = run("segment", picture, "the [/bold] sign [red]")
    assert outcome.code == 0, outcome.err
    assert "the [/bold] sign [red]" in outcome.out


def test_the_summary_says_how_many_tokens_frames_keep():
    from leanseg.cli.answers import summary

    def told(*counts):
        frames = [
            {"segmentation": {"size": [4, 5]}, "area_pixels": 2, "kept": [0] * count, "n_tokens": 16}
            for count in counts
        ]
        return summary({"score": 0.5, "frames": frames})

    assert told(3) == told(3, 3) == "score 0.50, 10.0% of the picture, 3 of 16 tokens per frame"
    assert told(0, 7, 3).endswith(", 0 to 7 of 16 tokens per frame")

"""Models are found by name, folder or hub id; what is not there is said in one line."""

import time

import numpy as np
import pytest
import torch

import leanseg.engine.segmenter as segmenter_module
from leanseg.engine.segmenter import DEFAULT_MODEL, load, shipped_models
from leanseg.errors import InputError, LeansegError
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.prompt import TASKS, prompt_text
from leanseg.models.instructseg.tokenizer import train_tokenizer
from leanseg.models.presets import PRESETS
from leanseg.pruners import EVTP

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("assets") / "tiny-model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer([prompt_text(task) for task in TASKS], vocab_size=300)
        InstructSeg(PRESETS["tiny"], tokenizer=tokenizer).save_pretrained(path)
    return path


@pytest.fixture
def shipped(folder, monkeypatch):
    """The package's folder of models, with one tiny model in it."""
    monkeypatch.setattr(segmenter_module, "assets_folder", lambda: folder.parent)
    return folder.name


def test_a_folder_a_shipped_name_and_weights_give_the_same_model(folder, shipped):
    models = [load(folder, device="cpu"), load(str(folder)), load(shipped), load("instructseg", folder)]
    answers = [model.segment(IMAGE, "a dog", pruner=EVTP(keep_ratio=0.5)) for model in models]
    assert all(np.array_equal(answer.masks, answers[0].masks) for answer in answers)
    assert [model.name for model in models] == [str(folder), str(folder), shipped, f"instructseg:{folder}"]
    assert answers[2].protocol["model"] == shipped
    assert shipped_models() == (shipped,)
    assert not models[0].model.training


def test_the_segmenter_streams_and_remembers(folder):
    model = load(folder)
    clip = np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]])
    stream = list(model.segment_stream(iter(clip), ["a dog", "a cat"]))
    assert len(stream) == 3 and all(len(frame) == 2 for frame in stream)
    hits = model.cache.hits
    model.segment(clip, "a bird")
    assert model.cache.hits > hits
    forgetful = load(folder, cache_bytes=0)
    forgetful.segment(IMAGE, "a dog")
    assert forgetful.cache.used_bytes == 0


def test_the_layout_is_that_of_the_model(folder):
    layout = load(folder).layout
    assert (layout.grid.height, layout.grid.width) == (4, 4)
    assert layout.used == pytest.approx((28 / 30, 28 / 30))


def test_bfloat16(folder):
    result = load(folder, dtype="bfloat16").segment(IMAGE, "a dog", pruner=EVTP(keep_ratio=0.5))
    assert result.protocol["dtype"] == "bfloat16" and result.masks.shape == (1, 30, 44)


def test_unknown_models_are_refused_in_one_line(shipped, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    cases = {
        ("tiny-modl",): "unknown model 'tiny-modl'; did you mean 'tiny-model'",
        ("instructseg",): "has no weights in this package; give a folder or hub id",
        ("nothing", folder): "unknown model 'nothing'",
        ("./nowhere",): "no such model folder: ./nowhere",
        (tmp_path / "nowhere",): "no such model folder",
        (tmp_path / "empty",): "config.json",
        ("instructseg", tmp_path / "empty"): "config.json",
    }
    for arguments, message in cases.items():
        with pytest.raises(LeansegError, match=message) as error:
            load(*arguments)
        assert "\n" not in str(error.value)


def test_corrupt_weights_are_refused_in_one_line(folder, tmp_path):
    for file in folder.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    with pytest.raises(LeansegError, match="safetensors") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    for device, message in {
        "cuda": "torch sees no CUDA device",
        "cuda:3": "torch sees no CUDA device",
        "gpu": "unknown device 'gpu'; expected auto, cpu, cuda",
        "meta": "unknown device 'meta'",
        "": "unknown device ''",
    }.items():
        with pytest.raises(InputError, match=message):
            resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto").type == "cuda" and resolve_device("cuda:0").index == 0
    with pytest.raises(InputError, match="torch sees 1 CUDA device;"):
        resolve_device("cuda:1")


@pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="the trained model is not in this checkout")
def test_the_shipped_model_loads_fast_and_offline():
    load()
    start = time.process_time()
    model = load(local_files_only=True)
    assert time.process_time() - start < 2.0
    assert model.name == DEFAULT_MODEL
    assert model.segment(IMAGE, "the dog").masks.shape == (1, 30, 44)

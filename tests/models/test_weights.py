"""The released layout: round trip, mixed storage, every refusal in one line, the full size's names, the hub's rules."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tests.models.golden_folders import ROOT
from tests.models.instructseg_fixtures import tiny_answer, tiny_model

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg import files
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.weights import (
    is_language_weight,
    load_pretrained,
    released_shapes,
    save_pretrained,
)
from leanseg.models.presets import PRESETS


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _message(folder: Path, **options: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        load_pretrained(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _edit(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace or (None) remove tensors of the model file."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


def _full_names() -> list[Any]:
    found = sorted(ROOT.glob("full_state_dict_keys*.json"))
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason="no list of released names"), id="full/absent")]
    return [pytest.param(file, id=f"{ROOT.name}/{file.stem}") for file in found]


@pytest.mark.golden
@pytest.mark.parametrize("file", _full_names())
def test_full_size_has_exactly_the_released_names_and_shapes(file: Path):
    expected = {name: tuple(shape) for name, (shape, _) in json.loads(file.read_text(encoding="utf-8")).items()}
    given = released_shapes(PRESETS["full"])
    assert len(given) == len(expected)
    assert given == expected


def test_round_trip_is_exact(folder: Path):
    model = tiny_model()
    loaded = InstructSeg.from_pretrained(folder)
    assert not loaded.training
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    for given, expected in zip(tiny_answer(loaded), tiny_answer(model), strict=True):
        assert torch.equal(given, expected)


def test_shards_hold_the_same(folder: Path):
    model = tiny_model()
    save_pretrained(model, folder, max_shard_bytes=100_000)
    assert not (folder / "model.safetensors").exists()
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    assert all(file.stat().st_size < 200_000 for file in folder.glob("model-*.safetensors"))
    loaded = load_pretrained(folder)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    save_pretrained(model, folder)
    assert not list(folder.glob("model-*"))
    assert not (folder / "model.safetensors.index.json").exists()
    assert not list(folder.glob(".*"))


def test_saving_over_a_loaded_model_leaves_it_whole(folder: Path):
    loaded = load_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    save_pretrained(tiny_model(seed=5), folder)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in before.items())


def test_mixed_storage_and_compute_types(folder: Path):
    model = tiny_model()
    save_pretrained(model, folder, storage="mixed")
    stored = load_file(folder / "model.safetensors")
    for name, tensor in stored.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if is_language_weight(name) else torch.float32), name
    for dtype in ("float32", "bfloat16", "float16"):
        loaded = load_pretrained(folder, dtype=dtype)
        assert loaded.language_dtype == getattr(torch, dtype)
        assert {str(value.dtype) for value in loaded.predictor.parameters()} == {"torch.float32"}
        assert {str(value.dtype) for value in loaded.ovp_layers.parameters()} == {"torch.float32"}
        masks, scores = tiny_answer(loaded)
        assert masks.isfinite().all()
        assert scores.isfinite().all()


def test_half_precision_storage_loads_as_float32(folder: Path):
    save_pretrained(tiny_model(), folder, storage="float16")
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}
    assert {value.dtype for value in load_pretrained(folder).parameters()} == {torch.float32}


def test_loading_leaves_the_global_random_state_alone(folder: Path):
    before = torch.get_rng_state()
    load_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_can_be_trained_after_loading(folder: Path):
    loaded = load_pretrained(folder)
    assert loaded.seg_query.requires_grad
    assert not loaded.predictor.query_feat.weight.requires_grad
    assert not any(value.is_meta for value in (*loaded.parameters(), *loaded.buffers()))


def test_language_head_is_optional(folder: Path):
    tiny_model(lm_head=True).save_pretrained(folder)
    assert load_pretrained(folder).lm_head is None
    head = load_pretrained(folder, lm_head=True).lm_head
    assert head is not None
    assert head.weight.shape == (PRESETS["tiny"].language.lm_head_size, PRESETS["tiny"].language.hidden_size)
    tiny_model().save_pretrained(folder)
    assert "lacks 1 of" in _message(folder, lm_head=True)


def test_all_missing_tensors_are_one_error(folder: Path):
    _edit(folder, **{"seg_query": None, "model.layers.1.mlp.fc1.bias": None, "predictor.decoder_norm.weight": None})
    message = _message(folder)
    assert "lacks 3 of" in message
    assert "Missing: model.layers.1.mlp.fc1.bias, predictor.decoder_norm.weight, seg_query" in message


def test_unexpected_tensors_are_logged_and_ignored(folder: Path, caplog: pytest.LogCaptureFixture):
    _edit(folder, **{"box_head.weight": torch.zeros(3), "class_name_projector.bias": torch.zeros(2)})
    with caplog.at_level(logging.WARNING):
        load_pretrained(folder)
    assert "holds 2 tensors that are not used: box_head.weight, class_name_projector.bias" in caplog.text


def test_shapes_are_checked_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    _edit(folder, seg_query=torch.zeros(6, 32), temporal_query=torch.zeros(4, 33))
    monkeypatch.setattr(files, "read_tensors", lambda *_: pytest.fail("tensors were read"))
    message = _message(folder)
    assert "has 2 tensors of another shape" in message
    assert "seg_query [6, 32] instead of [5, 32]" in message
    assert "temporal_query [4, 33] instead of [4, 32]" in message


def test_rows_of_the_embedding_come_from_the_file(folder: Path):
    rows = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    _edit(folder, **{"model.embed_tokens.weight": torch.cat((rows, rows[:7]))})
    assert load_pretrained(folder).config.language.vocab_size == len(rows) + 7
    _edit(folder, **{"model.embed_tokens.weight": rows[:100]})
    assert "tokens, the embedding table 100 rows; expected a row per token" in _message(folder)


def test_config_of_another_model(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    assert "config.json asks for 1000000000 layers" in _message(folder)
    deep = {**config["leanseg"], "mask": {**config["leanseg"]["mask"], "decoder_layers": 10**9}}
    (folder / "config.json").write_text(json.dumps({**config, "leanseg": deep}))
    assert "config.json asks for 1000000000 layers" in _message(folder)
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "sharp"}))
    assert "the sizes in config.json make no model (KeyError" in _message(folder)
    config["leanseg"].pop("mask")
    (folder / "config.json").write_text(json.dumps(config))
    assert "lacks" in _message(folder)


def test_weights_that_are_whole_numbers(folder: Path):
    _edit(folder, seg_query=torch.zeros(5, 32, dtype=torch.int32))
    assert "seg_query is stored as torch.int32; expected floating point" in _message(folder)


@pytest.mark.parametrize("keep_bytes", [0, 4, 1000, -100])
def test_cut_files(folder: Path, keep_bytes: int):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep_bytes])
    assert "is no whole safetensors file" in _message(folder)


def test_broken_json(folder: Path):
    (folder / "config.json").write_text('{"hidden_size": 25')
    assert "config.json cannot be read" in _message(folder)
    (folder / "config.json").write_text("[" * 200_000)
    assert "config.json cannot be read" in _message(folder)
    (folder / "config.json").write_text("[]")
    assert "holds a JSON list; expected an object" in _message(folder)
    (folder / "config.json").unlink()
    assert "has no config.json; expected the release's layout" in _message(folder)


def test_missing_weights_and_shards(folder: Path):
    (folder / "model.safetensors").unlink()
    assert "has neither model.safetensors nor model.safetensors.index.json" in _message(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "x.safetensors"}}))
    assert "lacks model-00001-of-00002.safetensors, x.safetensors" in _message(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../x.safetensors", "b": "weights.bin"}}))
    assert "names ../x.safetensors, weights.bin; expected safetensors files in the same folder" in _message(folder)
    index.write_text(json.dumps({"weight_map": ["a"]}))
    assert "has no weight_map of names to files" in _message(folder)


def test_names_that_are_no_model(tmp_path: Path):
    assert "is no model folder; expected a folder with config.json or a hub id" in _message(tmp_path / "absent")
    assert "is no model folder" in _message(Path("instructsegg"))
    file = tmp_path / "weights.safetensors"
    file.touch()
    assert "is no model folder" in _message(file)


def test_a_revision_is_for_the_hub(folder: Path):
    assert "revision 'abc' was given for the folder" in _message(folder, revision="abc")


def test_unknown_dtype_device_and_storage(folder: Path):
    with pytest.raises(InputError, match="dtype 'float8' is not supported; expected float32, bfloat16, float16"):
        load_pretrained(folder, dtype="float8")
    with pytest.raises(InputError, match=r"dtype torch\.int8 is not supported"):
        load_pretrained(folder, dtype=torch.int8)
    with pytest.raises(InputError, match="unknown device 'gpu'; expected auto, cpu, cuda"):
        load_pretrained(folder, device="gpu")
    with pytest.raises(InputError, match="storage 'int4' is unknown; expected as_is, mixed"):
        save_pretrained(tiny_model(), folder, storage="int4")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(folder: Path):
    with pytest.raises(InputError, match="torch sees no CUDA device; give --device cpu or auto"):
        load_pretrained(folder, device="cuda")


class _Hub:
    """Stands in for the hub: remembers what was asked for and answers with a folder or an error."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer, self.asked = answer, {}

    def __call__(self, name: str, **options: Any) -> str:
        self.asked = {"name": name, **options}
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def test_hub_loads_ask_for_data_files_at_a_pinned_revision(folder: Path, monkeypatch: pytest.MonkeyPatch):
    hub = _Hub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    load_pretrained("weic22/InstructSeg", local_files_only=True)
    assert hub.asked == {
        "name": "weic22/InstructSeg",
        "revision": "d5375970b819922b3f9a17c22ea8453f05d6f7b2",
        "local_files_only": True,
        "allow_patterns": ["*.json", "*.safetensors", "*.txt"],
    }
    load_pretrained("someone/other", revision="v1")
    assert (hub.asked["revision"], hub.asked["local_files_only"]) == ("v1", False)


def test_an_unpinned_repository_is_logged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _Hub(folder))
    with caplog.at_level(logging.WARNING):
        load_pretrained("someone/other")
    assert "someone/other is loaded without a revision" in caplog.text


def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _Hub(LocalEntryNotFoundError("not\nthere")))
    message = _message(Path("weic22/InstructSeg"), local_files_only=True)
    assert "is not in the local cache and was not fetched; allow the download or give a folder" in message
    assert "check the network" in _message(Path("weic22/InstructSeg"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _Hub(OSError("no\nroute")))
    assert "cannot be fetched (no route)" in _message(Path("weic22/InstructSeg"))

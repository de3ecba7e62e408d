"""VLTP's folder: round trip, shards, precision, and files of strangers that are refused in one line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.vltp_fixtures import INSTRUCTION, picture, tiny_tokenizer, tiny_vltp

from leanseg.errors import InputError, WeightsError
from leanseg.models.instructseg.lora import add_adapters, load_adapters, merge_adapters, save_adapters
from leanseg.models.vltp.config import ClipConfig, GuideConfig, LlamaConfig, VLTPConfig
from leanseg.models.vltp.guidance_cache import MOST_ROWS, GuidanceCache
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.weights import compute_type


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vltp")
    tiny_vltp().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        VLTP.from_pretrained(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_exact(folder: Path):
    model, before = tiny_vltp(), torch.get_rng_state()
    loaded = VLTP.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training and loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    first, second = (each.segment(picture(), INSTRUCTION, soft=True) for each in (model, loaded))
    assert np.array_equal(first.soft, second.soft)
    assert not any(value.is_meta for value in (*loaded.parameters(), *loaded.buffers()))


def test_shards_are_small_and_hold_the_same(folder: Path):
    tiny_vltp().save_pretrained(folder, max_shard_bytes=60_000)
    shards = list(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2 and all(file.stat().st_size < 90_000 for file in shards)
    assert not (folder / "model.safetensors").exists()
    state = VLTP.from_pretrained(folder).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_vltp().state_dict().items())


def test_the_small_models_files_fit(tmp_path: Path):
    config = VLTP_PRESETS["nano"]
    with torch.random.fork_rng():
        VLTP(config, tokenizer=tiny_tokenizer()).save_pretrained(tmp_path, storage="mixed", max_shard_bytes=15_000_000)
    assert all(file.stat().st_size <= 16 * 1024**2 for file in tmp_path.iterdir())
    assert VLTP.from_pretrained(tmp_path).config == config


def test_mixed_storage_and_compute_types(folder: Path):
    tiny_vltp().save_pretrained(folder, storage="mixed")
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert tensor.dtype == compute_type(name, torch.float16), name
    assert {each.dtype for each in VLTP.from_pretrained(folder).state_dict().values()} == {torch.float32}
    half = VLTP.from_pretrained(folder, dtype="bfloat16").state_dict()
    assert {name for name, tensor in half.items() if tensor.dtype == torch.float32} == {
        name for name in half if not name.startswith(("mllm.", "sam.image_encoder.", "prune_decoder."))
    }
    with pytest.raises(InputError, match="storage 'half' is unknown"):
        tiny_vltp().save_pretrained(folder, storage="half")
    with pytest.raises(InputError, match="dtype 'int8' is not supported"):
        VLTP.from_pretrained(folder, dtype="int8")


def test_tensors_that_lack_or_do_not_fit_are_named(folder: Path, caplog: pytest.LogCaptureFixture):
    path = folder / "model.safetensors"
    whole = load_file(path)
    save_file({name: tensor for name, tensor in whole.items() if "mask_tokens" not in name}, path)
    assert "lacks 2 of" in _refused(folder) and "prune_decoder.mask_tokens.weight" in _refused(folder)
    save_file({**whole, "mllm.lm_head.weight": torch.zeros(2, 2)}, path)
    assert "mllm.lm_head.weight [2, 2] instead of [400, 32]" in _refused(folder)
    save_file({**whole, "sam.image_encoder.neck.0.weight": whole["sam.image_encoder.neck.0.weight"].long()}, path)
    assert "the weight sam.image_encoder.neck.0.weight is stored as torch.int64" in _refused(folder)
    save_file({**whole, "other": torch.zeros(1)}, path)
    with caplog.at_level(logging.WARNING):
        VLTP.from_pretrained(folder)
    assert "holds 1 tensors that are not used: other" in caplog.text
    path.write_bytes(path.read_bytes()[:5000])
    assert "no whole safetensors file" in _refused(folder)


def _with(folder: Path, **changes: Any) -> None:
    """Change the configuration; a value for `part__key` goes into a part."""
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        *parts, last = key.split("__")
        target = config
        for part in parts:
            target = target[part]
        target[last] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "of a model of type 'llava'; expected 'vltp'"),
        ({"sam": 3}, "sam in config.json is 3; expected an object"),
        ({"sam__depth": 10**9}, "config.json asks for 1000000000 layers, the files hold"),
        ({"sam__multimasks": 10**9}, "config.json asks for 1000000000 layers"),
        ({"guide__language__num_hidden_layers": 10**9}, "config.json asks for 1000000000 layers"),
        ({"guide__vision__num_hidden_layers": 10**9}, "config.json asks for 1000000000 layers"),
        ({"sam__image_size": 10**6}, "image_size is 1000000"),
        ({"sam__width": -1}, "width in sam is -1"),
        ({"sam__width": "wide"}, "width in sam is 'wide'"),
        ({"sam__global_blocks": [-1]}, r"global_blocks hold \[-1\]"),
        ({"guide__vision__image_size": 10**9}, "CLIP's image_size is 1000000000; expected 7, its patch, to 4096"),
        ({"guide__vision__patch_size": 31}, "CLIP's image_size is 30; expected 31"),
        ({"guide__vision__select_layer": -9}, "select_layer -9 is outside the tower's 4 hidden states"),
        ({"guide__vision__hidden_act": "import os"}, "make no model"),
        ({"guide__vision__num_attention_heads": 5}, "make no model"),
        ({"guide__language__num_attention_heads": 5}, "make no model"),
        ({"guide__language__vocab_size": 30}, "the tokenizer has 340 tokens, the embedding table 30 rows"),
        ({"guide__language__max_position_embeddings": 10}, "a picture has 16 tokens and the language model 10"),
        ({"guide__projector": "linaer"}, "unknown projector 'linaer'; did you mean 'linear'"),
        ({"guide__template": "llava_v0"}, "unknown template 'llava_v0'; did you mean 'llava_v1'"),
        ({"guide__template": 2}, "template in guide is 2; expected str such as 'llava_v1'"),
        ({"stages": [[9, 0.5]]}, r"stages lie after blocks \[9\]"),
        ({"stages": [[3, 0.5], [1, 0.5]]}, r"expected rising numbers in 0..3"),
        ({"stages": [[1, 0.0]]}, "keep_ratio"),
        ({"stages": [[1, 2.0]]}, "keep_ratio"),
        ({"stages": [[1, "half"]]}, r"a stage in config.json is \[1, 'half'\]"),
        ({"stages": [[True, 0.5]]}, r"a stage in config.json is \[True, 0.5\]"),
        ({"stages": 1}, "expected pairs"),
        ({"stages": [[1, 0.5, 2]]}, "expected pairs"),
        ({"method": "mine.py:Mine"}, "unknown method 'mine.py:Mine'"),
        ({"policy": "keep"}, "unknown policy 'keep'"),
        ({"several": "all"}, "unknown several 'all'"),
        ({"reactivate": "yes"}, "reactivate in config.json is 'yes'; expected bool"),
    ],
)
def test_hostile_configurations_are_refused_in_one_line(folder: Path, changes: dict[str, Any], message: str):
    _with(folder, **changes)
    with pytest.raises(WeightsError, match=message) as caught:
        VLTP.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_its_files_is_refused(folder: Path, tmp_path: Path):
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert "has no tokenizer.json" in _refused(folder)
    (folder / "config.json").write_text("[")
    assert "config.json cannot be read" in _refused(folder)
    (folder / "config.json").unlink()
    assert "has no config.json" in _refused(folder)
    assert "is no model folder" in _refused(tmp_path / "nowhere")


@pytest.mark.parametrize("name", VLTP_PRESETS)
def test_presets_survive_json(name: str):
    config = VLTP_PRESETS[name]
    assert VLTPConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_defaults_are_the_papers():
    config = VLTPConfig()
    assert config == VLTP_PRESETS["h"] and config.stages == ((16, 0.5), (24, 0.5))
    assert config.guide.vision.n_tokens == 256 and config.guide.projector == "linear"
    assert ClipConfig(image_size=336).n_tokens == 576
    assert (LlamaConfig().hidden_size, LlamaConfig().num_hidden_layers) == (4096, 32)
    assert GuideConfig().vision.n_layers_run == 23


def test_adapters_are_lisas(tmp_path: Path):
    model = tiny_vltp()
    expected = model.segment(picture(), INSTRUCTION, soft=True)
    names = add_adapters(model)
    layers = model.config.guide.language.num_hidden_layers
    assert len(names) == 2 * 2 * layers
    assert all(".q_proj.lora_" in name or ".v_proj.lora_" in name for name in names)
    assert all(name.startswith("mllm.model.language_model.") for name in names)
    trained = dict(model.named_parameters())
    assert trained[names[0]].shape[0] == 8
    assert np.array_equal(model.eval().segment(picture(), INSTRUCTION, soft=True).soft, expected.soft)
    with pytest.raises(WeightsError, match="merge the adapters first"):
        model.save_pretrained(tmp_path)
    for name in names:
        trained[name].data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    adapted = model.segment(picture(), INSTRUCTION, soft=True)
    save_adapters(model, tmp_path / "adapters")
    merge_adapters(model)
    other = tiny_vltp()
    load_adapters(other, tmp_path / "adapters")
    for each in (model, other):
        assert np.allclose(each.segment(picture(), INSTRUCTION, soft=True).soft, adapted.soft, atol=1e-5)
    assert not np.allclose(adapted.soft, expected.soft, atol=1e-5)
    model.save_pretrained(tmp_path / "merged")


def test_guidance_comes_back_and_is_batched(tmp_path: Path):
    cache, rows = GuidanceCache(dim=16), torch.randn((3, 16), generator=torch.Generator().manual_seed(0))
    cache["a/b: cut, the bread"], cache["17"], cache["none"] = rows[:2], rows[2:], rows[:0]
    cache.save(tmp_path / "deep" / "guidance.safetensors")
    loaded = GuidanceCache.load(tmp_path / "deep" / "guidance.safetensors", dim=16)
    assert {key: loaded[key].tolist() for key in loaded} == {key: cache[key].tolist() for key in cache}
    assert len(loaded) == 3
    batch = loaded.batch(["17", "none", "a/b: cut, the bread", "17"])
    assert torch.equal(batch.states, torch.cat([rows[2:], rows[:2], rows[2:]]))
    assert batch.conversation.tolist() == [0, 2, 2, 3]
    assert loaded.batch([]).states.shape == (0, 16)
    with pytest.raises(InputError, match="unknown guidance '71'; did you mean '17'"):
        loaded.batch(["71"])


def test_what_is_no_guidance_is_refused(tmp_path: Path):
    cache, path = GuidanceCache(dim=16), tmp_path / "guidance.safetensors"
    for wrong in (torch.zeros(16), torch.zeros(1, 15), torch.zeros(MOST_ROWS + 1, 16), torch.zeros(1, 16).long()):
        with pytest.raises(InputError, match=r"expected floating point \(S, 16\) with at most 64 rows"):
            cache["a cup"] = wrong
    with pytest.raises(InputError, match="without a key"):
        cache[""] = torch.zeros(1, 16)
    with pytest.raises(WeightsError, match="is no file of at most"):
        GuidanceCache.load(path)
    path.write_bytes(b"\0" * 30)
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        GuidanceCache.load(path)
    save_file({"a cup": torch.zeros(1, 17)}, path)
    with pytest.raises(WeightsError, match=r"are no embeddings \(S, 16\): 'a cup' \[1, 17\]"):
        GuidanceCache.load(path, dim=16)
    save_file({"a cup": torch.zeros(10_000, 16)}, path)
    with pytest.raises(WeightsError, match="are no embeddings"):
        GuidanceCache.load(path, dim=16)

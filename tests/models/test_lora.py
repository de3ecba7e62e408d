"""Adapters: nothing at first, merged equals unmerged, files in peft's layout, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.instructseg_fixtures import assert_near, tiny_answer, tiny_model

from leanseg.errors import WeightsError
from leanseg.models.instructseg.lora import (
    LoraOptions,
    add_adapters,
    load_adapters,
    merge_adapters,
    save_adapters,
)
from leanseg.models.instructseg.model import InstructSeg

pytest.importorskip("peft")


def _adapted() -> InstructSeg:
    """A tiny model whose adapters do something."""
    model = tiny_model()
    add_adapters(model)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=generator)
    return model


def test_fresh_adapters_change_nothing_and_are_all_that_the_language_model_trains():
    model = tiny_model()
    names = add_adapters(model)
    assert torch.equal(tiny_answer(model)[0], tiny_answer(tiny_model())[0])
    n_layers = model.config.language.num_hidden_layers
    assert len(names) == n_layers * 2 * 2
    assert all(".q_proj." in name or ".v_proj." in name for name in names)
    trained = {name for name, value in model.language_model.named_parameters() if value.requires_grad}
    assert {f"language_model.{name}" for name in trained} == set(names)
    assert model.ovp_layers.norm.weight.requires_grad
    shapes = {tuple(model.get_parameter(name).shape) for name in names}
    assert shapes == {(8, 32), (32, 8)}


def test_merged_equals_unmerged():
    model = _adapted()
    unmerged = tiny_answer(model)
    assert not torch.allclose(unmerged[0], tiny_answer(tiny_model())[0], atol=1e-3)
    merge_adapters(model)
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    for given, expected in zip(tiny_answer(model), unmerged, strict=True):
        assert_near(given, expected, 1e-4)
    plain, merged = tiny_model().state_dict(), model.state_dict()
    changed = {name for name, tensor in merged.items() if not torch.equal(tensor, plain[name])}
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)


@pytest.mark.parametrize("bare", [False, True])
def test_saved_adapters_load_and_merge(tmp_path: Path, bare: bool):
    model = _adapted()
    save_adapters(model, tmp_path)
    if bare:
        path = tmp_path / "adapter_model.safetensors"
        tensors = load_file(path)
        save_file({name.replace("model.model.", "model."): value for name, value in tensors.items()}, path)
    merge_adapters(model)
    loaded = tiny_model()
    load_adapters(loaded, tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_adapters_can_stay_unmerged(tmp_path: Path):
    model = _adapted()
    save_adapters(model, tmp_path)
    loaded = tiny_model()
    load_adapters(loaded, tmp_path, merge=False)
    assert torch.equal(tiny_answer(loaded)[0], tiny_answer(model)[0])
    with pytest.raises(WeightsError, match="adapter tensors; expected plain weights; merge the adapters first"):
        loaded.save_pretrained(tmp_path / "model")


def test_other_ranks_come_from_the_file(tmp_path: Path):
    model = tiny_model()
    options = LoraOptions(rank=3, alpha=5, targets=("k_proj",))
    add_adapters(model, options)
    save_adapters(model, tmp_path, options)
    loaded = tiny_model()
    load_adapters(loaded, tmp_path, merge=False)
    adapters = [value for name, value in loaded.named_parameters() if "k_proj.lora_A" in name]
    assert {tuple(value.shape) for value in adapters} == {(3, 32)}


def test_adapters_of_another_model_leave_the_model_as_it_was(tmp_path: Path):
    save_adapters(_adapted(), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    tensors[first.replace("layers.0", "layers.9")] = tensors.pop(first)
    second = next(name for name in sorted(tensors) if "lora_A" in name)
    tensors[second] = tensors[second][:, :2].contiguous()
    save_file(tensors, path)
    model = tiny_model()
    with pytest.raises(WeightsError, match=r"missing: .*layers\.0.*; unexpected: .*layers\.9.*; of another shape: "):
        load_adapters(model, tmp_path)
    assert model.state_dict().keys() == tiny_model().state_dict().keys()


def test_missing_and_foreign_files(tmp_path: Path):
    model = tiny_model()
    with pytest.raises(WeightsError, match=r"has no adapter_config.json"):
        load_adapters(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    with pytest.raises(WeightsError, match="is no LoRA configuration"):
        load_adapters(model, tmp_path)
    content = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    for unlike in ({"use_dora": True}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 4}}, {"bias": "all"}):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**content, **unlike}))
        with pytest.raises(WeightsError, match="only plain LoRA adapters are supported"):
            load_adapters(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**content, "target_modules": "all-linear"}))
    with pytest.raises(WeightsError, match="target_modules is 'all-linear' and not a list"):
        load_adapters(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"has no adapter_model.safetensors; expected adapters as safetensors"):
        load_adapters(model, tmp_path)


def test_the_file_bounds_the_rank_before_anything_is_allocated(tmp_path: Path):
    save_adapters(_adapted(), tmp_path)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**content, "r": 10**12}))
    with pytest.raises(WeightsError, match=r"gives rank 1000000000000, adapter_model.safetensors holds ranks \[8\]"):
        load_adapters(tiny_model(), tmp_path)


def test_layers_that_the_language_model_lacks():
    with pytest.raises(WeightsError, match="unknown linear layer to adapt 'q_prj'; did you mean 'q_proj'"):
        add_adapters(tiny_model(), LoraOptions(targets=("q_prj",)))


def test_nothing_to_merge():
    with pytest.raises(WeightsError, match="the model has no adapters to merge"):
        merge_adapters(tiny_model())


def test_without_peft(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(WeightsError, match=r"adapters need the package peft; install it with: pip install"):
        add_adapters(tiny_model())

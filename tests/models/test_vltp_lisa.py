"""A LISA checkpoint in its released layout gives the model that its parts make, and strangers' files do no harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models.vltp_fixtures import INSTRUCTION, picture, tiny_tokenizer, tiny_vltp
from torch import Tensor

from leanseg.errors import WeightsError
from leanseg.models.vltp.lisa import load_lisa
from leanseg.models.vltp.model import VLTP

# Ours, released.
NAMES = {
    "mllm.model.language_model.": "model.",
    "mllm.model.multi_modal_projector.": "model.mm_projector.",
    "mllm.lm_head.": "lm_head.",
    "seg_projector.": "model.",
    "sam.": "model.visual_model.",
}


def _model() -> VLTP:
    return tiny_vltp(stages=())


def _released(model: VLTP) -> dict[str, Tensor]:
    """Return the checkpoint's tensors, with what old ones hold besides."""
    state = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    for name, tensor in model.state_dict().items():
        for ours, released in NAMES.items():
            if name.startswith(ours):
                state[released + name.removeprefix(ours)] = tensor.clone()
    return state


def _tower(model: VLTP) -> dict[str, Tensor]:
    own = "mllm.model.vision_tower."
    state = {
        "vision_model." + name.removeprefix(own): tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.startswith(own)
    }
    return {**state, "vision_model.embeddings.position_ids": torch.arange(17)[None], "logit_scale": torch.ones(())}


def _write(state: dict[str, Tensor], folder: Path, kind: str) -> None:
    """Write a folder's weights: `safetensors`, one `archive` of torch.save, or two with an index (`parts`)."""
    folder.mkdir(exist_ok=True)
    if kind == "safetensors":
        save_file(state, folder / "model.safetensors")
    elif kind == "archive":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names, weight_map = sorted(state), {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"pytorch_model-{number:05d}-of-00002.bin"
            torch.save({name: state[name] for name in part}, folder / file)
            weight_map |= dict.fromkeys(part, file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.fixture(params=["safetensors", "archive", "parts"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def _folders(root: Path, kind: str = "safetensors", **changes: Tensor | None) -> tuple[Path, Path]:
    """Write a checkpoint and its CLIP as they are released; changed tensors by their released names, None = absent."""
    model = _model()
    state = {**_released(model), **changes}
    _write({name: tensor for name, tensor in state.items() if tensor is not None}, root / "lisa", kind)
    _write(_tower(model), root / "clip", kind)
    guide = model.config.to_dict()["guide"]
    language = {**guide["language"], "model_type": "llava", "mm_vision_select_layer": -2, "vocab_size": 32000}
    (root / "lisa/config.json").write_text(json.dumps(language))
    vision = {**guide["vision"], "model_type": "clip_vision_model", "projection_dim": 7}
    (root / "clip/config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    tiny_tokenizer().save(root / "lisa")
    return root / "lisa", root / "clip"


def _loaded(root: Path, kind: str = "safetensors", **changes: Any) -> VLTP:
    checkpoint, clip = _folders(root, kind, **changes)
    return load_lisa(checkpoint, clip=clip, config=_model().config)


def test_the_released_layout_is_the_model_of_its_parts(tmp_path: Path, kind: str):
    loaded, expected = _loaded(tmp_path, kind), _model()
    for name, tensor in expected.state_dict().items():
        if not name.startswith("prune_decoder."):
            assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training and not any(value.is_meta for value in (*loaded.parameters(), *loaded.buffers()))
    shutil.rmtree(tmp_path / "lisa")  # no parameter is a window into a file
    first, second = (each.segment(picture(), INSTRUCTION, soft=True) for each in (loaded, expected))
    assert np.array_equal(first.soft, second.soft)


def test_it_can_be_saved_and_given_stages(tmp_path: Path):
    loaded = _loaded(tmp_path)
    loaded.save_pretrained(tmp_path / "vltp")
    again = VLTP.from_pretrained(tmp_path / "vltp")
    options = {"stages": [(1, 0.5)], "soft": True}
    assert np.array_equal(
        *(each.segment(picture(), INSTRUCTION, **options).soft for each in (loaded, again)),
    )


def test_the_prune_decoder_is_drawn_alike_and_nothing_else_random_happens(tmp_path: Path):
    before = torch.get_rng_state()
    first = _loaded(tmp_path).prune_decoder.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    checkpoint, clip = tmp_path / "lisa", tmp_path / "clip"
    second = load_lisa(checkpoint, clip=clip, config=_model().config).prune_decoder.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_plain_sam_fills_what_the_checkpoint_lacks_and_nothing_more(tmp_path: Path):
    model = _model()
    lacking = [name for name in _released(model) if name.startswith("model.visual_model.image_encoder.")]
    plain = {name.removeprefix("sam."): tensor + 1 for name, tensor in model.state_dict().items() if "sam." in name}
    torch.save(plain, tmp_path / "sam_vit_t.pth")
    checkpoint, clip = _folders(tmp_path, **dict.fromkeys(lacking))
    loaded = load_lisa(checkpoint, clip=clip, sam=tmp_path / "sam_vit_t.pth", config=model.config).state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("sam."):
            assert torch.equal(loaded[name], tensor + name.startswith("sam.image_encoder.")), name
    with pytest.raises(WeightsError, match=r"lack \d+ of \d+ tensors; expected a LISA checkpoint.*sam.image_encoder"):
        load_lisa(checkpoint, clip=clip, config=model.config)


def test_sizes_come_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import leanseg.models.sam.weights as sam_weights

    expected = _model().config
    monkeypatch.setattr(sam_weights, "SIZES", {"t": expected.sam})
    checkpoint, clip = _folders(tmp_path)
    assert load_lisa(checkpoint, clip=clip).config == expected
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="an image encoder 24 wide; expected a released size"):
        load_lisa(checkpoint, clip=clip)


def _released_with(root: Path, **changes: Any) -> tuple[Path, Path]:
    checkpoint, clip = _folders(root)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **changes}))
    return checkpoint, clip


def test_the_conversations_template_is_lisas_conv_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import leanseg.models.sam.weights as sam_weights

    monkeypatch.setattr(sam_weights, "SIZES", {"t": _model().config.sam})
    checkpoint, clip = _released_with(tmp_path, conv_type="llava_llama_2")
    model = load_lisa(checkpoint, clip=clip)
    assert model.config.guide.template == "llava_llama_2"
    model.save_pretrained(tmp_path / "saved")
    assert VLTP.from_pretrained(tmp_path / "saved").config.guide.template == "llava_llama_2"
    _released_with(tmp_path, conv_type="llava_llama2")
    with pytest.raises(WeightsError, match="unknown template 'llava_llama2'; did you mean 'llava_llama_2'"):
        load_lisa(checkpoint, clip=clip)


def test_two_linear_layers_are_told_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import leanseg.models.sam.weights as sam_weights

    monkeypatch.setattr(sam_weights, "SIZES", {"t": _model().config.sam})
    single = {f"model.mm_projector.{part}": None for part in ("weight", "bias")}
    double = {
        "model.mm_projector.0.weight": torch.randn(32, 24),
        "model.mm_projector.0.bias": torch.zeros(32),
        "model.mm_projector.2.weight": torch.eye(32),
        "model.mm_projector.2.bias": torch.zeros(32),
    }
    checkpoint, clip = _folders(tmp_path, **single, **double)
    loaded = load_lisa(checkpoint, clip=clip)
    assert loaded.config.guide.projector == "mlp"
    found = loaded.mllm.model.multi_modal_projector
    assert torch.equal(found.linear_1.weight, double["model.mm_projector.0.weight"])
    assert torch.equal(found.linear_2.weight, torch.eye(32))


def test_tensors_of_another_shape_are_named(tmp_path: Path):
    message = r"of another shape.*mllm.lm_head.weight \[9, 32\] instead of \[400, 32\]"
    with pytest.raises(WeightsError, match=message):
        _loaded(tmp_path, **{"lm_head.weight": torch.zeros(9, 32)})


def test_a_checkpoint_without_sam_says_what_to_give(tmp_path: Path):
    lacking = {name: None for name in _released(_model()) if "visual_model" in name}
    checkpoint, clip = _folders(tmp_path, **lacking)
    with pytest.raises(WeightsError, match="holds no image encoder of SAM below model"):
        load_lisa(checkpoint, clip=clip)


class _Payload:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import tests.models.test_vltp_lisa as t; t._Payload.ran = True",))


def test_a_checkpoint_that_holds_a_program_is_refused_and_not_run(tmp_path: Path):
    checkpoint, clip = _folders(tmp_path, "parts")
    torch.save({"lm_head.weight": _Payload()}, checkpoint / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(WeightsError, match="holds more than weights"):
        load_lisa(checkpoint, clip=clip)
    assert not _Payload.ran


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../pytorch_model.bin"}, r"names \.\./pytorch_model.bin; expected bin files in the same folder"),
        ({"a": "weights.pkl"}, "names weights.pkl; expected bin files"),
        ({"a": "absent.bin"}, "lacks absent.bin; expected every file that pytorch_model.bin.index.json names"),
        (["a"], "has no weight_map"),
    ],
)
def test_an_index_leads_nowhere_else(tmp_path: Path, weight_map: Any, message: str):
    checkpoint, clip = _folders(tmp_path, "parts")
    (checkpoint / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(WeightsError, match=message):
        load_lisa(checkpoint, clip=clip)


def test_sizes_beyond_the_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import leanseg.models.sam.weights as sam_weights

    monkeypatch.setattr(sam_weights, "SIZES", {"t": _model().config.sam})
    checkpoint, clip = _released_with(tmp_path, num_hidden_layers=10**9)
    with pytest.raises(WeightsError, match="asks for 1000000000 layers"):
        load_lisa(checkpoint, clip=clip)

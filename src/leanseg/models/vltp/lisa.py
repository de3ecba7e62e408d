"""LISA's released checkpoint as a VLTP whose stages are still to be trained.

Three sources: the checkpoint (language model, projectors, and the whole of SAM with its fine-tuned mask decoder), the
CLIP tower it was trained with, which it does not hold, and where it lacks parts of SAM the plain SAM. Files are read by
`leanseg.models.weight_files`: safetensors, or archives of plain tensors; nothing of them is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from leanseg.errors import WeightsError
from leanseg.models.config_reading import mapping, read_part
from leanseg.models.devices import resolve_device
from leanseg.models.instructseg import files
from leanseg.models.instructseg.weights import compute_dtype
from leanseg.models.sam.weights import released_size
from leanseg.models.vltp.config import ClipConfig, GuideConfig, LlamaConfig, VLTPConfig
from leanseg.models.vltp.encoders import encoder_weights
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.tokenizer import load_guide_tokenizer
from leanseg.models.vltp.weights import check_depth, empty_model, fill
from leanseg.models.weight_files import WeightFiles, open_weights

SAM_PREFIX = "model.visual_model."
PROJECTOR = "mllm.model.multi_modal_projector."
# Released prefix, ours; the first that fits wins.
NAMES = (
    (SAM_PREFIX, "sam."),
    ("model.text_hidden_fcs.", "seg_projector.text_hidden_fcs."),
    ("model.mm_projector.0.", f"{PROJECTOR}linear_1."),
    ("model.mm_projector.2.", f"{PROJECTOR}linear_2."),
    ("model.mm_projector.", PROJECTOR),
    ("model.embed_tokens.", "mllm.model.language_model.embed_tokens."),
    ("model.layers.", "mllm.model.language_model.layers."),
    ("model.norm.", "mllm.model.language_model.norm."),
    ("lm_head.", "mllm.lm_head."),
)
CLIP_NAMES = (("vision_model.", "mllm.model.vision_tower."),)
SAM_NAMES = (("image_encoder.", "sam.image_encoder."), ("prompt_encoder.", "sam.prompt_encoder."),
             ("mask_decoder.", "sam.mask_decoder."))  # fmt: skip
EMBEDDING = "mllm.model.language_model.embed_tokens.weight"
PRUNE_DECODER = "prune_decoder."


class Source(NamedTuple):
    """Where a tensor of ours lies."""

    files: WeightFiles
    name: str


def load_lisa(
    checkpoint: str | Path,
    *,
    clip: str | Path,
    sam: str | Path | None = None,
    config: VLTPConfig | None = None,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
) -> VLTP:
    """Load a LISA checkpoint's folder (config.json, tokenizer.json, weights) with its CLIP's folder.

    `sam`: a file of plain SAM, for what the checkpoint lacks of it. `config`: None = the sizes that the files state,
    no stages, and the conversations' template that config.json names as LISA's option `conv_type`, else `llava_v1`.
    The prune decoder, which nobody has released, is drawn from a seed of its own; `save_pretrained` makes a folder of
    the result.
    """
    compute, target = compute_dtype(dtype), resolve_device(device)
    folder, tower = Path(checkpoint), Path(clip)
    main = open_weights(folder)
    sources = _renamed(open_weights(tower), CLIP_NAMES)
    if sam is not None:
        sources |= _renamed(open_weights(sam), SAM_NAMES)
    sources |= _renamed(main, NAMES)
    sizes = config or _sizes(folder, tower, sources)
    check_depth(sizes, len(sources))
    model = empty_model(sizes, load_guide_tokenizer(folder))
    drawn = {} if model.prune_decoder is None else _drawn(sizes)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in drawn}
    _check(expected, sources, folder)
    fill(model, _tensors(expected, sources, drawn, target), compute)
    return model


def _renamed(found: WeightFiles, names: Sequence[tuple[str, str]]) -> dict[str, Source]:
    sources = {}
    for name in found.shapes:
        for released, ours in names:
            if name.startswith(released):
                sources[ours + name.removeprefix(released)] = Source(found, name)
                break
    return sources


def _sizes(folder: Path, tower: Path, sources: Mapping[str, Source]) -> VLTPConfig:
    given = files.read_json(folder / files.CONFIG_FILE)
    vision = files.read_json(tower / files.CONFIG_FILE)
    vision = dict(mapping(vision, "vision_config") or vision)
    vision["select_layer"] = given.get("mm_vision_select_layer", -2)
    language = {key: value for key, value in given.items() if value is not None}
    language.setdefault("num_key_value_heads", language.get("num_attention_heads", LlamaConfig.num_key_value_heads))
    rows = _shape(sources, EMBEDDING)
    language["vocab_size"] = rows[0] if rows else LlamaConfig.vocab_size
    parts = {
        "vision": read_part(ClipConfig, vision, f"{tower.name}/config.json"),
        "language": read_part(LlamaConfig, language, f"{folder.name}/config.json"),
        "projector": "mlp" if f"{PROJECTOR}linear_1.weight" in sources else "linear",
        "template": given.get("conv_type", GuideConfig.template),
    }
    guide = read_part(GuideConfig, parts, f"{folder.name}/config.json")
    shapes = {name.removeprefix("sam."): _shape(sources, name) for name in sources if name.startswith("sam.")}
    if "image_encoder.pos_embed" not in shapes:
        raise WeightsError(
            f"{folder} holds no image encoder of SAM below {SAM_PREFIX}; give the plain one: sam='sam_vit_h_4b8939.pth'"
        )
    return VLTPConfig(sam=released_size(shapes, folder), guide=guide, stages=())


def _shape(sources: Mapping[str, Source], name: str) -> tuple[int, ...]:
    source = sources.get(name)
    return () if source is None else source.files.shapes[source.name]


def _drawn(config: VLTPConfig) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = encoder_weights(config.method, config.sam, dict(config.stages) or None)
    state: dict[str, Any] = {} if decoder is None else decoder.state_dict()
    return {PRUNE_DECODER + name: tensor for name, tensor in state.items()}


def _check(expected: Mapping[str, tuple[int, ...]], sources: Mapping[str, Source], folder: Path) -> None:
    missing = sorted(expected.keys() - sources.keys())
    if missing:
        raise WeightsError(
            f"{folder}, its CLIP and SAM lack {len(missing)} of {len(expected)} tensors; expected a LISA checkpoint, "
            f"CLIP's tower, and SAM in the checkpoint or by sam=. Missing, by our names: {', '.join(missing)}"
        )
    wrong = [
        f"{name} {list(_shape(sources, name))} instead of {list(shape)}"
        for name, shape in expected.items()
        if _shape(sources, name) != shape
    ]
    if wrong:
        raise WeightsError(
            f"{folder} has {len(wrong)} tensors of another shape than the configuration says; give the one of these "
            f"weights: {'; '.join(wrong)}"
        )


def _tensors(
    expected: Mapping[str, Any], sources: Mapping[str, Source], drawn: Mapping[str, Tensor], device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Yield all weights one after the other, file by file."""
    yield from ((name, tensor.to(device)) for name, tensor in drawn.items())
    for content in {id(source.files): source.files for source in sources.values()}.values():
        ours = {sources[name].name: name for name in expected if sources[name].files is content}
        yield from ((ours[name], tensor) for name, tensor in content.read(ours, device))

"""The language side against the reference's numbers: tower, projector, Phi, OVP, VMTF, assembly, whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.instructseg_fixtures import (
    FLIPPED_PIXELS,
    LOGIT_TOLERANCE,
    MODULE_TOLERANCE,
    Folder,
    assert_near,
    e2e_model,
    folder_cases,
    golden_prompt,
    read_folder,
)
from torch import Tensor

from leanseg.models.instructseg import backbones
from leanseg.models.instructseg.assembly import ImagePositions, assemble_sequence, pad_sequences
from leanseg.models.instructseg.config import InstructSegConfig
from leanseg.models.instructseg.model import InstructSeg
from leanseg.models.instructseg.names import from_released, to_released
from leanseg.models.instructseg.postprocess import full_postprocess
from leanseg.models.instructseg.prompt import IMAGE_ID, REFER_ID, SEG_ID, TEMPORAL_ID
from leanseg.models.instructseg.resampler import Resampler

pytestmark = pytest.mark.golden


def _hidden(folder: Folder) -> list[str]:
    return sorted(name for name in folder.outputs if name.startswith("hidden_"))


def _without_prefix(state: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    for prefix in prefixes:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("siglip_tower", lambda folder: sorted(folder.outputs)))
def test_vision_tower(path: Path, case: str):
    folder = read_folder(path)
    config = InstructSegConfig.from_dict({"vision_config": {"vision_tower": folder.config}}).vision
    tower = backbones.vision_tower(config).eval()
    tower.load_state_dict(_without_prefix(folder.state, "model.vision_tower.", "vision_tower.", "vision_model."))
    pixels, kind = folder.inputs["pixel_values"], case.rpartition("_")[0]
    if kind == "attn":
        tower.set_attn_implementation("eager")
        given = tower(pixels, output_attentions=True).attentions[int(case.removeprefix("attn_"))]
    elif kind == "hidden" or case == "selected":
        n_layers = config.n_layers_run if case == "selected" else int(case.removeprefix("hidden_"))
        given = backbones.run_vision_tower(tower, pixels, n_layers)
    else:  # what only the layers that are never run make, from weights that are kept nevertheless
        given = getattr(tower(pixels), case)
    assert_near(given, folder.outputs[case], MODULE_TOLERANCE)


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("mm_projector", lambda folder: sorted(folder.outputs)))
def test_projector(path: Path, case: str):
    folder = read_folder(path)
    module = backbones.projector(folder.config["mm_hidden_size"], folder.config["hidden_size"])
    module.load_state_dict(_without_prefix(folder.state, "model.", "mm_projector."))
    assert_near(module(folder.inputs[case.replace("out", "x", 1)]), folder.outputs[case], MODULE_TOLERANCE)


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("phi", lambda folder: [*_hidden(folder), "last_hidden_state"]))
def test_language_model(path: Path, case: str):
    folder = read_folder(path)
    config = InstructSegConfig.from_dict(
        {**folder.config, "leanseg": {"ovp": {"width": folder.config["hidden_size"]}}}
    ).language
    model = backbones.language_model(config).eval()
    model.load_state_dict(_without_prefix(folder.state, "model."))
    output = model(**folder.inputs, output_hidden_states=True, use_cache=False)
    given = output.last_hidden_state if case == "last_hidden_state" else output.hidden_states[int(case[7:])]
    assert_near(given, folder.outputs[case], MODULE_TOLERANCE)


def _resampler(folder: Folder) -> Resampler:
    sizes = folder.config
    module = Resampler(
        width=sizes["dim"],
        depth=sizes["depth"],
        heads=sizes["heads"],
        head_dim=sizes["dim_head"],
        feedforward_factor=sizes["ff_mult"],
    ).eval()
    module.load_state_dict(_without_prefix(folder.state, "ovp_layers.", "vmtf_layers."))
    return module


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("ovp", lambda folder: sorted(folder.outputs)))
def test_ovp(path: Path, case: str):
    folder = read_folder(path)
    suffix = case.removeprefix("out").removeprefix("_shared")
    media, latents = folder.inputs[f"x{suffix}"], folder.inputs[f"latents{suffix}"]
    if case.startswith("out_shared"):
        latents = folder.inputs[f"shared_query{suffix}"].expand(*media.shape[:2], -1, -1)
    given = _resampler(folder)(media.flatten(0, 1), latents.flatten(0, 1)).unflatten(0, media.shape[:2])
    assert_near(given, folder.outputs[case], MODULE_TOLERANCE)


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("vmtf", lambda folder: sorted(folder.outputs)))
def test_vmtf_needs_its_first_latent_only(path: Path, case: str):
    folder = read_folder(path)
    suffix = case.removeprefix("out")
    media, latents = folder.inputs[f"x{suffix}"], folder.inputs[f"latents{suffix}"]
    given = _resampler(folder)(media.flatten(0, 1), latents.flatten(0, 1)[:, :1])
    given = given.unflatten(0, media.shape[:2]).squeeze(2)
    assert_near(given, folder.outputs[case], MODULE_TOLERANCE)


def _model_for(path: Path, inputs: dict[str, Tensor]) -> InstructSeg:
    """Return the e2e model that an assembly folder refers to: of the same suffix, else the first of fitting sizes."""
    suffix = path.name.removeprefix("assembly_batch")
    found = sorted(
        path.parent.glob("e2e*/state_dict.safetensors"), key=lambda file: not file.parent.name.endswith(suffix)
    )
    for model in (e2e_model(file.parent) for file in found):
        sizes = (model.config.mask.num_queries, model.config.language.hidden_size, model.config.vision.image_size)
        if sizes == (*inputs["seg_query"].shape[1:], inputs["images_clip"].shape[-1]):
            return model
    raise FileNotFoundError(f"no e2e folder beside {path} has the sizes of its inputs")


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("assembly_batch", lambda folder: ["batch"]))
def test_right_padded_batch(path: Path, case: str):
    folder = read_folder(path)
    inputs, outputs = folder.inputs, folder.outputs
    model = _model_for(path, inputs)
    sequences = []
    for row, ids in enumerate(inputs["input_ids"]):
        eos_id = int(ids[inputs["attention_mask"][row] == 0][0])
        prompt = golden_prompt(ids, inputs[f"token_refer_id_{row}"], eos_id)
        image = model.project(model.encode_vision(inputs["images_clip"][row, :1]))[0]
        parts = {
            IMAGE_ID: image,
            TEMPORAL_ID: inputs["temporal_query"][row],
            REFER_ID: model.embed(prompt.refer_ids),
            SEG_ID: inputs["seg_query"][row],
        }
        sequences.append(assemble_sequence(prompt, parts, model.embed(ids[ids >= 0]), ImagePositions()))
    embeds, position_ids, attend = pad_sequences(sequences)
    assert_near(embeds, outputs["inputs_embeds"], MODULE_TOLERANCE)
    assert torch.equal(attend.long(), outputs["attention_mask"])
    for row, sequence in enumerate(sequences):
        length = len(sequence.embeds)
        assert position_ids[row, :length].tolist() == list(range(length))
        assert sequence.refer_rows.tolist() == outputs["refer_embedding_indices"][row].nonzero().flatten().tolist()
        assert sequence.seg_rows.tolist() == outputs["seg_query_mask"][row].nonzero().flatten().tolist()


def _e2e_cases(folder: Folder) -> list[str]:
    return list(folder.config["cases"])


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("e2e", _e2e_cases))
def test_whole_model(path: Path, case: str):
    folder, model = read_folder(path), e2e_model(path)
    inputs, config = folder.inputs, folder.config
    expected = {
        name.removeprefix(f"{case}."): value for name, value in folder.outputs.items() if name.startswith(f"{case}.")
    }
    prompt = golden_prompt(inputs["input_ids"][0], inputs["token_refer_id"], config["special"]["eos_pad_id"])

    vision = model.encode_vision(inputs["images_clip"][0])
    if case.endswith("_pruned"):
        vision = torch.stack([frame[kept] for frame, kept in zip(vision, inputs["keep"], strict=True)])
    tokens = model.project(vision)
    n_references = expected["ovp_out"].shape[1]
    has_references = case.startswith("video") and not case.startswith("video1")
    references = tokens[1 : 1 + n_references] if has_references else tokens[:1]
    text = model.embed(prompt.refer_ids).expand(n_references, -1, -1)
    assert_near(torch.cat((references, text), dim=1).unsqueeze(0), expected["ovp_x"], MODULE_TOLERANCE)
    temporal = model.temporal_tokens(references, prompt.refer_ids)
    assert_near(temporal.reshape(expected["ovp_out"].shape), expected["ovp_out"], MODULE_TOLERANCE)

    sequence = model.assemble(prompt, tokens[0], temporal)
    assert_near(sequence.embeds.unsqueeze(0), expected["inputs_embeds"], MODULE_TOLERANCE)
    assert torch.equal(sequence.attend.long().unsqueeze(0), expected["attention_mask"])
    hidden = model.hidden_states(sequence.embeds[None], sequence.position_ids[None], sequence.attend[None])
    assert_near(hidden, expected["last_hidden_state"], LOGIT_TOLERANCE)
    states = model.language([sequence])
    assert_near(states.queries, expected["seg_query_proj"], LOGIT_TOLERANCE)

    pixel = model.encode_pixels(inputs["images"])
    media = model.local_project(pixel.res5).flatten(2).transpose(1, 2)
    assert_near(media.unsqueeze(1), expected["vmtf_x"], MODULE_TOLERANCE)
    pooled = states.refer[0].mean(dim=0, keepdim=True)
    latents = model.text_vmtf_projector(torch.cat((pooled, states.refer[0])))
    assert_near(latents[None, None], expected["vmtf_latents"], LOGIT_TOLERANCE)
    assert_near(model.vmtf_layers(media, latents[None, :1]), expected["vmtf_out"], LOGIT_TOLERANCE)
    score_embedding = model.score_embedding(states.refer, pixel.res5)
    assert_near(score_embedding, expected["SEG_embedding"], LOGIT_TOLERANCE)
    answer = model.decode(states.queries, score_embedding, pixel)[-1]
    assert_near(answer.score_logits.unsqueeze(-1), expected["pred_SEG_logits"], LOGIT_TOLERANCE)
    assert_near(answer.mask_logits, expected["pred_masks"], LOGIT_TOLERANCE)

    picture = ~inputs["padding_mask"]
    ranked = full_postprocess(
        answer,
        0,
        valid_size=(int(picture.any(dim=1).sum()), int(picture.any(dim=0).sum())),
        output_size=(config["output_size"][0], config["output_size"][1]),
        padded_size=(picture.shape[0], picture.shape[1]),
    )
    for row, query in enumerate(config["row_order"][case]):
        assert ranked[query].score == pytest.approx(expected["scores"][row].item(), abs=LOGIT_TOLERANCE)
        final = expected["final_masks"][row]
        if final.is_floating_point():
            assert_near(ranked[query].logits.sigmoid(), final, LOGIT_TOLERANCE)
        else:
            assert (ranked[query].mask != final.bool()).float().mean() <= FLIPPED_PIXELS


@torch.inference_mode()
@pytest.mark.parametrize(("path", "case"), folder_cases("e2e", lambda folder: ["stages"]))
def test_shared_stages(path: Path, case: str):
    folder, model = read_folder(path), e2e_model(path)
    vision = model.encode_vision(folder.inputs["images_clip"][0, :1])
    assert_near(vision, folder.outputs["vision_tower_key"], MODULE_TOLERANCE)
    assert_near(model.project(vision), folder.outputs["mm_projected_key"], MODULE_TOLERANCE)
    features = model.vision_tower_mask(folder.inputs["images"])
    for name in ("res2", "res3", "res4", "res5"):
        assert_near(getattr(features, name), folder.outputs[f"swin_{name}"], MODULE_TOLERANCE)


@pytest.mark.parametrize(("path", "case"), folder_cases("e2e", lambda folder: ["names"]))
def test_released_names_survive_a_round_trip(path: Path, case: str):
    state = {name: tensor for name, tensor in read_folder(path).state.items() if name != "lm_head.weight"}
    back = to_released(e2e_model(path).state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert to_released(from_released(back)).keys() == state.keys()

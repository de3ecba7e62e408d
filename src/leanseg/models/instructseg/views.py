"""What a frame's visual tokens become before the language model reads them: the one place where pruning happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leanseg.core.merging import exact_schedule
from leanseg.core.ownership import with_owners
from leanseg.core.selection import Selection
from leanseg.core.tokens import VisualTokens
from leanseg.errors import WeightsError
from leanseg.hf.cues import capture, language_attention
from leanseg.hf.merging import encode_with_merging
from leanseg.metrics.coverage import coverage, information_bound
from leanseg.models.instructseg.assembly import TokenSequence
from leanseg.pruners import Pruner

if TYPE_CHECKING:
    from leanseg.models.instructseg.model import InstructSeg
    from leanseg.models.instructseg.stages import Frame

# FastV reads the attention behind the second layer: that of the third.
LANGUAGE_LAYER = 2


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """What the vision tower says of a frame: tokens (1, N, V), and the cues of the layer they come from."""

    features: Tensor
    attention: Tensor | None = None
    keys: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FrameTokens:
    """A frame's visual tokens as they enter the language model and OVP: (K, D), and which of the N they are.

    `log_sizes` (K,) is added to the attention that they receive in the language model, with mass-preserving pruning.
    """

    tokens: Tensor
    selection: Selection | None = None
    coverage: Mapping[str, Any] = field(default_factory=dict)
    log_sizes: Tensor | None = None


def encode_frame(model: InstructSeg, pixels: Tensor, *, cues: bool = False) -> EncodedFrame:
    """Run the vision tower on a frame (1, 3, s, s); with `cues`, note what the layer whose output is used sees."""
    if not cues:
        return EncodedFrame(model.encode_vision(pixels))
    n_layers = model.config.vision.n_layers_run
    if n_layers == 0:
        raise WeightsError("this model reads the vision tower's embeddings, before any attention; expected a layer")
    with capture(model.vision_tower.encoder.layers[n_layers - 1]) as seen:
        features = model.encode_vision(pixels)
    return EncodedFrame(features, seen.attention, seen.keys)


def encode_merged(model: InstructSeg, pixels: Tensor, k: int) -> Selection:
    """Run the vision tower merging a share of the tokens in every layer, until `k` are left, as merged features."""
    tower, n_layers = model.vision_tower, model.config.vision.n_layers_run
    hidden = tower.embeddings(pixels)
    schedule = exact_schedule(hidden.shape[1], k, n_layers)
    features, selection = encode_with_merging(tower.encoder.layers[:n_layers], hidden, schedule)
    return replace(selection, features=features)


def image_attention(model: InstructSeg, sequence: TokenSequence) -> Tensor:
    """Return what each image token of a row receives from the row's last token in an early layer, (1, N)."""
    layer = min(LANGUAGE_LAYER, len(model.language_model.layers) - 1)
    length = len(sequence.position_ids)
    inputs = {
        "inputs_embeds": sequence.embeds.unsqueeze(0),
        "position_ids": sequence.position_ids.unsqueeze(0),
        "attention_mask": sequence.position_ids.new_ones(1, length),
    }
    last = torch.tensor([length - 1], device=sequence.embeds.device)
    received = language_attention(model.language_model, layer, inputs, queries=last)
    return received[:, sequence.image_rows]


def frame_view(frame: Frame, instruction: int) -> FrameTokens:
    """Return one frame's pruned and projected tokens, chosen for the frame by itself."""
    run, pruner = frame.run, frame.run.options.pruner
    if pruner is None:
        return FrameTokens(frame.projected[0])
    if run.options.site == "inside_encoder":
        with run.timer.stage("encode"):
            merged = encode_merged(run.model, frame.vision_pixels, pruner.count(run.grid.n_tokens))
        return _finished(frame, instruction, merged)
    candidates = frame.candidates(instruction)
    with run.timer.stage("select"):
        selection = pruner(candidates)
    return _finished(frame, instruction, selection)


def window_views(pruner: Pruner, key: Frame, references: Sequence[Frame], instruction: int) -> dict[int, FrameTokens]:
    """Return the tokens of a key frame and its references by frame number, chosen in one joint selection.

    The frames stand in time order, each once, on a grid of that many frames; the budget is shared as the pruner likes.
    """
    frames = list({frame.index: frame for frame in sorted((key, *references), key=lambda each: each.index)}.values())
    parts = [frame.candidates(instruction) for frame in frames]

    def together(cue: str) -> Tensor | None:
        found = [getattr(part, cue) for part in parts]
        return None if found[0] is None else torch.cat(found)

    with key.run.timer.stage("select"):
        joint = VisualTokens(
            features=torch.cat([part.features for part in parts]),
            grid=key.run.grid,
            attention=together("attention"),
            keys=together("keys"),
            guidance=together("guidance"),
        ).joined(key_frame=frames.index(key))
        selections = pruner(joint).split(len(frames))
    return {
        frame.index: _finished(frame, instruction, selection)
        for frame, selection in zip(frames, selections, strict=True)
    }


def _finished(frame: Frame, instruction: int, selection: Selection) -> FrameTokens:
    """Apply the selection, project what is left, and measure what was asked for.

    The tokens before pruning exist already, unless they were merged inside the tower: then coverage alone needs them.
    """
    run, options = frame.run, frame.run.options
    tokens = selection.features
    if tokens is None:
        candidates = frame.candidates(instruction)
        with run.timer.stage("select"):
            tokens = selection.gather(candidates.features)
    log_sizes = None
    if options.mass_preserving and selection.k:
        owned = selection
        if selection.owner is None:
            candidates = frame.candidates(instruction)
            with run.timer.stage("select"):
                owned = with_owners(candidates, selection)
        log_sizes = owned.sizes[0].log()
    facts: dict[str, Any] = {}
    if options.coverage and selection.k:
        candidates = frame.candidates(instruction)
        with run.timer.stage("coverage"):
            facts = _coverage_facts(candidates, selection)
    if options.site != "after_projector":
        with run.timer.stage("project"):
            tokens = run.model.project(tokens)
    return FrameTokens(tokens[0], selection, facts, log_sizes)


def _coverage_facts(tokens: VisualTokens, selection: Selection) -> dict[str, Any]:
    """Return one frame's covering radii, and the information bound under its own key, as JSON data."""
    radii = coverage(tokens, selection)
    bound = information_bound(tokens, selection, radius=radii.feature_max)
    facts: dict[str, Any] = {name: values[0] for name, values in radii.to_json().items()}
    return facts | {"information_bound": {name: values[0] for name, values in bound.to_json().items()}}

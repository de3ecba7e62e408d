"""VLTP: a LLaVA says by one embedding what to segment, SAM draws it, and encodes only the tokens that matter for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from leanseg.errors import InputError, WeightsError
from leanseg.models.output import Segmentation
from leanseg.models.sam.model import Sam
from leanseg.models.vltp import mllm
from leanseg.models.vltp.config import VLTPConfig
from leanseg.models.vltp.conversation import (
    ANSWER,
    IGNORED,
    TEMPLATES,
    Conversation,
    check_length,
    conversation,
    padded,
)
from leanseg.models.vltp.encoders import (
    PrunedEncoder,
    encoder_method,
    encoder_weights,
    prompt_projection,
    pruned_encoder,
)
from leanseg.models.vltp.guide import SegProjector, SegStates, seg_states
from leanseg.models.vltp.options import check_pruner
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder
from leanseg.models.vltp.tokenizer import GuideTokenizer
from leanseg.pruners import Identity, Pruner, pruner
from leanseg.shapes import Float

Stages = Sequence[tuple[int, float]]


class VLTP(nn.Module):
    """Instructed segmentation in steps, each a method: look -> ask (together: guidance), encoder, masks.

    `mllm`, `sam` and `prune_decoder` have the names of Hugging Face, of SAM's release and of the public code.
    `prune_decoder` is what the configuration's method chooses by: VLTP's decoder, another method's weights, or None.
    Paper: arXiv:2409.08464. Differs from the public code: see docs/vltp.md.
    """

    def __init__(self, config: VLTPConfig, *, tokenizer: GuideTokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.mllm = mllm.build_mllm(config.guide)
        self.seg_projector = SegProjector(config.guide.language.hidden_size, config.sam.dim)
        self.sam = Sam(config.sam)
        self.prune_decoder = encoder_weights(config.method, config.sam, dict(config.stages) or None)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.sam.image_encoder.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """Compute type of guide, image encoder and prune decoder; what makes masks keeps its own (float32)."""
        return self.sam.image_encoder.pos_embed.dtype

    @property
    def language_model(self) -> nn.Module:
        """The guide's language model, which adapters are put on."""
        return self.mllm.model.language_model

    def look(self, clip_pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n d"]:
        """Return a picture's tokens for the language model, for any number of questions."""
        pixels = clip_pixels.to(self.device, self.dtype)
        return mllm.image_features(self.mllm, pixels, self.config.guide.vision.n_layers_run)

    def read(
        self, features: Float[Tensor, "#c n d"], conversations: Sequence[Conversation]
    ) -> tuple[Float[Tensor, "c t d"], Tensor]:
        """Return the last hidden states (C, T, D) of conversations in one pass, and their ids (C, T), both padded.

        `features`: one picture's tokens for each conversation, or for all. Logits are `mllm.lm_head` of the states.
        """
        for each in conversations:
            check_length(each.ids, self.config.guide.language.max_position_embeddings)
        ids = padded([each.ids for each in conversations], IGNORED).to(self.device)
        pictures = features.expand(len(ids), -1, -1)
        return mllm.read(self.mllm, mllm.embedded(self.mllm, ids, pictures)), ids

    def guidance(
        self,
        clip_pixels: Float[Tensor, "b 3 s s"],
        instructions: Sequence[str],
        *,
        answer: str = ANSWER,
        generate: bool = False,
    ) -> SegStates:
        """Return the projected [SEG] embeddings (R, C) of all instructions, and the instruction of each (R,).

        One picture for each instruction, or one for all. `answer` is put into the guide's mouth; with `generate` it
        answers freely, and may name several things, or nothing: no [SEG], no row.
        """
        if clip_pixels.shape[0] not in (1, len(instructions)):
            raise InputError(
                f"{clip_pixels.shape[0]} pictures came with {len(instructions)} instructions; expected a picture for "
                "each, or one for all"
            )
        return self.ask(self.look(clip_pixels), instructions, answer=None if generate else answer)

    def ask(
        self, features: Float[Tensor, "#c n d"], instructions: Sequence[str], *, answer: str | None = ANSWER
    ) -> SegStates:
        """Return `guidance` for pictures that were looked at; `answer=None` = the guide answers freely."""
        tokenizer, n_tokens = self._tokenizer(), features.shape[1]
        template = TEMPLATES[self.config.guide.template]
        asked = [
            conversation(tokenizer, each, image_tokens=n_tokens, answer=answer, template=template)
            for each in instructions
        ]
        if answer is not None:
            hidden, ids = self.read(features, asked)
            found = seg_states(hidden, ids, seg_id=tokenizer.seg_id, image_tokens=1)
            return SegStates(self._projected(found.states), found.conversation)
        pictures = features.expand(len(asked), -1, -1)
        rows = [self._answered(each, pictures[index : index + 1]) for index, each in enumerate(asked)]
        owner = [torch.full((len(row),), index, device=self.device) for index, row in enumerate(rows)]
        return SegStates(self._projected(torch.cat(rows)), torch.cat(owner))

    def encoder(
        self,
        stages: Stages | None = None,
        pruner: Pruner | str | partial[Pruner] | None = None,
        policy: str | None = None,
        reactivate: bool | None = None,
        confidence: float | None = None,
    ) -> PrunedEncoder:
        """Return SAM's image encoder with stages (after_block, keep_ratio); None = the configuration's, () = plain SAM.

        `pruner`: None = the configuration's method; else this one chooses at every stage: a spec string (of registered
        names) takes the stage's ratio where it names none, a `Pruner` has its own. "vltp" is this model's decoder.
        `partial(leanseg.pruner, "mine.py:Mine")` is a spec that may name a file's class, which runs that file.
        `confidence`: of a model of the method dtop, the chance of a class above which a token leaves (None = 0.95).

        Raises:
            InputError: another policy or reactivation than the configuration's, other stages, or a confidence, where
                what chooses does not read them.
        """
        config = self.config
        given = tuple(config.stages if stages is None else stages)
        options: dict[str, Any] = {
            "policy": config.policy if policy is None else policy,
            "reactivate": config.reactivate if reactivate is None else reactivate,
        }
        own = {} if confidence is None else {"confidence": confidence}
        if given and pruner is None:
            fitting = options if encoder_method(config.method).staged else self._nothing_ignored(given, options)
            return pruned_encoder(config.method, self.sam, dict(given), self.prune_decoder, **fitting, **own)
        if own:
            raise InputError(
                f"confidence={confidence} is for the heads of a dtop model, which nobody asks "
                f"{'without stages' if pruner is None else 'beside a pruner'}; drop one of the two"
            )
        chosen = [Stage(place, self._pruner(pruner, ratio)) for place, ratio in given]
        return StagedEncoder.of(self.sam.image_encoder, chosen, **options)

    def masks(
        self, embeddings: Float[Tensor, "b c h w"], guidance: Float[Tensor, "r c"]
    ) -> tuple[Float[Tensor, "r 1 mh mw"], Float[Tensor, "r 1"]]:
        """Return a mask's logits and SAM's own guess at its quality for each [SEG], in the mask decoder's precision."""
        precision = self.sam.prompt_encoder.no_mask_embed.weight.dtype
        return self.sam.masks(embeddings.to(precision), guidance[:, None].to(precision))

    def _answered(self, asked: Conversation, picture: Tensor) -> Tensor:
        """Let the guide answer one conversation; return the state before each [SEG]."""
        tokenizer, limit = self._tokenizer(), self.config.guide.language.max_position_embeddings
        check_length(asked.ids, limit)
        room = min(mllm.MAX_NEW_TOKENS, limit - len(asked.ids) + 1)
        ids = asked.ids[None].to(self.device)
        said = mllm.generate(self.mllm, ids, picture, end_id=tokenizer.end_id, max_new_tokens=room)
        return seg_states(said.hidden, said.ids, seg_id=tokenizer.seg_id, image_tokens=1).states

    def _projected(self, states: Tensor) -> Tensor:
        return self.seg_projector(states.to(next(self.seg_projector.parameters()).dtype))

    def _nothing_ignored(self, stages: Stages, options: dict[str, Any]) -> dict[str, Any]:
        """Refuse what a method without stages does not read; return the options that it does, none."""
        config, method = self.config, encoder_method(self.config.method)
        ignored = [name for name, value in options.items() if value != getattr(config, name)]
        if not method.ratios and [tuple(pair) for pair in stages] != list(config.stages):
            ignored += ["other stages", "keep_ratio"]
        if ignored:
            raise InputError(
                f"{' and '.join(ignored)} would change nothing on a model of the method {config.method}: "
                f"{method.decides}; drop the option, or name a pruner beside it, which then chooses instead"
            )
        return {}

    def _pruner(self, given: Pruner | str | partial[Pruner] | None, keep_ratio: float) -> Pruner:
        if not isinstance(given, Pruner):
            learned: dict[str, Any] = {"projection": prompt_projection(self.sam)}
            if isinstance(self.prune_decoder, PruneDecoder):
                learned["scorer"] = PruneScorer(self.prune_decoder, self.sam.prompt_encoder)
            make = given if isinstance(given, partial) else partial(pruner, cast(str, given), allow_files=False)
            given = make(keep_ratio=keep_ratio, learned=learned)
        if isinstance(given, Identity):
            return Identity()  # whatever the stage's ratio
        check_pruner(given)
        return given

    def _tokenizer(self) -> GuideTokenizer:
        if self.tokenizer is None:
            raise WeightsError(
                "this model has no tokenizer; expected one at construction; load it with from_pretrained"
            )
        return self.tokenizer

    @overload
    def segment(self, clip: Any, instruction: str, **options: Any) -> Segmentation: ...
    @overload
    def segment(self, clip: Any, instruction: Sequence[str], **options: Any) -> list[Segmentation]: ...
    def segment(self, clip: Any, instruction: Any, **options: Any) -> Any:
        """Segment an image, or a clip frame by frame, by one or several instructions; options in `segment.segment`."""
        from leanseg.models.vltp.segment import segment

        return segment(self, clip, instruction, **options)

    @overload
    def segment_stream(self, frames: Iterable[Any], instruction: str, **options: Any) -> Iterator[Segmentation]: ...
    @overload
    def segment_stream(
        self, frames: Iterable[Any], instruction: Sequence[str], **options: Any
    ) -> Iterator[list[Segmentation]]: ...
    def segment_stream(self, frames: Iterable[Any], instruction: Any, **options: Any) -> Any:
        """Yield one frame's answer at a time, with memory independent of their number; options as in `segment`."""
        from leanseg.models.vltp.segment import segment_stream

        return segment_stream(self, frames, instruction, **options)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> VLTP:
        """Load a folder or a hub repository that `save_pretrained` wrote; options of `weights.load_pretrained`."""
        from leanseg.models.vltp.weights import load_pretrained

        return load_pretrained(name_or_path, **options)

    def save_pretrained(self, directory: str | Path, **options: Any) -> None:
        """Write a folder that `from_pretrained` reads; options of `weights.save_pretrained`."""
        from leanseg.models.vltp.weights import save_pretrained

        save_pretrained(self, directory, **options)

"""InstructSeg: a SigLIP tower and Phi-2 read a frame and an instruction, a Swin branch draws the masks they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from leanseg.errors import WeightsError
from leanseg.models.instructseg import backbones
from leanseg.models.instructseg.assembly import (
    ImagePositions,
    LanguageStates,
    TokenSequence,
    assemble_sequence,
    mass_mask,
    pad_sequences,
)
from leanseg.models.instructseg.config import InstructSegConfig, ResamplerConfig
from leanseg.models.instructseg.mask_decoder import MaskDecoder, MaskPrediction
from leanseg.models.instructseg.pixel_decoder import PixelDecoder, PixelFeatures
from leanseg.models.instructseg.prompt import (
    IMAGE_ID,
    REFER_ID,
    SEG_ID,
    TEMPORAL_ID,
    Prompt,
    build_prompt,
    check_length,
)
from leanseg.models.instructseg.resampler import Resampler
from leanseg.models.instructseg.tokenizer import TextTokenizer
from leanseg.models.output import Segmentation
from leanseg.shapes import Float, Int


class InstructSeg(nn.Module):
    """Instructed segmentation in stages, each a method, so that a runtime can cache and prune between them.

    encode_vision -> (prune) -> project -> temporal_tokens, assemble -> language -> score_embedding -> decode, and
    beside it encode_pixels. Tokens may be pruned before `project` or after it; every later stage takes any number of
    them, also none. Sizes come from the config only; the attributes carry the released names. Paper: arXiv:2412.14006.

    Differs from the reference: a frame is encoded once, layers whose output nobody reads are not run, VMTF computes
    only the latent that it returns, and the language head exists only with `lm_head=True` (training; segmentation never
    evaluates it).
    """

    def __init__(
        self, config: InstructSegConfig, *, tokenizer: TextTokenizer | None = None, lm_head: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        language, mask, swin = config.language, config.mask, config.swin
        width = language.hidden_size
        self.vision_tower = backbones.vision_tower(config.vision)
        self.mm_projector = backbones.projector(config.vision.hidden_size, width)
        self.language_model = backbones.language_model(language)
        self.lm_head = nn.Linear(width, language.lm_head_size, bias=False) if lm_head else None
        self.seg_query = nn.Parameter(torch.zeros(mask.num_queries, width))
        self.temporal_query = nn.Parameter(torch.randn(config.ovp.num_queries, width))
        self.ovp_layers = _resampler(config.ovp)
        self.vmtf_layers = _resampler(config.vmtf)
        self.local_project = nn.Conv2d(swin.channels[3], config.vmtf.width, kernel_size=1)
        self.text_vmtf_projector = nn.Linear(width, config.vmtf.width)
        self.origin_SEG_token_projector = nn.Linear(width, config.vmtf.width)
        self.SEG_token_projector = nn.Linear(2 * config.vmtf.width, mask.hidden_dim)
        self.seg_query_projector = nn.Linear(width, mask.hidden_dim)
        self.vision_tower_mask = backbones.swin(swin)
        self.pixel_decoder = PixelDecoder(
            in_channels=swin.channels,
            dim=mask.hidden_dim,
            mask_dim=mask.mask_dim,
            n_layers=mask.encoder_layers,
            n_heads=mask.num_heads,
            ffn_dim=mask.encoder_feedforward,
            n_points=mask.n_points,
        )
        self.predictor = MaskDecoder(
            dim=mask.hidden_dim,
            mask_dim=mask.mask_dim,
            n_queries=mask.num_queries,
            n_layers=mask.decoder_layers,
            n_heads=mask.num_heads,
            ffn_dim=mask.feedforward,
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.seg_query.device

    @property
    def language_dtype(self) -> torch.dtype:
        """Compute type of SigLIP, projector and language model; the rest keeps its own (float32 unless moved)."""
        return self.language_model.embed_tokens.weight.dtype

    def encode_prompt(self, task: str, instruction: str | Sequence[str], template: str | None = None) -> Prompt:
        """Encode an instruction with the model's tokenizer; `template` None is the config's."""
        if self.tokenizer is None:
            raise WeightsError(
                "this model has no tokenizer; expected one at construction; load it with from_pretrained"
            )
        return build_prompt(self.tokenizer, task, instruction, template or self.config.template)

    def check_length(self, prompt: Prompt, *, n_visual: int) -> None:
        """Refuse a prompt that does not fit beside `n_visual` image and temporal tokens."""
        limit = self.config.language.max_position_embeddings
        check_length(prompt, n_visual=n_visual, n_queries=self.config.mask.num_queries, limit=limit)

    def encode_vision(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n v"]:
        """Return SigLIP's selected hidden state, (B, n_tokens, vision width), raster order: what pruners look at."""
        return backbones.run_vision_tower(self.vision_tower, pixels, self.config.vision.n_layers_run)

    def project(self, tokens: Float[Tensor, "b k v"]) -> Float[Tensor, "b k d"]:
        """Map vision tokens to the language model's width, each by itself."""
        return self.mm_projector(tokens.to(self.language_dtype))

    def encode_pixels(self, pixels: Float[Tensor, "b 3 s s"]) -> PixelFeatures:
        """Return what the mask branch knows of each frame, for any number of instructions."""
        features = self.vision_tower_mask(pixels.to(self.seg_query.dtype))
        mask_features, (coarse, middle, fine) = self.pixel_decoder(*features)
        return PixelFeatures(res5=features.res5, multi_scale=(coarse, middle, fine), mask_features=mask_features)

    def embed(self, ids: Int[Tensor, " length"]) -> Float[Tensor, "length d"]:
        """Look token ids up in the language model's table."""
        return self.language_model.embed_tokens(ids.to(self.device))

    def temporal_tokens(
        self, frame_tokens: Float[Tensor, "t k d"], refer_ids: Int[Tensor, " r"]
    ) -> Float[Tensor, "o d"]:
        """Return OVP's tokens of T frames in order, (T * n_queries, D): each frame and the instruction, condensed."""
        return self.temporal_tokens_batch(frame_tokens.unsqueeze(0), [refer_ids])[0]

    def temporal_tokens_batch(
        self, frame_tokens: Float[Tensor, "b t k d"], refer_ids: Sequence[Tensor]
    ) -> Float[Tensor, "b o d"]:
        """`temporal_tokens` of B samples of equal T and K in one pass; instructions may differ in length."""
        batch, frames, kept, width = frame_tokens.shape
        text = [self.embed(ids) for ids in refer_ids]
        lengths = [len(each) for each in text]
        padded = pad_sequence(text, batch_first=True)
        media = torch.cat((frame_tokens, padded.unsqueeze(1).expand(-1, frames, -1, -1)), dim=2).flatten(0, 1)
        mask = None
        if min(lengths) < padded.shape[1]:
            ends = torch.tensor(lengths, device=self.device)
            is_text = torch.arange(padded.shape[1], device=self.device) < ends[:, None]
            is_media = torch.cat((is_text.new_ones(batch, kept), is_text), dim=1)
            mask = is_media.unsqueeze(1).expand(-1, frames, -1).flatten(0, 1)
        latents = self.temporal_query.expand(batch * frames, -1, -1)
        condensed = self.ovp_layers(media.to(latents.dtype), latents, mask)
        return condensed.reshape(batch, -1, width)

    def assemble(
        self,
        prompt: Prompt,
        image_tokens: Float[Tensor, "k d"],
        temporal_tokens: Float[Tensor, "o d"],
        kept: Int[Tensor, " k"] | None = None,
        n_tokens: int | None = None,
        position_ids: str = "compact",
    ) -> TokenSequence:
        """Build the language model's row: text, temporal tokens, image tokens, instruction, answer, mask tokens, end.

        `position_ids` "compact" numbers the rows 0, 1, 2, ... (as released); "original" leaves every token where it
        stands without pruning: image token i at image start + kept[i], the text after the image at image start +
        `n_tokens`.
        """
        text = self.embed(prompt.ids[prompt.ids >= 0])
        parts = {
            IMAGE_ID: image_tokens,
            TEMPORAL_ID: temporal_tokens,
            REFER_ID: self.embed(prompt.refer_ids),
            SEG_ID: self.seg_query,
        }
        positions = ImagePositions(mode=position_ids, kept=kept, n_tokens=n_tokens)
        return assemble_sequence(prompt, parts, text, positions)

    def language(self, sequences: Sequence[TokenSequence], attention_mask: Tensor | None = None) -> LanguageStates:
        """Run one causal pass over the rows, padded on the right, and read the mask and instruction tokens.

        `attention_mask` replaces plain causal attention: (B, L) keep flags or a (B, 1, L, L) additive mask. Padding and
        the release's masked last row need none, because nothing that is read looks at them.
        """
        embeds, position_ids, _ = pad_sequences(sequences)
        if attention_mask is None:
            attention_mask = mass_mask(sequences, embeds.dtype)
        hidden = self.hidden_states(embeds, position_ids, attention_mask)
        mask_states = torch.stack([row[sequence.seg_rows] for row, sequence in zip(hidden, sequences, strict=True)]).to(
            self.seg_query.dtype
        )
        refer = [
            row[sequence.refer_rows].to(self.seg_query.dtype) for row, sequence in zip(hidden, sequences, strict=True)
        ]
        return LanguageStates(queries=self.seg_query_projector(mask_states), refer=refer, hidden=hidden)

    def hidden_states(
        self,
        embeds: Float[Tensor, "b length d"],
        position_ids: Int[Tensor, "b length"],
        attention_mask: Tensor | None = None,
    ) -> Float[Tensor, "b length d"]:
        """Return Phi's last hidden states, after its final norm."""
        # Without any mask transformers takes a jump in the position ids for the start of a new packed sequence.
        mask = torch.ones_like(position_ids) if attention_mask is None else attention_mask
        states = self.language_model(
            inputs_embeds=embeds, position_ids=position_ids, attention_mask=mask, use_cache=False
        )
        return states.last_hidden_state

    def score_embedding(self, refer: Sequence[Tensor], res5: Float[Tensor, "b c5 h w"]) -> Float[Tensor, "b 1 c"]:
        """Return what mask queries are scored against: the mean instruction state, alone and after VMTF."""
        pooled = torch.stack([states.mean(dim=0) for states in refer])
        media = self.local_project(res5.to(pooled.dtype)).flatten(2).transpose(1, 2)
        fused = self.vmtf_layers(media, self.text_vmtf_projector(pooled).unsqueeze(1))
        origin = self.origin_SEG_token_projector(pooled).unsqueeze(1)
        return self.SEG_token_projector(torch.cat((origin, fused), dim=-1))

    def decode(
        self,
        queries: Float[Tensor, "b q c"],
        score_embedding: Float[Tensor, "b 1 c"],
        pixel: PixelFeatures,
        *,
        last_only: bool = False,
    ) -> list[MaskPrediction]:
        """Return the mask decoder's predictions, the last being the answer; `last_only` skips the others."""
        return self.predictor(queries, score_embedding, pixel, last_only=last_only)

    @overload
    def segment(self, clip: Any, instruction: str, **options: Any) -> Segmentation: ...
    @overload
    def segment(self, clip: Any, instruction: Sequence[str], **options: Any) -> list[Segmentation]: ...
    def segment(self, clip: Any, instruction: Any, **options: Any) -> Any:
        """Segment an image or a clip by one or several instructions; options in `segment.segment`."""
        from leanseg.models.instructseg.segment import segment

        return segment(self, clip, instruction, **options)

    @overload
    def segment_stream(self, frames: Iterable[Any], instruction: str, **options: Any) -> Iterator[Segmentation]: ...
    @overload
    def segment_stream(
        self, frames: Iterable[Any], instruction: Sequence[str], **options: Any
    ) -> Iterator[list[Segmentation]]: ...
    def segment_stream(self, frames: Iterable[Any], instruction: Any, **options: Any) -> Any:
        """Yield one frame's answer at a time, with memory independent of their number; options as in `segment`."""
        from leanseg.models.instructseg.segment import segment_stream

        return segment_stream(self, frames, instruction, **options)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> InstructSeg:
        """Load a folder or a hub repository of the released layout; options of `weights.load_pretrained`."""
        from leanseg.models.instructseg.weights import load_pretrained

        return load_pretrained(name_or_path, **options)

    def save_pretrained(self, directory: str | Path, **options: Any) -> None:
        """Write a folder of the released layout; options of `weights.save_pretrained`."""
        from leanseg.models.instructseg.weights import save_pretrained

        save_pretrained(self, directory, **options)


def _resampler(config: ResamplerConfig) -> Resampler:
    return Resampler(
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        head_dim=config.head_dim,
        feedforward_factor=config.feedforward_factor,
    )

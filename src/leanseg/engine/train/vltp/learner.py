"""The model in training and its losses: one module, so that gradients of several processes can be averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanseg.data.scenes.items import ITEMS
from leanseg.engine.train.vltp.heads import TrainingHeads
from leanseg.engine.train.vltp.packed import packed_read
from leanseg.engine.train.vltp.pictures import Batch, Prompts, draw_prompts
from leanseg.engine.train.vltp.pool import PooledBatch
from leanseg.engine.train.vltp.stages import VLTPStage
from leanseg.models.sam.pictures import full_masks
from leanseg.models.vltp.conversation import (
    IGNORED,
    TEMPLATES,
    TRAIN_ANSWERS,
    TRAIN_QUESTIONS,
    Conversation,
    conversation,
    padded,
)
from leanseg.models.vltp.encoders import encoder_method
from leanseg.models.vltp.guide import seg_states
from leanseg.models.vltp.losses import LossWeights, mask_losses, patch_coverage, patch_labels
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.staged_encoder import EncoderState, StagedEncoder
from leanseg.models.vltp.tokenizer import GuideTokenizer

QUALITY_WEIGHT = 0.2


class Learner(nn.Module):
    """A model, the heads of training, and the losses of a stage; `forward(batch, generator)` returns them by name."""

    def __init__(self, model: VLTP, heads: TrainingHeads, stage: VLTPStage) -> None:
        super().__init__()
        self.model = model
        self.auxiliary = heads
        self.stage = stage

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return LOSSES[self.stage.losses](self, batch, generator)


def weighted_mask_losses(logits: list[Tensor], targets: list[Tensor]) -> dict[str, Tensor]:
    """Return cross-entropy and dice of masks with the published factors."""
    factors, losses = LossWeights(), mask_losses(logits, targets)
    return {"bce": factors.mask_bce * losses["bce"], "dice": factors.mask_dice * losses["dice"]}


def _at_pictures(low: Tensor, batch: Batch, counts: list[int], size: int) -> list[Tensor]:
    """Bring mask logits (R, 1, h, w), `counts` for each picture in turn, to the pictures' own sizes."""
    return [
        full_masks(rows, valid_size=valid, output_size=picture.image.shape[:2], size=size)[:, 0]
        for rows, valid, picture in zip(low.split(counts), batch.sizes, batch.pictures, strict=True)
    ]


def prompt_losses(learner: Learner, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Masks of points and boxes, of whatever they lie on (SAM, arXiv:2304.02643), and what tokens show."""
    sam = learner.model.sam
    embeddings = sam.image_encoder(batch.sam)
    drawn = draw_prompts(batch, sam.config.image_size, learner.stage.prompts, generator)
    losses: dict[str, Tensor] = {}
    for kind, prompts in zip(("point", "box"), drawn, strict=True):
        losses |= {f"{kind}_{name}": loss for name, loss in _prompted(learner, batch, embeddings, prompts).items()}
    if learner.stage.auxiliary:
        losses["items"] = learner.auxiliary.token_loss(embeddings, batch.items)
    return losses


def _prompted(learner: Learner, batch: Batch, embeddings: Tensor, prompts: Prompts) -> dict[str, Tensor]:
    sam = learner.model.sam
    if not len(prompts.rows):
        return dict.fromkeys(("bce", "dice", "quality"), 0 * embeddings.sum())
    sparse, dense = sam.prompt_encoder(points=prompts.points, boxes=prompts.boxes)
    low, quality = sam.mask_decoder(embeddings[prompts.rows], sam.prompt_encoder.image_pe(), sparse, dense)
    logits = _at_pictures(low, batch, [len(each) for each in prompts.targets], sam.config.image_size)
    losses = weighted_mask_losses(logits, list(prompts.targets))
    found = torch.cat([_iou(given > 0, wanted > 0.5) for given, wanted in zip(logits, prompts.targets, strict=True)])
    return losses | {"quality": QUALITY_WEIGHT * (quality[:, 0].float() - found).square().mean()}


def _iou(given: Tensor, wanted: Tensor) -> Tensor:
    shared, both = (given & wanted).flatten(1).sum(1), (given | wanted).flatten(1).sum(1)
    return shared / both.clamp(min=1)


def word_losses(learner: Learner, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Answers to instructions without their picture: what [SEG] names, before the guide has hundreds of tokens to read.

    Only for pictures of which it is known what is on them.
    """
    model, tokenizer = learner.model, _tokenizer(learner.model)
    said = [_conversation(model, text, 0, generator) for picture in batch.pictures for text in picture.texts]
    hidden, ids = model.read(batch.sam.new_zeros(1, 0, model.config.guide.language.hidden_size), said)
    labels = padded([each.labels for each in said], IGNORED).to(hidden.device)
    states = seg_states(hidden, ids, seg_id=tokenizer.seg_id, image_tokens=1).states
    asked = learner.auxiliary.asked_loss(model.seg_projector(states), _wanted(batch))
    return {"text": _text_loss(model, hidden, labels), "asked": asked}


def _tokenizer(model: VLTP) -> GuideTokenizer:
    if model.tokenizer is None:
        raise TypeError("a model in training has a tokenizer")
    return model.tokenizer


def _text_loss(model: VLTP, hidden: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the answers' ids."""
    spoken = labels[:, 1:] != IGNORED
    return F.cross_entropy(model.mllm.lm_head(hidden[:, :-1][spoken]).float(), labels[:, 1:][spoken])


def _wanted(batch: Batch) -> Tensor:
    """Return (R, items + 1): 1 for what each instruction's things are, all 0 where the data does not say."""
    rows = []
    for picture in batch.pictures:
        for things in picture.wanted or ((),) * len(picture.texts):
            row = torch.zeros(len(ITEMS) + 1)
            row[[picture.items[thing] + 1 for thing in things]] = 1.0
            rows.append(row)
    return torch.stack(rows).to(batch.sam.device)


def guide_losses(learner: Learner, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """The answer's text, and the mask of the [SEG] in it (LISA, arXiv:2308.00692); SAM's image encoder is frozen."""
    model = learner.model
    with torch.no_grad():
        embeddings = model.sam.image_encoder(batch.sam)
    counts = [len(picture.texts) for picture in batch.pictures]
    features = model.look(batch.clip)
    tokenizer = _tokenizer(model)
    said = [
        [_conversation(model, text, features.shape[1], generator) for text in picture.texts]
        for picture in batch.pictures
    ]
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    hidden, ids, labels = packed_read(model, features, said)
    states = seg_states(hidden, ids, seg_id=tokenizer.seg_id, image_tokens=1).states
    guidance = model.seg_projector(states)
    low, _ = model.masks(embeddings[owner], guidance)
    logits = _at_pictures(low, batch, counts, model.config.sam.image_size)
    targets = [torch.from_numpy(picture.targets).to(low.device).float() for picture in batch.pictures]
    losses = {"text": _text_loss(model, hidden, labels), **weighted_mask_losses(logits, targets)}
    if learner.stage.auxiliary:
        losses |= _guidance_losses(learner, batch, guidance, embeddings[owner])
    return losses


def _conversation(model: VLTP, text: str, image_tokens: int, generator: torch.Generator) -> Conversation:
    """Return a conversation with one of the questions and answers of training."""
    question, answer = (
        known[int(torch.randint(len(known), (1,), generator=generator))] for known in (TRAIN_QUESTIONS, TRAIN_ANSWERS)
    )
    template = TEMPLATES[model.config.guide.template]
    return conversation(
        _tokenizer(model), text, image_tokens=image_tokens, answer=answer, question=question, template=template
    )


def _guidance_losses(learner: Learner, batch: Batch, guidance: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
    """What guidance names, in the items' table, and which tokens it is about."""
    sam = learner.model.config.sam
    relevant = [
        patch_labels(
            torch.from_numpy(picture.targets), size=sam.image_size, patch=sam.image_size // embeddings.shape[2]
        )
        for picture in batch.pictures
    ]
    return {
        "asked": learner.auxiliary.asked_loss(guidance, _wanted(batch)),
        "relevance": learner.auxiliary.relevance_loss(guidance, embeddings, torch.cat(relevant).to(guidance.device)),
    }


def stage_losses(learner: Learner, pooled: PooledBatch, generator: torch.Generator) -> dict[str, Tensor]:
    """Masks behind the stages (L_X), and what the method's own weights are taught (L_P for VLTP's; Eqs. 12 and 13).

    Guide and image encoder are frozen. Methods that draw noise from torch's generator get one of this step's.
    """
    model, batch, sizes = learner.model, pooled.batch, learner.model.config.sam
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        encoder = model.encoder()
        state = EncoderState(pooled.tokens) if isinstance(encoder, StagedEncoder) else encoder.prefix(batch.sam)
        output = encoder.rest(state, pooled.guidance, owner=pooled.owner)
    low, _ = model.masks(output.embeddings, pooled.guidance)
    logits = _at_pictures(low, batch, [len(each.texts) for each in batch.pictures], sizes.image_size)
    targets = [torch.from_numpy(each.targets).to(low.device) for each in batch.pictures]
    coverage = torch.cat([patch_coverage(each, size=sizes.image_size, patch=sizes.patch_size) for each in targets])
    own = encoder_method(model.config.method).losses(model.prune_decoder, output, coverage)
    masks = weighted_mask_losses(logits, [each.float() for each in targets])
    return masks | {f"prune_{name}": loss for name, loss in own.items()}


LOSSES: dict[str, Callable[[Learner, Any, torch.Generator], dict[str, Tensor]]] = {
    "prompts": prompt_losses,
    "words": word_losses,
    "guide": guide_losses,
    "stages": stage_losses,
}

"""VLTP's prune decoder and the pruned encoder against the public modules' numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.vltp_golden import (
    CHAIN_TOLERANCE,
    MODULE_TOLERANCE,
    cases,
    config,
    io,
    near,
    sam_config,
    weights,
)

from leanseg.models.sam.model import Sam
from leanseg.models.vltp.prune_decoder import PruneDecoder, PruneScorer
from leanseg.models.vltp.staged_encoder import Stage, StagedEncoder
from leanseg.pruners.staged.vltp import LearnedPruner

pytestmark = pytest.mark.golden
OUTPUTS = ("neck_out", "hs", "src_out", "logits", "scores")


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), cases("vltp_prune_decoder", lambda folder: OUTPUTS))
def test_prune_decoder(folder: Path, case: str):
    given, stored = config(folder), io(folder)
    sizes = {"dim": given["transformer_dim"], "decoder_heads": given["num_heads"], "decoder_hidden": given["mlp_dim"]}
    decoder = PruneDecoder(sam_config({"embed_dim": given["embed_dim"]}, heads=1, **sizes)).eval()
    decoder.load_state_dict(weights(folder))
    tokens = stored["image_tokens"]
    made = decoder(tokens, stored["image_pe"], stored["sparse_seg"], stored["dense_no_mask"])
    necked = decoder.input_neck(tokens.permute(0, 3, 1, 2))
    found = dict(zip(OUTPUTS, (necked, made.queries, made.image, made.logits, made.scores), strict=True))
    near(found[case], stored[case])


def _models(folder: Path) -> tuple[Sam, LearnedPruner]:
    sizes = sam_config(config(folder))
    sam, decoder = Sam(sizes).eval(), PruneDecoder(sizes).eval()
    state = weights(folder)
    sam.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("prune_head.")})
    decoder.load_state_dict(weights(folder, "prune_head."))
    return sam, LearnedPruner(keep_ratio=0.5, scorer=PruneScorer(decoder, sam.prompt_encoder))


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), cases("vltp_pruned_sam", lambda folder: config(folder)["cases"]))
def test_pruned_encoder(folder: Path, case: str):
    given, stored = config(folder)["cases"][case], io(folder)
    sam, pruner = _models(folder)
    places = {int(index): rate for index, rate in given["stages"].items()}
    stages = [Stage(index, LearnedPruner(keep_ratio=1 - rate, scorer=pruner.scorer)) for index, rate in places.items()]
    seg = stored["seg_embeds"]
    encoder = StagedEncoder.of(sam.image_encoder, stages, policy=given["policy"])
    made = encoder(stored["pixel_values"], seg[:, 0])
    for index, selection, logits in zip(places, made.selections, made.logits, strict=True):
        near(logits, stored[f"{case}/stage{index}_logits"], CHAIN_TOLERANCE)
        near(logits.sigmoid(), stored[f"{case}/stage{index}_scores"], CHAIN_TOLERANCE)
        assert torch.equal(selection.indices, stored[f"{case}/stage{index}_keep_idx"])
    near(made.embeddings, stored[f"{case}/image_embeddings"], CHAIN_TOLERANCE)
    masks, qualities = sam.masks(made.embeddings, seg)
    near(masks, stored[f"{case}/low_res_masks"], CHAIN_TOLERANCE)
    near(qualities, stored[f"{case}/iou"], CHAIN_TOLERANCE)
    # Every block's output: an encoder that is cut behind it.
    for block in range(len(sam.image_encoder.blocks)):
        earlier = [stage for stage in stages if stage.after_block <= block]
        blocks = sam.image_encoder.blocks[: block + 1]
        cut = StagedEncoder(blocks, earlier, policy=given["policy"], embed=sam.image_encoder.embed)
        tokens = cut(stored["pixel_values"], seg[:, 0]).embeddings.permute(0, 2, 3, 1)
        near(tokens, stored[f"{case}/block{block}_out"], 3 * MODULE_TOLERANCE)


@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), cases("vltp_pruned_sam", lambda folder: ["unpruned_image_embeddings"]))
def test_nothing_dropped(folder: Path, case: str):
    stored = io(folder)
    sam, pruner = _models(folder)
    stages = [Stage(2, LearnedPruner(keep_ratio=1.0, scorer=pruner.scorer))]
    made = StagedEncoder.of(sam.image_encoder, stages)(stored["pixel_values"], stored["seg_embeds"][:, 0])
    near(made.embeddings, stored[case], CHAIN_TOLERANCE)

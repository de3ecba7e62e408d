"""The guidance and the whole unpruned chain behind it, against LISA's forward pass with a stub language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.vltp_golden import CHAIN_TOLERANCE, cases, config, io, near, sam_config, weights
from torch import Tensor

from leanseg.errors import InputError
from leanseg.models.sam.model import Sam
from leanseg.models.sam.pictures import full_masks
from leanseg.models.vltp.guide import SegProjector, picture_of, seg_states
from leanseg.models.vltp.losses import LossWeights, mask_losses, total_loss


class _Chain:
    """What the fixture holds, computed by this package's parts."""

    def __init__(self, folder: Path) -> None:
        self.given, self.stored = config(folder), io(folder)
        self.size = self.given["image_size"]
        self.projector = SegProjector(self.given["hidden_size"], self.given["out_dim"]).eval()
        self.projector.load_state_dict(
            {name: tensor for name, tensor in weights(folder, "model.").items() if name.startswith("text_hidden_fcs")}
        )
        self.sam = Sam(sam_config({**self.given["sam"], "image_size": self.size})).eval()
        self.sam.load_state_dict(weights(folder, "model.visual_model."))

    def embeddings(self, hidden: str, ids: str, offset: list[int]) -> tuple[Tensor, Tensor]:
        found = seg_states(
            self.stored[hidden],
            self.stored[ids],
            seg_id=self.given["seg_token_id"],
            image_tokens=self.given["image_tokens"],
        )
        return self.projector(found.states), picture_of(found.conversation, offset)

    def masks(self, picture: int, embeddings: Tensor) -> Tensor:
        image = self.sam.image_encoder(self.stored["images"][picture : picture + 1])
        logits, _ = self.sam.masks(image, embeddings[:, None])
        sizes = {"valid_size": tuple(self.given["resize"][picture]), "output_size": tuple(self.given["orig"][picture])}
        return full_masks(logits, **sizes, size=self.size)[:, 0]


def _outputs(folder: Path) -> list[str]:
    return sorted(name for name in io(folder) if name.startswith(("seg_embeds", "infer_", "train_", "proj_out", "gen_")
                  ) and name not in ("gen_hidden_states", "gen_sequence"))  # fmt: skip


@pytest.mark.golden
@torch.inference_mode()
@pytest.mark.parametrize(("folder", "case"), cases("lisa_seg", _outputs))
def test_as_in_lisa(folder: Path, case: str):
    chain = _Chain(folder)
    near(_found(chain, case), chain.stored[case], CHAIN_TOLERANCE)


def _found(chain: _Chain, case: str) -> Tensor:
    if case == "proj_out":
        return chain.projector(chain.stored["proj_in"])
    if case.startswith("gen_"):
        embeddings, _ = chain.embeddings("gen_hidden_states", "gen_sequence", [0, 1])
        return embeddings[:, None] if case == "gen_seg_embeds" else chain.masks(0, embeddings)
    embeddings, picture = chain.embeddings("hidden_states", "input_ids", chain.stored["offset"].tolist())
    if case.startswith("seg_embeds_image"):
        return embeddings[picture == int(case.removeprefix("seg_embeds_image"))][:, None]
    if case.startswith("infer_pred_masks_image"):
        number = int(case.removeprefix("infer_pred_masks_image"))
        return chain.masks(number, embeddings[picture == number])
    return _losses(chain, embeddings, picture)[case][None]


def _losses(chain: _Chain, embeddings: Tensor, picture: Tensor) -> dict[str, Any]:
    numbers = range(len(chain.stored["images"]))
    weight, ce = chain.given["loss_weights"], torch.tensor(chain.given["fake_ce"])
    losses = mask_losses(
        [chain.masks(number, embeddings[picture == number]) for number in numbers],
        [chain.stored[f"gt_mask{number}"] for number in numbers],
    )
    masks = total_loss(losses, weights=LossWeights(mask_bce=weight["bce"], mask_dice=weight["dice"]))
    return {
        "train_ce_loss": weight["ce"] * ce,
        "train_mask_bce_loss": weight["bce"] * losses["bce"],
        "train_mask_dice_loss": weight["dice"] * losses["dice"],
        "train_mask_loss": masks,
        "train_loss": weight["ce"] * ce + masks,
    }


def test_expanded_ids_read_the_position_before():
    ids = torch.tensor([[3, 3, 5, 7], [3, 7, 5, 7]])
    hidden = torch.arange(8.0).view(2, 4, 1)
    found = seg_states(hidden, ids, seg_id=7, image_tokens=1)
    assert found.states.flatten().tolist() == [2, 4, 6]
    assert found.conversation.tolist() == [0, 1, 1]


def test_no_seg_is_no_row():
    found = seg_states(torch.zeros(1, 4, 6), torch.zeros(1, 4, dtype=torch.int64), seg_id=7, image_tokens=1)
    assert found.states.shape == (0, 6)
    assert SegProjector(6, 4)(found.states).shape == (0, 4)


def test_a_seg_without_a_picture_before_it_is_refused():
    with pytest.raises(InputError, match=r"\[SEG\] at \[0\] reads rows \[-1\] of 4"):
        seg_states(torch.zeros(1, 4, 6), torch.tensor([[7, 1, 1, 1]]), seg_id=7, image_tokens=1)
    with pytest.raises(InputError, match=r"reads rows \[258\] of 4"):
        seg_states(torch.zeros(1, 4, 6), torch.tensor([[1, 1, 1, 1, 7]]), seg_id=7, image_tokens=256)

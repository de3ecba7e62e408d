"""VLTP's losses, patch labels and measures against the public code's numbers, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.vltp_golden import cases, config, exactly, io, near

from leanseg.errors import InputError
from leanseg.metrics import CIoU, GIoU
from leanseg.models.vltp.losses import (
    LossWeights,
    bce,
    dice,
    mask_losses,
    patch_labels,
    prune_losses,
    total_loss,
)


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "case"), exactly("losses_postprocess_metrics", lambda _: ["bce", "dice"]))
def test_losses_as_in_the_public_code(folder: Path, case: str):
    stored = io(folder)
    loss = {"bce": bce, "dice": dice}[case]
    near(loss(stored["logits"], stored["gt"])[None], stored[case])
    listed = mask_losses([stored["logits"][:1], stored["logits"][1:]], [stored["gt"][:1], stored["gt"][1:]])
    near(listed[case][None], stored[case])


@pytest.mark.golden
@pytest.mark.parametrize(("folder", "case"), exactly("losses_postprocess_metrics", lambda _: ["giou", "ciou"]))
def test_measures_as_in_lisas_validation(folder: Path, case: str):
    stored = io(folder)
    metric = {"giou": GIoU, "ciou": CIoU}[case]()
    for guess, truth in zip(stored["metric_preds"].numpy(), stored["metric_gts"].numpy(), strict=True):
        metric.update(truth != 0, guess > 0)
    # LISA adds 1e-5 to every union.
    assert float(metric.compute()) == pytest.approx(float(stored[case]), abs=1e-5)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("folder", "case"),
    cases("prune_labels", lambda folder: sorted(name[3:] for name in io(folder) if name.startswith("gt_"))),
)
def test_patch_labels(folder: Path, case: str):
    given, stored = config(folder), io(folder)
    labels = patch_labels(stored[f"gt_{case}"][None] > 0, size=given["image_size"], patch=given["patch_size"])
    assert torch.equal(labels[0], stored[f"labels_{case}"])


def test_a_pixel_marks_its_patch_and_filling_marks_none():
    mask = torch.zeros(2, 32, 64, dtype=torch.bool)
    mask[0, 31, 17] = True
    labels = patch_labels(mask, size=64, patch=16)
    assert labels.sum().item() == 1
    assert labels[0].view(4, 4)[1, 1] == 1


def test_a_pictures_number_of_masks_weighs_and_no_mask_is_no_loss():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(count, 4, 5, generator=generator) for count in (1, 3, 0)]
    targets = [(each > 0.3).float() for each in logits]
    near(mask_losses(logits, targets)["bce"], bce(torch.cat(logits), torch.cat(targets)))
    empty = mask_losses(logits[2:], targets[2:])
    assert (empty["bce"].item(), empty["dice"].item()) == (0.0, 0.0)


def test_stages_are_averaged_and_weighted():
    labels = torch.tensor([[1.0, 0.0, 0.0]])
    stages = [torch.tensor([[3.0, -2.0, 0.0]]), torch.tensor([[-1.0, 1.0, 2.0]])]
    found = prune_losses(stages, labels)
    near(found["dice"], (dice(stages[0], labels) + dice(stages[1], labels)) / 2)
    masks = {"bce": torch.tensor(1.0), "dice": torch.tensor(3.0)}
    assert total_loss(masks).item() == 3.5
    near(total_loss(masks, found), 3.5 + 2 * found["bce"] + 0.5 * found["dice"])
    only = LossWeights(mask_bce=0, mask_dice=0, prune_bce=1, prune_dice=0)
    near(total_loss(masks, found, only), found["bce"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="1 pictures' logits came with 2 pictures' masks"):
        mask_losses([torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 2)] * 2)
    with pytest.raises(InputError, match="expected a mask per logit map, of its size"):
        mask_losses([torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 3)])
    with pytest.raises(InputError, match="of no stage"):
        prune_losses([], torch.zeros(1, 4))
    with pytest.raises(InputError, match=r"shapes \[\(1, 3\)\], the labels \(1, 4\)"):
        prune_losses([torch.zeros(1, 3)], torch.zeros(1, 4))
    with pytest.raises(InputError, match="expected a multiple of the patch size 7"):
        patch_labels(torch.zeros(1, 4, 4, dtype=torch.bool), size=64, patch=7)

"""CTS: super-patches share a token before the first block, and all their cells get its features behind the last."""

from __future__ import annotations

import pytest
import torch
from tests.models.baseline_cases import masked_blocks, sams, weights
from tests.models.sam_fixtures import pixels, tiny_config, tiny_sam

from leanseg.errors import SpecError, WeightsError
from leanseg.models.sam.model import Sam
from leanseg.models.vltp.baselines.cts import CTSEncoder, CTSPolicy, policy_labels, policy_losses
from leanseg.models.vltp.losses import patch_coverage

SAMS = dict(sams())


def _encoder(sam: Sam, keep_ratio: float) -> CTSEncoder:
    return CTSEncoder(sam.image_encoder, weights("cts", sam), keep_ratio=keep_ratio)


def _ratio(sam: Sam, n_shared: int) -> float:
    """Return a keep ratio that shares so many super-patches."""
    return 1 - 3 * n_shared / sam.config.grid.n_tokens


@torch.inference_mode()
@pytest.mark.parametrize("share", ["one", "half", "all"])
@pytest.mark.parametrize("name", SAMS)
def test_equal_to_the_slow_way_of_sharing(name: str, share: str):
    """Each shared patch by itself, all blocks on the whole map under a mask, each cell copied by itself."""
    sam = SAMS[name]
    grid, patch = sam.config.grid, sam.config.patch_size
    possible = (grid.height // 2) ** 2
    n_shared = {"one": 1, "half": max(1, possible // 2), "all": possible}[share]
    encoder, picture = _encoder(sam, _ratio(sam, n_shared)), pixels(sam, batch=2)
    made = encoder(picture)
    assert encoder.n_shared == n_shared
    chances = encoder.policy(picture).double().softmax(dim=2)[..., 1]
    tokens = sam.image_encoder.embed(picture)
    kept = torch.ones(2, grid.height, grid.width, dtype=torch.bool)
    cells = []
    for row in range(2):
        for square in chances[row].topk(n_shared).indices.tolist():
            y, x = 2 * (square // (grid.width // 2)), 2 * (square % (grid.width // 2))
            large = picture[row : row + 1, :, y * patch : (y + 2) * patch, x * patch : (x + 2) * patch]
            small = torch.nn.functional.interpolate(large, scale_factor=0.5, mode="bilinear", align_corners=False)
            place = sam.image_encoder.pos_embed[0, y : y + 2, x : x + 2].mean(dim=(0, 1))
            tokens[row, y, x] = sam.image_encoder.patch_embed(small)[0, 0, 0] + place
            for other in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                kept[row, *other] = False
                cells.append((row, other, (y, x)))
    assert torch.equal(made.kept[0], kept.flatten(1))
    tokens = masked_blocks(sam, tokens, made.kept)
    for row, cell, corner in cells:
        tokens[row, *cell] = tokens[row, *corner]
    torch.testing.assert_close(made.embeddings, sam.image_encoder.to_embedding(tokens), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_selection_says_who_stands_for_whom():
    sam = tiny_sam()
    encoder = _encoder(sam, _ratio(sam, 2))
    selection = encoder.sharing(torch.tensor([[4, 0], [8, 2]]))
    assert selection.k == 49 - 6
    owned = selection.indices.gather(1, selection.owner).view(2, 7, 7)
    # Super-patches of a 7 x 7 grid are 3 x 3; number 4 is the middle one, and nothing reaches the last row or column.
    assert owned[0, 2:4, 2:4].unique().tolist() == [16]
    assert owned[0, :2, :2].unique().tolist() == [0]
    assert owned[1, 4:6, 4:6].unique().tolist() == [32]
    assert owned[1, :2, 4:6].unique().tolist() == [4]
    assert torch.equal(owned[:, 6], torch.arange(42, 49).expand(2, 7))
    assert selection.sizes.sum().item() == 98
    assert int((selection.sizes == 4).sum()) == 4


def test_the_share_of_tokens_is_the_papers():
    config = tiny_config(image_size=512)
    with torch.device("meta"):
        sam = Sam(config)
        encoder = CTSEncoder(sam.image_encoder, CTSPolicy(config), keep_ratio=0.75)
    assert (config.grid.n_tokens, encoder.n_shared, 4096 - 3 * encoder.n_shared) == (4096, 341, 3073)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("image_size", "patch_size", "squares"), [(56, 8, 9), (64, 8, 16), (42, 14, 1), (24, 12, 1), (48, 16, 1)]
)
def test_the_policy_scores_every_super_patch_of_any_grid(image_size: int, patch_size: int, squares: int):
    config = tiny_config(image_size=image_size, patch_size=patch_size)
    policy = CTSPolicy(config, width=4)
    assert policy(torch.randn(2, 3, image_size, image_size)).shape == (2, squares, 2)
    assert policy.layers[0].out_channels == 4


@torch.inference_mode()
def test_a_super_patchs_logits_see_it_and_its_neighbours():
    policy = weights("cts", tiny_sam(image_size=128))
    picture = torch.zeros(1, 3, 128, 128)
    before = policy(picture).view(8, 8, 2)
    picture[..., 32:48, 64:80] = 1.0
    changed = (policy(picture).view(8, 8, 2) - before).abs().amax(dim=2)
    assert set(changed.nonzero().flatten().tolist()) == {1, 2, 3, 4, 5}
    assert bool((changed[1:4, 3:6] > 0).all())


def test_labels_are_of_super_patches_wholly_inside_or_outside():
    masks = torch.zeros(2, 56, 56, dtype=torch.bool)
    masks[0, :16, :16] = True  # one super-patch
    masks[0, 20, 20] = True  # a pixel of another
    masks[1] = True
    labels = policy_labels(patch_coverage(masks, size=56, patch=8))
    assert labels.tolist() == [[1, 1, 1, 1, 0, 1, 1, 1, 1], [1] * 9]
    masks[1, 15, 15] = False
    assert policy_labels(patch_coverage(masks, size=56, patch=8))[1].tolist() == [0] + [1] * 8


def test_the_policy_learns_its_labels_without_running_a_block():
    torch.manual_seed(0)
    policy = CTSPolicy(tiny_config(), width=8)
    picture, masks = torch.randn(1, 3, 56, 56), torch.zeros(1, 56, 56, dtype=torch.bool)
    masks[0, :20, :20] = True
    picture[:, :, :20, :20] += 3
    coverage = patch_coverage(masks, size=56, patch=8)
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        loss = policy_losses(policy(picture), coverage)["policy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_budgets_and_grids_that_cannot_be_are_refused():
    sam = tiny_sam()
    with pytest.raises(SpecError, match=r"share 13 super-patches to keep 0.2 .* the grid has 9; .* at least 0.4490"):
        _encoder(sam, 0.2)
    with pytest.raises(WeightsError, match="a single token, and CTS shares four"):
        CTSPolicy(tiny_config(image_size=8))

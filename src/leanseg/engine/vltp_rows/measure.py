"""Measures rows on pictures that the guide has seen once: IoU per picture and multiply-adds of the image encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leanseg.costs.sam_methods import sam_method
from leanseg.engine.train.vltp.pool import Pool
from leanseg.engine.vltp_rows.rows import Row
from leanseg.errors import InputError, unknown_name
from leanseg.metrics.significance import bootstrap_mean, paired_bootstrap
from leanseg.models.sam.pictures import full_masks, scaled_size
from leanseg.models.vltp.encoders import PrunedEncoder, pruned_encoder
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.staged_encoder import EncoderState, StagedEncoder, StagedOutput

UNPRUNED = "training: no pruning"


def guidance_of(own: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return what the stages and what the mask decoder are told, a row per instruction, by the name of a control.

    >>> [told.tolist() for told in guidance_of(torch.tensor([[1.0], [2.0]]), "shuffled at stages")]
    [[[2.0], [1.0]], [[1.0], [2.0]]]
    """
    other, nothing = own.roll(1, dims=0), torch.zeros_like(own)
    known = {
        "own": (own, own),
        "zero": (nothing, nothing),
        "shuffled": (other, other),
        "shuffled at stages": (other, own),
    }
    if kind not in known:
        raise InputError(unknown_name("guidance", kind, known))
    return known[kind]


@torch.inference_mode()
def measure(model: VLTP, pool: Pool, row: Row) -> dict[str, Any]:
    """Return a row's intersections and unions per picture, and its multiply-adds (mean over pictures, 1e9).

    The pool has one instruction per picture, and was made for the row's first stage.
    """
    if row.pruner is None:
        encoder = model.encoder(row.stages, reactivate=row.reactivate)
    else:
        encoder = pruned_encoder(row.pruner, model.sam, dict(row.stages))
    told, asked = guidance_of(pool.guidance, row.guidance)
    overlaps, costs = [], []
    for index in range(len(pool)):
        output = _encoded(model, pool, encoder, index, told[index : index + 1])
        low, _ = model.masks(output.embeddings, asked[index : index + 1])
        target, size = pool.pictures[index].targets[0], model.config.sam.image_size
        valid = scaled_size(*target.shape, size=size)
        mask = full_masks(low, valid_size=valid, output_size=target.shape, size=size)[0, 0].numpy() > 0
        overlaps.append((int((mask & target).sum()), int((mask | target).sum())))
        costs.append(_multiply_adds(model, row, output))
    return {**asdict(row), "name": row.name, "overlaps": overlaps, "gmac": round(float(np.mean(costs)), 4)}


def _encoded(model: VLTP, pool: Pool, encoder: PrunedEncoder, index: int, told: Tensor) -> StagedOutput:
    pooled = pool.take([index], model.device)
    ready = isinstance(encoder, StagedEncoder) and encoder.stages
    state = EncoderState(pooled.tokens) if ready else encoder.prefix(pooled.batch.sam)
    return encoder.rest(state, told)


def _multiply_adds(model: VLTP, row: Row, output: StagedOutput) -> float:
    """Return 1e9 multiply-adds of the image encoder and the choice, counted on the tokens that were kept."""
    method = "vltp" if not row.stages else (row.pruner or model.config.method)
    kept = [mask[0].nonzero()[:, 0].tolist() for mask in output.kept]
    if not kept:
        kept = [list(range(model.config.sam.grid.n_tokens))] * model.config.sam.depth
    return 1e3 * sam_method(model.config.sam, method, kept, [place for place, _ in row.stages]).total


def summarised(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with gIoU (mean over pictures) and its interval, cIoU, and the paired loss against no pruning."""
    values = {row["name"]: _ious(row["overlaps"]) for row in measured}
    rows = []
    for row in measured:
        own = values[row["name"]]
        mean, loss = bootstrap_mean(own), paired_bootstrap(values[UNPRUNED], own)
        shared, both = np.array(row["overlaps"]).sum(axis=0)
        rows.append({
            **row,
            "giou": round(mean.mean, 4), "low": round(mean.low, 4), "high": round(mean.high, 4),
            "ciou": round(float(shared / (both + 1e-10)), 4),
            "loss": round(loss.mean, 4), "loss_low": round(loss.low, 4), "loss_high": round(loss.high, 4),
        })  # fmt: skip
    return rows


def _ious(overlaps: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array([1.0 if both == 0 else shared / (both + 1e-5) for shared, both in overlaps])

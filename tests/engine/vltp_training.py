"""What the tests of VLTP's training share: pictures, a tiny model in training, and losses of one step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from leanseg.data.scenes import SceneOptions, generate_scene
from leanseg.data.scenes.items import ITEMS
from leanseg.engine.train.vltp.heads import TrainingHeads
from leanseg.engine.train.vltp.learner import Learner
from leanseg.engine.train.vltp.pictures import Picture, scene_picture
from leanseg.engine.train.vltp.pool import Pool, make_pool
from leanseg.engine.train.vltp.recipes import RECIPES
from leanseg.engine.train.vltp.stages import VLTPStage
from leanseg.engine.train.vltp.vocabulary import build_guide_tokenizer
from leanseg.models.vltp.model import VLTP
from leanseg.models.vltp.presets import VLTP_PRESETS
from leanseg.models.vltp.tokenizer import GuideTokenizer


def tokenizer() -> GuideTokenizer:
    return build_guide_tokenizer(["the dog left of the red apple", "every cat"], vocabulary=300)


def stage(name: str, **changes: object) -> VLTPStage:
    found = {each.name: each for each in RECIPES["tiny"]}[name]
    return replace(found, **changes)  # type: ignore[arg-type]


def learner(of: VLTPStage, **changes: object) -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = replace(VLTP_PRESETS["tiny"], **changes)  # type: ignore[arg-type]
        model = VLTP(config, tokenizer=tokenizer())
        heads = TrainingHeads(dim=config.sam.dim, n_items=len(ITEMS))
    return Learner(model, heads, of)


def pictures(count: int = 2, *, texts: int = 2, canvas: int = 64, first: int = 0) -> list[Picture]:
    options = SceneOptions(canvas=canvas, n_instructions=texts)
    return [scene_picture(generate_scene(first + index, options)) for index in range(count)]


def pool(model: VLTP, count: int = 3) -> Pool:
    return make_pool(model.eval(), pictures(count))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([loss.float() for loss in losses.values()]).sum()

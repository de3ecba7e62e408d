"""Methods of the tests: each asks for one cue, and does the simplest thing with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from leanseg import Pruner, Selection
from leanseg.pruners import ScorePruner


@dataclass(frozen=True, kw_only=True)
class ByAttention(ScorePruner):
    name: ClassVar[str] = "by_attention"
    cues: ClassVar[tuple[str, ...]] = ("attention",)

    def score(self, tokens):
        SEEN.append(tokens)
        return tokens.attention


@dataclass(frozen=True, kw_only=True)
class ByLanguage(ByAttention):
    attention_from: ClassVar[str] = "language"


@dataclass(frozen=True, kw_only=True)
class ByKeys(ScorePruner):
    cues: ClassVar[tuple[str, ...]] = ("keys",)

    def score(self, tokens):
        SEEN.append(tokens)
        return tokens.keys.float().norm(dim=2)


@dataclass(frozen=True, kw_only=True)
class ByGuidance(ScorePruner):
    cues: ClassVar[tuple[str, ...]] = ("guidance",)

    def score(self, tokens):
        SEEN.append(tokens)
        return (tokens.features * tokens.guidance[:, None]).sum(dim=2)


@dataclass(frozen=True, kw_only=True)
class Halves(Pruner):
    """Keeps the first K tokens; the last of them stands for all others, and carries the mean of all."""

    merges: ClassVar[bool] = True

    def select(self, tokens, k):
        SEEN.append(tokens)
        n_tokens, batch = tokens.n_tokens, tokens.batch
        owner = torch.arange(n_tokens).clamp(max=k - 1).expand(batch, -1).contiguous()
        features = tokens.features[:, :k].clone()
        features[:, -1] = tokens.features[:, k - 1 :].mean(dim=1)
        return Selection(torch.arange(k).repeat(batch, 1), n_tokens, owner, features)


@dataclass(frozen=True, kw_only=True)
class OfClip(Pruner):
    """Takes one joint row; keeps the first K tokens of the clip."""

    scope: ClassVar[str] = "clip"

    def select(self, tokens, k):
        SEEN.append(tokens)
        return Selection(torch.arange(k)[None], tokens.n_tokens)


@dataclass(frozen=True, kw_only=True)
class Sparing(Pruner):
    """Keeps as many tokens as the picture's first feature says, at most the budget."""

    fixed_budget: ClassVar[bool] = False

    def select(self, tokens, k):
        counts = [1 + int(row[0, 0].abs() * 1000) % k for row in tokens.features]
        assert len(counts) == 1
        return Selection(torch.arange(counts[0])[None], tokens.n_tokens)


SEEN: list = []

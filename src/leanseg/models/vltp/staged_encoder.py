"""SAM's image encoder with stages: at each, some tokens are chosen to go on, the others are frozen and may come back.

Source: VLTP (arXiv:2409.08464), sections 4.2 to 4.4. At a stage the scores are made of all tokens, the frozen ones as
they were left, and the choice is made anew from all of them (reactivation). Ratios are fractions of all tokens and do
not multiply. Behind the last block all tokens are where they always were, and SAM's neck follows.

Differs from the paper, which has no public code for this part and says nothing of windows: kept tokens attend to the
kept ones of their own 14 x 14 window and to its filling; where everything is kept, SAM itself runs, bit for bit. Eq. 11
takes what lies above the (r N)-th highest score; the text, and here, the top (1 - r) N.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from leanseg.core import Grid, Selection, VisualTokens, keep_count
from leanseg.errors import InputError, SpecError, TokensError, unknown_name
from leanseg.models.sam.image_encoder import Block, ImageEncoder
from leanseg.models.vltp.active import POLICIES, WindowLayout, run_block
from leanseg.pruners.base import Pruner, ScorePruner
from leanseg.shapes import Bool, Float, Int

# Several [SEG] of one picture: one pass each, or one pass that keeps what any of them wants.
SEVERAL = ("per_prompt", "union")


@dataclass(frozen=True)
class Stage:
    """A choice of tokens behind the first `after_block` blocks; the pruner's keep ratio is of all tokens.

    What is dropped is counted: N - floor((1 - keep_ratio) N) tokens stay.
    """

    after_block: int
    pruner: Pruner

    # Checked below, by errors that say what to do; run-time type checks would speak first.
    __no_type_check__ = True

    def __post_init__(self) -> None:
        if isinstance(self.after_block, bool) or not isinstance(self.after_block, int) or self.after_block < 0:
            raise SpecError(f"after_block is {self.after_block!r}; expected a whole number of blocks, 0 = before all")
        if not isinstance(self.pruner, Pruner):
            raise SpecError(f"the stage after block {self.after_block} has no pruner but {self.pruner!r}; give one")
        if self.pruner.merges:
            raise SpecError(
                f"{self.pruner.spec()} merges tokens, and a stage freezes them to bring them back; choose a method "
                "that only selects"
            )


@dataclass(frozen=True, eq=False)
class EncoderState:
    """Tokens (B, h, w, D) behind the blocks that need no guidance: once per picture, for any number of instructions."""

    tokens: Float[Tensor, "b h w d"]


@dataclass(frozen=True, eq=False)
class StagedOutput:
    """Image embeddings (R, C, h, w); the selection, and of scoring methods the logits (R, N), of each stage.

    The logits carry gradients to the scorer (not to the tokens); the selections, and thus the embeddings, do not.
    `kept`: for each block the tokens that it ran on, which is what the answer cost.
    """

    embeddings: Float[Tensor, "r c h w"]
    selections: tuple[Selection, ...]
    logits: tuple[Tensor | None, ...]
    kept: tuple[Bool[Tensor, "r n"], ...] = ()


@dataclass(frozen=True)
class _Active:
    """The tokens that go on between two stages: which, their rows (A, D), and where the windows find them."""

    selection: Selection
    rows: Tensor
    layouts: dict[int, tuple[WindowLayout, Tensor]]


class StagedEncoder:
    """Blocks with stages. Holds modules and owns none, so that it can be made anew for every answer.

    `embed` and `neck`: from pixels to tokens (B, h, w, D) and from tokens to embeddings (B, C, h, w); None = tokens go
    in, or come out channels first. `policy`: what frozen tokens are to the attention of the others: "drop" = absent;
    "zero_kv" = like the filling of windows; "stale_kv" = their last features. `reactivate=False`: a later stage chooses
    among what the earlier one kept (the paper's ablation, for scoring methods). `watch` surrounds every stage's choice,
    so that a caller can tell its time from that of the blocks.

    Cost between two stages O(K D^2 + sum of n_w m_w D): linear layers see kept tokens only, windows without one are
    skipped, and attention has as many queries and keys as the window kept.
    """

    def __init__(
        self,
        blocks: Sequence[Block] | torch.nn.ModuleList,
        stages: Sequence[Stage],
        *,
        reactivate: bool = True,
        policy: str = "drop",
        embed: Callable[[Tensor], Tensor] | None = None,
        neck: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.watch: Callable[[], AbstractContextManager[None]] = nullcontext
        if policy not in POLICIES:
            raise SpecError(unknown_name("policy", str(policy), POLICIES))
        self.blocks = tuple(cast(Sequence[Block], blocks))
        self.stages = tuple(sorted(stages, key=lambda stage: stage.after_block))
        self.reactivate, self.policy = reactivate, policy
        self._embed, self._neck = embed, neck
        places = [stage.after_block for stage in self.stages]
        if len(set(places)) < len(places) or any(place >= len(self.blocks) for place in places):
            raise SpecError(
                f"stages lie after blocks {places}; expected different ones in 0..{len(self.blocks) - 1}, as there are "
                f"{len(self.blocks)} blocks"
            )
        unranked = [stage.pruner.spec() for stage in self.stages[1:] if not isinstance(stage.pruner, ScorePruner)]
        if unranked and not reactivate:
            raise SpecError(
                f"{', '.join(unranked)} does not score tokens one by one, and reactivate=False ranks what is left; "
                "choose a scoring method, or let tokens come back"
            )

    @classmethod
    def of(
        cls, encoder: ImageEncoder, stages: Sequence[Stage], *, reactivate: bool = True, policy: str = "drop"
    ) -> StagedEncoder:
        """Put stages into SAM's image encoder: pixels go in, image embeddings come out."""
        embed, neck = encoder.embed, encoder.to_embedding
        return cls(encoder.blocks, stages, reactivate=reactivate, policy=policy, embed=embed, neck=neck)

    @property
    def first_stage(self) -> int:
        """Blocks before the first stage, whose output does not depend on the instruction."""
        return self.stages[0].after_block if self.stages else len(self.blocks)

    def __call__(
        self,
        pixels: Tensor,
        guidance: Tensor | None = None,
        *,
        owner: Int[Tensor, " rows"] | None = None,
        several: str = "per_prompt",
    ) -> StagedOutput:
        """Run `prefix` and `rest`."""
        return self.rest(self.prefix(pixels), guidance, owner=owner, several=several)

    def prefix(self, pixels: Tensor) -> EncoderState:
        """Run what every instruction shares: embedding and the blocks before the first stage."""
        tokens = pixels if self._embed is None else self._embed(pixels)
        for block in self.blocks[: self.first_stage]:
            tokens = block(tokens)
        return EncoderState(tokens)

    def rest(
        self,
        state: EncoderState,
        guidance: Float[Tensor, "r g"] | None = None,
        *,
        owner: Int[Tensor, " rows"] | None = None,
        several: str = "per_prompt",
    ) -> StagedOutput:
        """Run the stages and the blocks behind them, for each row of `guidance`: one projected [SEG] embedding.

        `owner` (R,): the picture of each row; None = row by row, or all rows of a single picture. `several`:
        "per_prompt" = R embeddings, one pass per row; "union" = one per picture, whose tokens are ranked by the highest
        logit that any of its rows gives. No row, no pass: 0 embeddings. Without guidance (None) the stages' pruners
        must not need it; an encoder without stages is SAM.
        """
        if several not in SEVERAL:
            raise SpecError(unknown_name("mode for several [SEG]", str(several), SEVERAL))
        tokens, rows = state.tokens, None
        if guidance is not None:
            guidance = guidance.to(tokens.device)
            rows = owners(guidance, owner, tokens.shape[0])
            if not len(rows):
                return StagedOutput(self._finish(tokens[:0]), (), ())
            if several == "per_prompt":
                tokens, rows = tokens[rows], None
            elif len(rows.unique()) < tokens.shape[0]:
                raise InputError(
                    f"{len(rows.unique())} of {tokens.shape[0]} pictures have a [SEG] embedding, and a union keeps "
                    "what any of a picture's wants; leave the other pictures out"
                )
        return self._run(tokens, guidance, rows)

    def _run(self, tokens: Tensor, guidance: Tensor | None, rows: Tensor | None) -> StagedOutput:
        stages = {stage.after_block: stage for stage in self.stages}
        active: _Active | None = None
        selections, logits = [], []
        mask = torch.ones(tokens.flatten(1, 2).shape[:2], dtype=torch.bool, device=tokens.device)
        kept = [mask] * self.first_stage
        for index in range(self.first_stage, len(self.blocks)):
            if index in stages:
                tokens = _merged(tokens, active)
                with self.watch():
                    selection, scored = self._choose(stages[index], tokens, guidance, rows, active)
                    active = self._activate(tokens, selection, self.blocks[index:])
                selections.append(selection)
                logits.append(scored)
                mask = selection.mask()
            kept.append(mask)
            block = self.blocks[index]
            if active is None:
                tokens = block(tokens)
            else:
                changed = run_block(block, active.rows, *active.layouts[block.window])
                active = _Active(active.selection, changed, active.layouts)
        return StagedOutput(self._finish(_merged(tokens, active)), tuple(selections), tuple(logits), tuple(kept))

    def _finish(self, tokens: Tensor) -> Tensor:
        return tokens.permute(0, 3, 1, 2) if self._neck is None else self._neck(tokens)

    def _choose(
        self, stage: Stage, tokens: Tensor, guidance: Tensor | None, rows: Tensor | None, active: _Active | None
    ) -> tuple[Selection, Tensor | None]:
        """Choose from all tokens; `rows` = pictures of several [SEG] whose wishes are united."""
        grid, features = Grid(*tokens.shape[1:3]), tokens.detach().flatten(1, 2)
        k = keep_count(grid.n_tokens, stage.pruner.keep_ratio, dropped=True)
        given = VisualTokens(
            features=features if rows is None else features[rows],
            grid=grid,
            guidance=guidance,
        )
        if not isinstance(stage.pruner, ScorePruner):
            if rows is not None and len(rows) != len(features):
                raise SpecError(
                    f"{stage.pruner.spec()} does not score tokens, so that choices cannot be united; "
                    "run each [SEG] by itself: several='per_prompt'"
                )
            return stage.pruner.at(given, k), None
        stage.pruner.check_tokens(given)
        scores = stage.pruner.score(given)
        united = scores.detach()
        if rows is not None:
            blank = united.new_full(features.shape[:2], -torch.inf)
            united = blank.scatter_reduce(0, rows[:, None].expand_as(united), united, "amax")
        if active is not None and not self.reactivate:
            k = min(k, active.selection.k)
            united = united.masked_fill(~active.selection.mask(), torch.finfo(united.dtype).min)
        all_tokens = VisualTokens(features=features, grid=grid)
        return stage.pruner.best(united, all_tokens, k), scores

    def _activate(self, tokens: Tensor, selection: Selection, blocks: Sequence[Block]) -> _Active | None:
        """Take the kept rows out of the map, and lay out the windows of the blocks that follow; None = all go on."""
        if selection.k == selection.n_tokens:
            return None
        grid, flat, kept = Grid(*tokens.shape[1:3]), tokens.flatten(1, 2), selection.mask()
        layouts = {}
        for window in {block.window for block in blocks}:
            # A GPU prefers one padded pass over many small ones.
            layout = WindowLayout.of(kept, grid, window, policy=self.policy, by_count=tokens.device.type == "cpu")
            layouts[window] = (layout, flat.flatten(0, 1)[layout.frozen])
        return _Active(selection, selection.gather(flat).flatten(0, 1), layouts)


def _merged(tokens: Tensor, active: _Active | None) -> Tensor:
    """Write the kept rows back to their places; the others are as they were left."""
    if active is None:
        return tokens
    rows = active.rows.unflatten(0, (active.selection.batch, active.selection.k))
    return active.selection.scatter(rows, tokens.flatten(1, 2)).view(tokens.shape)


def owners(guidance: Tensor, owner: Tensor | None, pictures: int) -> Tensor:
    """Return the picture of each row of guidance."""
    n_rows = guidance.shape[0]
    if owner is None:
        if n_rows not in (0, pictures) and pictures != 1:
            raise TokensError(
                f"{n_rows} [SEG] embeddings came for {pictures} pictures; expected one per picture, or `owner`: the "
                "picture of each embedding"
            )
        owner = torch.arange(n_rows) if n_rows == pictures else torch.zeros(n_rows, dtype=torch.int64)
    if len(owner) != n_rows or bool(((owner < 0) | (owner >= pictures)).any()):
        raise TokensError(
            f"owner names the pictures {owner.tolist()} for {n_rows} [SEG] embeddings; expected one number in "
            f"0..{pictures - 1} for each"
        )
    return owner.to(guidance.device)

"""From the embeddings that enter a language model to selections: which visual positions of every row stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from leanseg.core import Grid, Selection, VisualTokens
from leanseg.core.ownership import with_owners
from leanseg.errors import AttachError
from leanseg.hf.pieces import Piece, Row, items_by_row
from leanseg.hf.recorder import Recorder
from leanseg.hf.trace import Item
from leanseg.pruners import Pruner
from leanseg.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True, eq=False)
class Chosen:
    """An item with its stretch of columns, separators included, and what enters where its tokens stay."""

    item: Item
    piece: Piece
    stretch: Int[Tensor, " length"]
    merged: tuple[Tensor | None, ...]
    sizes: tuple[Tensor, ...]

    def kept(self) -> Bool[Tensor, " n"]:
        """Which of the item's tokens stay, over all its frames."""
        return torch.cat([selection.mask()[0] for selection in self.item.selections])


@dataclass(frozen=True, eq=False)
class _Found:
    """A piece in its place, with the evidence of its tokens."""

    kind: str
    row: int
    piece: Piece
    stretch: Int[Tensor, " length"]
    columns: Int[Tensor, " n"]
    evidence: Mapping[str, Tensor]


class Chooser:
    """Finds the pictures of a batch, runs the pruner on them, and says what stays."""

    def __init__(self, recorder: Recorder, pruner: Pruner, site: str, *, mass: bool) -> None:
        self.recorder = recorder
        self.pruner = pruner
        self.site = site
        self.mass = mass

    def choose(
        self,
        embeds: Float[Tensor, "b length d"],
        visual: Mapping[str, Bool[Tensor, "b length"]],
        guidance: Float[Tensor, "b d"] | None,
        attention: Float[Tensor, "b length"] | None,
    ) -> list[Chosen]:
        """Return every picture's selection; `attention` is the language model's, per position."""
        found = list(self._find(embeds, visual))
        self.recorder.used()
        units: list[tuple[_Found, VisualTokens]] = []
        for one in found:
            tokens = self._tokens(one, embeds, guidance, attention)
            split = [tokens] if self.pruner.scope == "clip" else _frames(tokens, one.piece.grid)
            units += [(one, each) for each in split]
        selected = self._select([tokens for _, tokens in units])
        chosen = []
        for one in found:
            mine = [place for place, (owner, _) in enumerate(units) if owner is one]
            selections = tuple(selected[place] for place in mine)
            owned = [self._owned(units[place][1], selected[place]) for place in mine]
            item = Item(one.kind, one.row, units[mine[0]][1].grid, one.columns, selections)
            merged = tuple(self._merged(selection) for selection in selections)
            chosen.append(Chosen(item, one.piece, one.stretch, merged, tuple(each.sizes[0] for each in owned)))
        return chosen

    def _find(self, embeds: Tensor, visual: Mapping[str, Tensor]) -> Iterator[_Found]:
        layout, recorder = self.recorder.layout, self.recorder
        kinds = [kind for kind, mask in visual.items() if bool(mask.any())]
        for position, kind in enumerate(kinds):
            rule = layout.images if kind == "image" else layout.videos
            if rule is None:
                raise AttachError(f"the layout of {layout.model_type!r} has no rule for its {kind} positions")
            columns = [mask.nonzero()[:, 0] for mask in visual[kind]]
            record = recorder.of_kind(position, len(kinds))
            evidence = recorder.evidence(record)
            grids = None if record is None else record.grids
            lengths = [grid.n_tokens for grid in grids] if grids else _lengths(evidence)
            shares = items_by_row([len(each) for each in columns], lengths) if lengths else None
            for row, places in enumerate(columns):
                share = None if shares is None else shares[row]
                of_row = None if grids is None or share is None else [grids[item] for item in share]
                pieces = rule(Row(recorder.base, embeds[row, places], of_row)) if len(places) else []
                stretches = _cut(places, pieces, kind)
                if evidence and share is not None and len(share) != len(pieces):
                    raise AttachError(f"row {row} has {len(pieces)} pictures, the vision tower saw {len(share)}")
                for number, (piece, stretch) in enumerate(zip(pieces, stretches, strict=True)):
                    mine = {name: parts[share[number]] for name, parts in evidence.items()} if share else {}
                    yield _Found(kind, row, piece, stretch, stretch[piece.tokens().to(stretch.device)], mine)

    def _tokens(self, one: _Found, embeds: Tensor, guidance: Tensor | None, attention: Tensor | None) -> VisualTokens:
        features = one.evidence["inputs"] if self.site == "before_projector" else embeds[one.row, one.columns]
        seen = one.evidence.get("attention") if attention is None else attention[one.row, one.columns]
        keys = one.evidence.get("keys")
        device = features.device
        return VisualTokens(
            features=features[None],
            grid=one.piece.grid,
            attention=None if seen is None else seen[None].to(device),
            keys=None if keys is None else keys[None].to(device),
            guidance=None if guidance is None else guidance[one.row : one.row + 1].to(device),
        )

    def _select(self, units: Sequence[VisualTokens]) -> list[Selection]:
        """Run the pruner once per grid where rows are independent and budgets fixed, else picture by picture."""
        selected: dict[int, Selection] = {}
        together: dict[Grid, list[int]] = {}
        for place, tokens in enumerate(units):
            if self.pruner.scope == "clip" or not self.pruner.fixed_budget:
                selected[place] = self.pruner(tokens)
            else:
                together.setdefault(tokens.grid, []).append(place)
        for places in together.values():
            batch = self.pruner(_stack([units[place] for place in places]))
            selected.update({place: batch.row(number) for number, place in enumerate(places)})
        return [selected[place] for place in range(len(units))]

    def _owned(self, tokens: VisualTokens, selection: Selection) -> Selection:
        return with_owners(tokens, selection) if self.mass else selection

    def _merged(self, selection: Selection) -> Tensor | None:
        """Return merged features (K, D) as they enter the language model."""
        if selection.features is None:
            return None
        if self.site == "before_projector":
            projector = self.recorder.layout.part(self.recorder.base, "projector")
            # Called past its hooks: this run is ours.
            return projector.forward(selection.features)[0]
        return selection.features[0]


def _lengths(evidence: Mapping[str, Sequence[Tensor]]) -> list[int]:
    return [len(part) for part in next(iter(evidence.values()), ())]


def _cut(places: Tensor, pieces: Sequence[Piece], kind: str) -> list[Tensor]:
    total = sum(piece.length for piece in pieces)
    if total != len(places):
        raise AttachError(
            f"a row holds {len(places)} {kind} positions, but its pictures' grids make {total}; the layout's rule does "
            "not fit this model or input"
        )
    return list(places.split([piece.length for piece in pieces]))


def _frames(tokens: VisualTokens, grid: Grid) -> list[VisualTokens]:
    """Return each frame of a joint row by itself."""
    if grid.frames == 1:
        return [tokens]
    per_frame = grid.frame.n_tokens
    return [
        VisualTokens(
            features=tokens.features[:, first : first + per_frame],
            grid=grid.frame,
            attention=None if tokens.attention is None else tokens.attention[:, first : first + per_frame],
            keys=None if tokens.keys is None else tokens.keys[:, first : first + per_frame],
            guidance=tokens.guidance,
        )
        for first in range(0, tokens.n_tokens, per_frame)
    ]


def _stack(units: Sequence[VisualTokens]) -> VisualTokens:
    return VisualTokens(
        features=torch.cat([tokens.features for tokens in units]),
        grid=units[0].grid,
        attention=_joined([tokens.attention for tokens in units]),
        keys=_joined([tokens.keys for tokens in units]),
        guidance=_joined([tokens.guidance for tokens in units]),
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None

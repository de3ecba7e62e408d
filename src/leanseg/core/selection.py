"""Which tokens stay, who represents the others, and optional merged features: the currency of the whole package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from leanseg.core.indexing import check_index_tensor, extremes, widened
from leanseg.errors import SelectionError
from leanseg.shapes import Bool, Float, Int, Shaped, Tensor


@dataclass(frozen=True, eq=False)
class Selection:
    """K kept tokens of N, for each row of a batch.

    `indices` (B, K) int64, unique and ascending: raster order of the kept tokens. `owner` (B, N): for each token the
    slot 0..K-1 that represents it, -1 where it is dropped; None = each slot stands for itself alone. `features`
    (B, K, D): merged features that replace the gathered ones. `order` (B, K): the kept indices in the order in which
    they were picked, so that a prefix is the smaller budget's answer of a nested method.

    Laws: `gather(expand(x)) = x`; `scatter(gather(b), b) = b`; `then` is associative and `identity` neutral to it.

    >>> kept = Selection(torch.tensor([[0, 2]]), n_tokens=3)
    >>> kept.gather(torch.tensor([[5.0, 6.0, 7.0]])).tolist()
    [[5.0, 7.0]]
    """

    # Checked below, by errors that say what to do; run-time shape checks would speak first.
    __no_type_check__ = True

    indices: Int[Tensor, "b k"]
    n_tokens: int
    owner: Int[Tensor, "b n"] | None = None
    features: Float[Tensor, "b k d"] | None = None
    order: Int[Tensor, "b k"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.n_tokens, bool) or not isinstance(self.n_tokens, int) or self.n_tokens < 1:
            raise SelectionError(f"n_tokens is {self.n_tokens!r}; it must be a whole number of at least 1")
        check_index_tensor("indices", self.indices, None)
        if bool(((self.indices < 0) | (self.indices >= self.n_tokens)).any()):
            raise SelectionError(f"indices must lie in 0..{self.n_tokens - 1}; got {extremes(self.indices)}")
        if bool((self.indices[:, 1:] <= self.indices[:, :-1]).any()):
            raise SelectionError("indices must be unique and ascending in every row; sort them, and give `order` apart")
        if self.order is not None:
            check_index_tensor("order", self.order, (self.batch, self.k))
            if not torch.equal(self.order.sort(dim=1).values, self.indices):
                raise SelectionError("order must hold exactly the kept indices, each once, in the order of picking")
        if self.owner is not None:
            self._check_owner(self.owner)
        if self.features is not None:
            if self.features.ndim != 3 or self.features.shape[:2] != self.indices.shape:
                raise SelectionError(
                    f"features has shape {tuple(self.features.shape)}; expected ({self.batch}, {self.k}, D)"
                )
            if not self.features.is_floating_point():
                raise SelectionError(f"features is {self.features.dtype}; merged features must be floating point")

    def _check_owner(self, owner: Int[Tensor, "b n"]) -> None:
        check_index_tensor("owner", owner, (self.batch, self.n_tokens))
        if bool(((owner < -1) | (owner >= self.k)).any()):
            raise SelectionError(f"owner must lie in -1..{self.k - 1}; got {extremes(owner)}")
        slots = torch.arange(self.k, device=owner.device).expand(self.batch, self.k)
        if not torch.equal(owner.gather(1, self.indices), slots):
            raise SelectionError("each slot must own its own token: owner[indices[k]] = k")

    @classmethod
    def identity(cls, batch: int, n_tokens: int, device: torch.device | str | None = None) -> "Selection":
        """Keep every token."""
        return cls(torch.arange(n_tokens, device=device).repeat(batch, 1), n_tokens)

    @classmethod
    def from_order(cls, order: Int[Tensor, "b k"], n_tokens: int) -> "Selection":
        """Keep the tokens of `order`, given in the order of picking."""
        return cls(order.sort(dim=1).values, n_tokens, order=order)

    @classmethod
    def stack(cls, rows: Sequence["Selection"]) -> "Selection":
        """Put selections of the same N and K into one batch; an optional field stays where all of them have it."""
        if not rows or len({(row.n_tokens, row.k) for row in rows}) != 1:
            raise SelectionError("stack needs one selection at least, all of the same n_tokens and the same count")

        def joined(name: str) -> Tensor | None:
            parts = [getattr(row, name) for row in rows]
            return None if any(part is None for part in parts) else torch.cat(parts)

        indices = torch.cat([row.indices for row in rows])
        return cls(indices, rows[0].n_tokens, joined("owner"), joined("features"), joined("order"))

    @property
    def batch(self) -> int:
        """Rows: pictures, or frames of a clip."""
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Kept tokens of each row."""
        return int(self.indices.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the indices are."""
        return self.indices.device

    def row(self, index: int) -> "Selection":
        """Return the selection of one row, as a batch of one."""
        if not -self.batch <= index < self.batch:
            raise SelectionError(f"row {index} of a batch of {self.batch}")
        rows = slice(index % self.batch, index % self.batch + 1)
        parts = [None if part is None else part[rows] for part in (self.owner, self.features, self.order)]
        return Selection(self.indices[rows], self.n_tokens, *parts)

    def split(self, frames: int) -> list["Selection"]:
        """Return the selection of each frame of a joint row (1, T*N), as a batch of one over N tokens.

        Frames may keep different counts, also none. Owners are dropped: a token may be owned by another frame's slot.
        """
        if self.batch != 1 or not isinstance(frames, int) or frames < 1 or self.n_tokens % frames:
            raise SelectionError(
                f"cannot split {self.batch} rows over {self.n_tokens} tokens into {frames} frames; expected one joint "
                "row whose tokens are a multiple of the frames"
            )
        per_frame = self.n_tokens // frames
        parts = []
        for frame in range(frames):
            first = frame * per_frame
            here = (self.indices[0] >= first) & (self.indices[0] < first + per_frame)
            order = None
            if self.order is not None:
                picked = (self.order[0] >= first) & (self.order[0] < first + per_frame)
                order = self.order[:, picked] - first
            features = None if self.features is None else self.features[:, here]
            parts.append(Selection(self.indices[:, here] - first, per_frame, None, features, order))
        return parts

    @property
    def sizes(self) -> Float[Tensor, "b k"]:
        """How many tokens each slot owns, float32; 1 where each slot stands for itself alone."""
        counts = torch.zeros((self.batch, self.k + 1), device=self.device)
        if self.owner is None:
            return counts[:, 1:] + 1.0
        # One slot more than K takes the dropped tokens, and is cut off.
        slots = torch.where(self.owner < 0, self.k, self.owner)
        return counts.scatter_add_(1, slots, torch.ones(slots.shape, device=self.device))[:, : self.k]

    def to(self, device: torch.device | str) -> "Selection":
        """Return the same selection on another device."""
        parts = [None if part is None else part.to(device) for part in (self.owner, self.features, self.order)]
        return Selection(self.indices.to(device), self.n_tokens, *parts)

    def equals(self, other: "Selection") -> bool:
        """Tell whether both selections hold the same values in every field."""
        if self.n_tokens != other.n_tokens:
            return False
        for name in ("indices", "owner", "features", "order"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if (mine is None) != (theirs is None) or (mine is not None and not torch.equal(mine, theirs)):
                return False
        return True

    def gather(self, values: Shaped[Tensor, " b *rest"]) -> Shaped[Tensor, " b *kept"]:
        """Take the kept rows of `values` (B, N, ...)."""
        self._check_rows("values", values, self.n_tokens, "N")
        return values.gather(1, widened(self.indices, values))

    def apply(self, values: Float[Tensor, " b *rest"]) -> Float[Tensor, " b *kept"]:
        """Return what enters the model instead of `values` (B, N, D): the merged features if any, else `gather`."""
        if self.features is None:
            return self.gather(values)
        self._check_rows("values", values, self.n_tokens, "N")
        if values.shape[2:] != self.features.shape[2:]:
            raise SelectionError(
                f"the merged features are {self.features.shape[2]} wide and cannot stand for values of shape "
                f"{tuple(values.shape)}; apply the selection where it was made, or use pool"
            )
        return self.features.to(values.dtype)

    def pool(self, values: Float[Tensor, " b *rest"]) -> Float[Tensor, " b *kept"]:
        """Average `values` (B, N, ...) over the tokens that each slot owns; summed in float32 at least."""
        if self.owner is None:
            return self.gather(values)
        self._check_rows("values", values, self.n_tokens, "N")
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        # One slot more than K takes the dropped tokens, and is cut off.
        slots = torch.where(self.owner < 0, self.k, self.owner)
        sums = wide.new_zeros((self.batch, self.k + 1, *values.shape[2:])).scatter_add_(1, widened(slots, wide), wide)
        means = sums[:, : self.k] / self.sizes.reshape(self.batch, self.k, *(1,) * (values.ndim - 2))
        return means.to(values.dtype)

    def expand(self, kept: Shaped[Tensor, " b *rest"], *, fill: float = 0.0) -> Shaped[Tensor, " b *all"]:
        """Copy the slots (B, K, ...) back to all tokens they own; dropped tokens get `fill`."""
        self._check_rows("kept", kept, self.k, "K")
        blank = kept.new_full((self.batch, self.n_tokens, *kept.shape[2:]), fill)
        if self.owner is None:
            return blank.scatter(1, widened(self.indices, kept), kept)
        # Slot K is a blank one that stands for everything dropped.
        padded = torch.cat([kept, blank[:, :1]], dim=1)
        return padded.gather(1, widened(torch.where(self.owner < 0, self.k, self.owner), padded))

    def scatter(self, kept: Shaped[Tensor, " b *rest"], base: Shaped[Tensor, " b *all"]) -> Shaped[Tensor, " b *all"]:
        """Write the kept rows (B, K, ...) into a copy of `base` (B, N, ...): reactivation of the frozen tokens."""
        self._check_rows("kept", kept, self.k, "K")
        self._check_rows("base", base, self.n_tokens, "N")
        if kept.shape[2:] != base.shape[2:] or kept.dtype != base.dtype:
            raise SelectionError(
                f"kept rows {tuple(kept.shape)} {kept.dtype} do not fit into base {tuple(base.shape)} {base.dtype}"
            )
        return base.scatter(1, widened(self.indices, kept), kept)

    def mask(self) -> Bool[Tensor, "b n"]:
        """Return True where a token is kept."""
        blank = torch.zeros((self.batch, self.n_tokens), dtype=torch.bool, device=self.device)
        return blank.scatter_(1, self.indices, True)

    def then(self, other: "Selection") -> "Selection":
        """Select among the kept tokens once more: `other` counts this selection's K slots as its tokens.

        Owners are followed through both; the pick order is the second one's, or this one's restricted to what is left.
        """
        if other.n_tokens != self.k or other.batch != self.batch:
            raise SelectionError(
                f"the second selection is over {other.n_tokens} tokens in {other.batch} rows; expected the "
                f"{self.k} kept tokens in {self.batch} rows of the first"
            )
        indices = self.indices.gather(1, other.indices)
        owner = None
        if self.owner is not None or other.owner is not None:
            # Token -> slot here -> slot there, with one slot more for everything dropped.
            first = self._owners()
            second = torch.nn.functional.pad(other._owners(), (0, 1), value=-1)
            owner = second.gather(1, torch.where(first < 0, self.k, first))
        features = other.features
        if features is None and self.features is not None:
            features = other.gather(self.features)
        order = None
        if other.order is not None:
            order = self.indices.gather(1, other.order)
        elif self.order is not None:
            stays = torch.zeros((self.batch, self.n_tokens), dtype=torch.bool, device=self.device)
            stays = stays.scatter_(1, indices, True).gather(1, self.order)
            order = self.order[stays].reshape(self.batch, other.k)
        return Selection(indices, self.n_tokens, owner, features, order)

    def union(self, other: "Selection") -> "Selection":
        """Keep what either selection keeps; every row must come out with the same count."""
        if other.n_tokens != self.n_tokens or other.batch != self.batch:
            raise SelectionError(
                f"cannot unite {self.batch} rows over {self.n_tokens} tokens with {other.batch} over {other.n_tokens}"
            )
        if any(part is not None for part in (self.owner, self.features, other.owner, other.features)):
            raise SelectionError("cannot unite merging selections: who represents a token would be ambiguous")
        kept = self.mask() | other.mask()
        counts = kept.sum(dim=1)
        if bool((counts != counts[0]).any()):
            raise SelectionError(f"the rows of the union keep {counts.tolist()} tokens; unite row by row instead")
        return Selection(kept.nonzero()[:, 1].reshape(self.batch, -1), self.n_tokens)

    def prefix(self, k: int) -> "Selection":
        """Keep only the first `k` picks: for a nested method this is its answer at the smaller budget."""
        if isinstance(k, bool) or not isinstance(k, int) or not 0 < k <= self.k:
            raise SelectionError(f"prefix of {k!r} tokens; expected a whole number in 1..{self.k}")
        if k == self.k:
            return self
        if self.order is None:
            raise SelectionError(
                "this selection has no pick order, so that it has no prefix; run the method at the budget"
            )
        if self.owner is not None or self.features is not None:
            raise SelectionError("a merging selection has no prefix: its slots stand for more than their own token")
        return Selection.from_order(self.order[:, :k].contiguous(), self.n_tokens)

    def to_json(self) -> dict[str, Any]:
        """Return `n_tokens`, `k`, `indices` and, if there are any, `order` and `owner` as plain lists, one per row."""
        result: dict[str, Any] = {"n_tokens": self.n_tokens, "k": self.k, "indices": self.indices.tolist()}
        for name in ("order", "owner"):
            part = getattr(self, name)
            if part is not None:
                result[name] = part.tolist()
        return result

    def _owners(self) -> Int[Tensor, "b n"]:
        """`owner`, written out where it is None."""
        if self.owner is not None:
            return self.owner
        slots = torch.arange(self.k, device=self.device).expand(self.batch, self.k)
        return self.indices.new_full((self.batch, self.n_tokens), -1).scatter_(1, self.indices, slots)

    def _check_rows(self, name: str, values: object, n_rows: int, letter: str) -> None:
        if not isinstance(values, Tensor) or values.ndim < 2 or tuple(values.shape[:2]) != (self.batch, n_rows):
            given = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise SelectionError(
                f"{name} is {given}; expected a tensor (B, {letter}, ...) = ({self.batch}, {n_rows}, ...)"
            )
        if values.device != self.device:
            raise SelectionError(
                f"{name} is on {values.device}, the selection on {self.device}; use selection.to(device)"
            )

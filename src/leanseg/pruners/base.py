"""What every token pruner is: a frozen, keyword-only dataclass with one method to write."""

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from numbers import Real
from typing import ClassVar, final

import torch

from leanseg.core import Selection, VisualTokens, keep_count
from leanseg.core.budget import check_ratio
from leanseg.errors import SelectionError, SpecError, TokensError
from leanseg.shapes import Float, Int, Tensor

# Types of fields that hold a number; as text where a file postpones its annotations.
NUMBERS = (float, float | None, "float", "float | None")


@dataclass(frozen=True, kw_only=True)
class Pruner(ABC):
    """A method that keeps some of the visual tokens. It knows nothing of any model.

    To write one: subclass as `@dataclass(frozen=True, kw_only=True)`, write `select`, optionally `check`, and state the
    facts below. `leanseg.testing.check_pruner` then tests the laws that users rely on.

    `name`: in spec strings. `cues`: fields of `VisualTokens` that must be given. `attention_from`: whose attention that
    cue is: "tower" = what each token receives, on average, in the vision layer whose output is pruned; "language" =
    what it receives from the last text token in an early layer of the language model. `paper`: where the method comes
    from; `licence`: of the public code of the idea's source; `extension`: ours, published nowhere. `merges`: kept
    tokens carry merged features or stand for others. `nested`: the picks at a small budget are the first picks at a
    larger one. `fixed_budget`: exactly `keep_count(n, keep_ratio)` tokens stay; otherwise at most so many. `scope`:
    "frame" = rows are independent; "clip" = takes one joint row (1, T*N), never frames as a batch.
    """

    name: ClassVar[str] = ""
    cues: ClassVar[tuple[str, ...]] = ()
    attention_from: ClassVar[str] = "tower"
    paper: ClassVar[str] = ""
    licence: ClassVar[str] = "no public code"
    extension: ClassVar[bool] = False
    merges: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    fixed_budget: ClassVar[bool] = True
    scope: ClassVar[str] = "frame"

    # Checked by each method's errors, which say what to do; run-time type checks would speak first.
    __no_type_check__ = True

    keep_ratio: float

    @final
    def __post_init__(self) -> None:
        for field in fields(self):
            # 2, 2.0 and numpy's 2.0 are one value, so that they make equal pruners and equal spec strings.
            value = getattr(self, field.name)
            if field.type in NUMBERS and isinstance(value, Real) and not isinstance(value, bool):
                object.__setattr__(self, field.name, float(value))
        check_ratio(self.keep_ratio)
        self.check()

    def check(self) -> None:  # noqa: B027 - a hook: most methods have nothing to check
        """Raise `SpecError` if a field's value cannot be used. Called by the constructor."""

    @final
    def _declare(self, **facts: object) -> None:
        """Set facts of this instance that depend on its fields; for use in `check`."""
        for fact, value in facts.items():
            # An attribute of the instance stands before the class's; equality and spec string read fields only.
            object.__setattr__(self, fact, value)

    def count(self, n_tokens: int) -> int:
        """Return how many of `n_tokens` stay; at most so many where the budget is not fixed."""
        return keep_count(n_tokens, self.keep_ratio)

    @abstractmethod
    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Return a selection of `k` tokens, 1 <= k < N. Call the pruner itself instead: it checks and verifies."""

    @final
    def __call__(self, tokens: VisualTokens) -> Selection:
        """Resolve the count, check the cues, select, and verify what was selected."""
        self.check_tokens(tokens)
        return self._selected(tokens, self.count(tokens.n_tokens))

    @final
    def at(self, tokens: VisualTokens, k: int) -> Selection:
        """Do the same for a count that the caller has resolved, as a stage does, which counts what is dropped."""
        self.check_tokens(tokens)
        return self._selected(tokens, k)

    def _selected(self, tokens: VisualTokens, k: int) -> Selection:
        if k >= tokens.n_tokens:
            return Selection.identity(tokens.batch, tokens.n_tokens, tokens.features.device)
        selection = self.select(tokens, k)
        self._verify(selection, tokens, k)
        return selection

    @final
    def check_tokens(self, tokens: object) -> None:
        """Raise `TokensError` if a cue is missing, or a clip method got a batch of frames."""
        if not isinstance(tokens, VisualTokens):
            raise TokensError(f"a pruner takes VisualTokens(features=..., grid=...), not {type(tokens).__name__}")
        missing = [cue for cue in self.cues if getattr(tokens, cue) is None]
        if missing:
            given = [cue for cue in ("attention", "keys", "guidance") if getattr(tokens, cue) is not None]
            raise TokensError(
                f"{self.spec()} needs {' and '.join(missing)}, and the tokens carry {' and '.join(given) or 'no cue'}; "
                f"give VisualTokens({missing[0]}=...) or choose a method without cues"
            )
        if self.scope == "clip" and tokens.batch != 1:
            raise TokensError(f"{self.spec()} takes a clip as one joint row; got a batch of {tokens.batch} frames")

    def _verify(self, selection: object, tokens: VisualTokens, k: int) -> None:
        if not isinstance(selection, Selection):
            raise SelectionError(f"{self.spec()} returned {type(selection).__name__}; select must return a Selection")
        if not self.fixed_budget and 1 <= selection.k <= k:
            k = selection.k
        expected = (tokens.batch, k, tokens.n_tokens, tokens.features.device)
        returned = (selection.batch, selection.k, selection.n_tokens, selection.device)
        if returned != expected:
            raise SelectionError(f"{self.spec()} returned (rows, kept, of, device) = {returned}; expected {expected}")

    @final
    def spec(self) -> str:
        """Return the one-line spec string that makes this pruner again: fields that differ from their defaults.

        A field declared with `repr=False`, such as a learned module, has no text and is left out.

        >>> from leanseg.pruners import EVTP
        >>> EVTP(keep_ratio=0.2, tau=2.0).spec()
        'evtp(keep_ratio=0.2, tau=2.0)'
        """
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if not field.repr:
                continue
            if field.default is MISSING or value != field.default:
                parts.append(f"{field.name}={value.spec() if isinstance(value, Pruner) else repr(value)}")
        name = self.name or type(self).__name__
        return f"{name}({', '.join(parts)})" if parts else name


@dataclass(frozen=True, kw_only=True)
class ScorePruner(Pruner):
    """A method that scores each token by itself and keeps the best; nested by nature."""

    nested: ClassVar[bool] = True

    @abstractmethod
    def score(self, tokens: VisualTokens) -> Float[Tensor, "b n"]:
        """Return one score per token; the highest stay, the lowest index first among equals."""

    @final
    def select(self, tokens: VisualTokens, k: int) -> Selection:
        """Keep the `k` highest scores of each row."""
        return self.best(self.score(tokens), tokens, k)

    @final
    def best(self, scores: Float[Tensor, "b n"], tokens: VisualTokens, k: int) -> Selection:
        """Keep the `k` highest of scores that were made of `tokens`; refuse scores of another shape, NaN, infinity."""
        if tuple(scores.shape) != (tokens.batch, tokens.n_tokens):
            raise SelectionError(
                f"{self.spec()} scored {tuple(scores.shape)}; expected {(tokens.batch, tokens.n_tokens)}"
            )
        if not bool(torch.isfinite(scores).all()):
            raise SelectionError(f"{self.spec()} gave scores that are NaN or infinite")
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        return Selection.from_order(order.contiguous(), tokens.n_tokens)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Pruner):
    """A method that holds other pruners as fields, and decides the count itself: their own keep ratios do not matter.

    Cues, scope and the attention's origin are those of the pruners inside; `check_options` is the place for checks.
    """

    @final
    def check(self) -> None:
        """Check that the pruners inside are pruners and go together, and declare what they need."""
        inner = self.inner_pruners()
        origins = {each.attention_from for each in inner if "attention" in each.cues}
        if len(origins) > 1:
            specs = " and ".join(each.spec() for each in inner)
            raise SpecError(f"{specs} read the attention of different models, and tokens carry one; choose others")
        self._declare(
            cues=tuple(dict.fromkeys(cue for each in inner for cue in each.cues)),
            attention_from=origins.pop() if origins else "tower",
            scope="clip" if any(each.scope == "clip" for each in inner) else self.scope,
        )
        self.check_options()

    def check_options(self) -> None:
        """Raise `SpecError` if an option cannot be used, and declare further facts of this instance."""

    @final
    def inner_pruners(self) -> tuple[Pruner, ...]:
        """Return the pruners inside, in the order of the fields."""
        held = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Pruner):
                held.append(value)
            elif field.type in (Pruner, "Pruner"):
                raise SpecError(
                    f"{field.name} of {self.name or type(self).__name__} is {value!r}; it must be a pruner: "
                    "evtp(keep_ratio=0.2) in a spec string, EVTP(keep_ratio=0.2) in Python"
                )
        return tuple(held)


def picks(inner: Pruner, tokens: VisualTokens, k: int) -> Int[Tensor, "b k"]:
    """Return the `k` tokens that `inner` keeps, in the order of picking, or of the raster where it has none."""
    if k >= tokens.n_tokens:
        return Selection.identity(tokens.batch, tokens.n_tokens, tokens.features.device).indices
    selection = inner.select(tokens, k)
    return selection.indices if selection.order is None else selection.order

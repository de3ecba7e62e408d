"""Pruning the visual tokens of any Hugging Face vision-language model for as long as a `with` lasts."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn

from leanseg.errors import AttachError, unknown_name
from leanseg.hf.choosing import Chooser
from leanseg.hf.cues import language_attention, last_tokens, real_tokens
from leanseg.hf.layouts import Layout, find
from leanseg.hf.masks import check_can_be_biased
from leanseg.hf.recorder import Recorder, arguments
from leanseg.hf.shortening import Shortening
from leanseg.hf.steps import Prefilled
from leanseg.hf.trace import Trace
from leanseg.pruners import Pruner
from leanseg.pruners import pruner as parse
from leanseg.shapes import Bool, Float, Tensor

POSITIONS = ("original", "compact")
SITES = ("after_projector", "before_projector")
_ATTACHED: WeakSet[nn.Module] = WeakSet()


@contextmanager
def attach(
    model: nn.Module,
    pruner: Pruner | str,
    *,
    positions: str = "original",
    site: str = "after_projector",
    language_layer: int = 2,
    mass_preserving: bool = False,
    layout: Layout | None = None,
) -> Iterator[Trace]:
    """Prune what `model` sees while the `with` lasts: `generate` and `forward` run with fewer visual tokens.

    `pruner`: a spec string or a `Pruner`. `positions`: kept tokens keep their "original" position ids (grounding needs
    them), or are numbered anew, "compact". `site`: the pruner looks at the projected features, or at the tower's
    ("before_projector"). `language_layer`: the decoder layer that is asked for attention by methods that rank tokens by
    the language model's. `mass_preserving` (ours, not a published method): the log of how many tokens each kept one
    stands for is added to its attention logits. `layout`: the table's row of a model that is not in
    `leanseg.hf.LAYOUTS`.

    Yields a `Trace` of the last pruned pass. Logits have the pruned length: `trace.gather(labels)` brings labels to it.
    Where nothing is dropped the model runs exactly as without us; so do passes without pictures.

    Everything is taken away at the end, also after an exception. A model can be attached once at a time; it must not be
    called from several threads meanwhile, and the same `with` is not entered twice.
    """
    __tracebackhide__ = True
    for name, value, known in (("positions", positions, POSITIONS), ("site", site, SITES)):
        if value not in known:
            raise AttachError(unknown_name(f"value of {name}", str(value), known))
    made = parse(pruner) if isinstance(pruner, str) else pruner
    if not isinstance(made, Pruner):
        raise AttachError(f"the pruner is {type(made).__name__}; expected a Pruner or a spec as 'evtp(keep_ratio=0.2)'")
    row, base = find(model, layout)
    if row.many_axes and positions == "compact":
        raise AttachError(
            f"{row.model_type!r} numbers its visual tokens by time, height and width, and text after them by the "
            "largest of these; numbering anew would move tokens on the picture. Use positions='original'"
        )
    if base in _ATTACHED:
        raise AttachError(f"a pruner is attached to this {type(base).__name__} already; leave the other `with` first")
    language = row.part(base, "language")
    if mass_preserving:
        check_can_be_biased(language.config)
    session = _Session(row, base, Trace(made, positions, site), language_layer, mass_preserving)
    with ExitStack() as stack:
        _ATTACHED.add(base)
        stack.callback(_ATTACHED.discard, base)
        session.install(stack, model)
        yield session.trace


class _Session:
    """The hooks of one `with`, and what they tell each other within a pass."""

    def __init__(
        self,
        layout: Layout,
        base: Any,
        trace: Trace,
        language_layer: int,
        mass: bool,
    ) -> None:
        self.layout = layout
        self.base = base
        self.trace = trace
        self.pruner = trace.pruner
        self.language_layer = language_layer
        self.mass = mass
        self.recorder = Recorder(layout, base, trace.pruner, trace.site)
        self.chooser = Chooser(self.recorder, trace.pruner, trace.site, mass=mass)
        self.caches: WeakKeyDictionary[Any, Prefilled] = WeakKeyDictionary()
        self.visual: dict[str, Bool[Tensor, "b length"]] | None = None
        self.prefilled: Prefilled | None = None
        self.has_labels = False
        self.is_asking = False

    def install(self, stack: ExitStack, model: nn.Module) -> None:
        language = self.layout.part(self.base, "language")
        self.recorder.install(stack)
        hooks = [
            self.base.register_forward_pre_hook(self._outer_runs, with_kwargs=True),
            language.register_forward_pre_hook(self._language_runs, with_kwargs=True),
            language.register_forward_hook(self._language_ran, with_kwargs=True),
        ]
        if model is not self.base:
            hooks.append(model.register_forward_pre_hook(self._model_runs, with_kwargs=True))
        for hook in hooks:
            stack.callback(hook.remove)

    def _model_runs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.has_labels = arguments(module, args, kwargs).get("labels") is not None

    def _outer_runs(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        given = arguments(module, args, kwargs)
        self.visual = self.prefilled = None
        cache = given.get("past_key_values")
        cached = 0 if cache is None else int(cache.get_seq_length())
        visual = self._placeholders(given) if _has_pictures(given) else {}
        if cached and visual:
            raise AttachError(
                f"the cache holds {cached} positions and this call brings pictures; begin a turn with new pictures "
                "without the cache (and without prefill_chunk_size)"
            )
        if cached:
            known = self.caches.get(cache)
            return None if known is None else ((), _accepted(module, known.step(given, cached)))
        self.visual = visual or None
        return None

    def _placeholders(self, given: Mapping[str, Any]) -> dict[str, Bool[Tensor, "b length"]]:
        """Return where the pictures' and clips' positions are, those that occur."""
        found = {}
        for kind, name in (("image", self.layout.image_token), ("video", self.layout.video_token)):
            token = getattr(self.base.config, name, None)
            if token is None or (kind == "video" and self.layout.videos is None):
                continue
            if given.get("input_ids") is not None:
                mask = given["input_ids"] == token
            else:
                embeds = given["inputs_embeds"]
                embedded = self.base.get_input_embeddings()(torch.tensor(token, device=embeds.device))
                mask = (embeds == embedded.to(embeds.dtype)).all(dim=-1)
            if bool(mask.any()):
                found[kind] = mask
        return found

    def _language_runs(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.is_asking or self.visual is None:
            return None
        visual, self.visual = self.visual, None
        given = arguments(module, args, kwargs)
        embeds = given["inputs_embeds"]
        visual = {kind: mask.to(embeds.device) for kind, mask in visual.items()}
        batch, length = embeds.shape[:2]
        real = real_tokens(given.get("attention_mask"), batch, length, embeds.device)
        started = time.perf_counter()
        chosen = self.chooser.choose(
            embeds, visual, self._guidance(embeds, real, visual), self._attention(module, given)
        )
        trace = self.trace
        trace.selection_ms = 1000.0 * (time.perf_counter() - started)
        trace.n_passes += 1
        trace.items = [one.item for one in chosen]
        trace.length_before = length
        short = Shortening.of(chosen, embeds, real, renumber=trace.positions == "compact", mass=self.mass)
        if short is None:
            trace.kept = torch.arange(length, device=embeds.device).expand(batch, -1)
            trace.length_after = length
            return None
        self._check_pass(module, given)
        new, self.prefilled = short.apply(given)
        trace.kept, trace.length_after = short.kept, int(short.kept.shape[1])
        return (), new

    def _check_pass(self, language: nn.Module, given: Mapping[str, Any]) -> None:
        """Refuse what cannot be shortened, before anything is."""
        if self.has_labels:
            raise AttachError(
                "labels have the unpruned length; run without them, and compute the loss from the logits and "
                "trace.gather(labels)"
            )
        if getattr(given.get("past_key_values"), "is_compileable", False):
            raise AttachError("a cache of fixed size (static, compiled) cannot be pruned: use a dynamic one")
        window = getattr(language.config, "sliding_window", None)
        masks, length = given.get("attention_mask"), self.trace.length_before
        if isinstance(masks, Mapping) and "sliding_attention" in masks and window is not None and length > window:
            raise AttachError(
                f"the prompt's {length} positions exceed the sliding window of {window}, within which the masks of "
                f"{self.layout.model_type!r} can be shortened; use a shorter prompt"
            )

    def _guidance(
        self, embeds: Float[Tensor, "b length d"], real: Tensor, visual: Mapping[str, Tensor]
    ) -> Float[Tensor, "b d"] | None:
        """The mean of each row's text embeddings, for methods that ask for guidance."""
        if "guidance" not in self.pruner.cues:
            return None
        text = real.clone()
        for mask in visual.values():
            text &= ~mask
        if not bool(text.any(dim=1).all()):
            raise AttachError(f"{self.pruner.spec()} is guided by the text, and a row has none; add an instruction")
        total = (embeds.detach().float() * text[..., None]).sum(dim=1)
        return (total / text.sum(dim=1, keepdim=True)).to(embeds.dtype)

    def _attention(self, language: nn.Module, given: Mapping[str, Any]) -> Float[Tensor, "b length"] | None:
        if "attention" not in self.pruner.cues or self.pruner.attention_from != "language":
            return None
        embeds, mask = given["inputs_embeds"], given.get("attention_mask")
        queries = last_tokens(mask, embeds.shape[0], embeds.shape[1], embeds.device)
        self.is_asking = True
        try:
            return language_attention(language, self.language_layer, given, queries=queries)
        finally:
            self.is_asking = False

    def _language_ran(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Remember a cache that was filled with a shortened sequence."""
        if self.is_asking or self.prefilled is None:
            return
        cache = getattr(output, "past_key_values", None)
        cache = kwargs.get("past_key_values") if cache is None else cache
        if cache is not None:
            self.caches[cache] = self.prefilled
        self.prefilled = None


def _accepted(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a cached step; the model must take what pruning changes."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = {parameter.name for parameter in parameters}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name in ("attention_mask", "position_ids"):
        if name not in names and not takes_any:
            raise AttachError(
                f"{type(module).__name__}.forward does not take {name}, which cached steps after pruning need; let it "
                "take attention_mask and position_ids and hand them to its language model, or run without a cache"
            )
    return given


def _has_pictures(given: Mapping[str, Any]) -> bool:
    """Tell whether a call brings pixels or encoded pictures; placeholders alone are text."""
    return any(
        value is not None and (not isinstance(value, Mapping) or value)
        for name, value in given.items()
        if name.startswith("pixel_values") or name == "mm_encoder_outputs"
    )
